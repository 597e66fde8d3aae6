"""What the user asked for: one exact release, by whom, and how strictly (step 1 of ``docs/specification/resolver.md``).

A request is a value; reading it from a command line is the service's matter. Nothing here looks at the network, the
store or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from libreseed.errors import Malformed, UsageFault
from libreseed.ids import PackageName, PublicKey, ReleaseId

__all__ = ["Request", "parse_key", "parse_name", "parse_release"]


@dataclass(frozen=True, slots=True)
class Request:
    """One release to resolve.

    ``publisher`` is the key that the user named for this run (``--publisher``), which outranks every pin.
    ``without_silexium`` is the user's explicit word that step 10 may be left out; it is never a default.
    ``named_store`` is what a pin for this run has to name with ``--store``; None where the usual store is used.
    """

    release: ReleaseId
    publisher: PublicKey | None = None
    without_silexium: bool = False
    offline: bool = False
    named_store: str | None = None


def parse_release(text: str) -> ReleaseId:
    """Read ``name@version``; raises :class:`UsageFault` with an example, since a person typed it."""
    try:
        return ReleaseId.parse(text)
    except Malformed as error:
        raise UsageFault(
            "usage", f"not a release, name@version such as left-pad@1.3.0: {text!r:.80} ({error})"
        ) from error


def parse_key(text: str) -> PublicKey:
    """Read a publisher's key as a person typed it; raises :class:`UsageFault`."""
    try:
        return PublicKey.parse(text)
    except Malformed as error:
        raise UsageFault("usage", f"not a publisher key, ed25519:<base64 of 32 bytes>: {text!r:.80}") from error


def parse_name(text: str) -> PackageName:
    """Read a package name as a person typed it; raises :class:`UsageFault`."""
    try:
        return PackageName(text)
    except Malformed as error:
        raise UsageFault("usage", error.message) from error
