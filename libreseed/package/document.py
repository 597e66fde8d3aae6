"""How the parsers of signed documents report what section 3.1's reader and the strict verifier refuse.

A fault of the encoding (``encoding.type``) becomes the same fault of the document (``manifest.type``), so that a reason
code names the document that is wrong. Nothing is decided here. Specification: ``package.md``, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from libreseed import wire
from libreseed.errors import LibreSeedError, Malformed

__all__ = ["PROTOCOL", "rejecting", "require_count", "require_protocol", "require_text"]

PROTOCOL = "libreseed-v1"


@contextmanager
def rejecting(error: type[LibreSeedError], area: str, fault: str | None = None) -> Iterator[None]:
    """Raise a :class:`Malformed` from the body as ``error`` with reason ``area.fault``.

    Without ``fault`` the encoding's own name for it is kept; the body must not verify signatures then.
    """
    try:
        yield
    except Malformed as flaw:
        name = fault if fault is not None else flaw.reason.partition(".")[2]
        raise error(f"{area}.{name}", f"{area}: {flaw.message}", evidence=flaw.evidence) from flaw


def require_protocol(members: dict[str, wire.JsonValue], error: type[LibreSeedError], area: str) -> None:
    """Demand ``protocol`` "libreseed-v1"; any other text is a document of another kind."""
    if members["protocol"] != PROTOCOL:
        raise error(f"{area}.protocol", f"{area}: protocol {members['protocol']!r:.60} where {PROTOCOL!r} is expected")


def require_text(value: wire.JsonValue, member: str) -> str:
    """Demand a text; raises :class:`Malformed`."""
    if type(value) is not str:
        raise Malformed("encoding.type", f"{member} is not a text")
    return value


def require_count(value: wire.JsonValue, member: str, *, least: int, most: int) -> int:
    """Demand an integer in ``least..most`` (a boolean is none); raises :class:`Malformed`."""
    if type(value) is not int:
        raise Malformed("encoding.type", f"{member} is not an integer")
    if not least <= value <= most:
        raise Malformed("encoding.range", f"{member} is {value}, outside {least}..{most}")
    return value
