"""Which bytes of a representation a request wants: ``Range``, ``If-Range`` and preconditions (RFC 9110), as values.

A range header of another unit or form is ignored, as section 14.2 allows: the answer is then whole. One that is
well-formed but cannot or should not be satisfied (beyond the end, too many ranges, overlapping ones, which multiply
what is sent) is refused with 416. Weak validators never match a range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from libreseed import limits

__all__ = ["Selection", "Span", "Unsatisfiable", "not_modified", "precondition_fails", "select"]

Span = tuple[int, int]  # from the first byte up to, without, the second
_SPEC = re.compile(r"(?:([0-9]+)-([0-9]*)|-([0-9]+))", re.ASCII)  # as many digits as HTTP_RANGE_CHARS leaves room for
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


class Unsatisfiable(Exception):
    """The ranges asked for are not to be had: 416."""


@dataclass(frozen=True, slots=True)
class Selection:
    """``spans`` to send, ascending and apart; None for the whole."""

    spans: tuple[Span, ...] | None


def select(headers: Mapping[str, str], size: int, etag: str) -> Selection:
    """What a GET with ``headers`` (lower-case names) wants of ``size`` bytes; raises :class:`Unsatisfiable`."""
    value = headers.get("range", "")
    if not value or headers.get("if-range", etag) != etag:
        return Selection(None)
    unit, equals, ranges = value.partition("=")
    if unit.strip().lower() != "bytes" or not equals or len(ranges) > limits.HTTP_RANGE_CHARS:
        return Selection(None)
    specs = [_SPEC.fullmatch(spec.strip()) for spec in ranges.split(",") if spec.strip()]
    if not specs or None in specs:
        return Selection(None)
    if len(specs) > limits.HTTP_RANGES:
        raise Unsatisfiable
    found = sorted(span for spec in specs if spec is not None and (span := _span(spec, size)) is not None)
    if not found or any(later[0] < earlier[1] for earlier, later in pairwise(found)):
        raise Unsatisfiable
    return Selection(tuple(found))


def _span(spec: re.Match[str], size: int) -> Span | None:
    """The bytes that one range means; None when it has none of them."""
    first, last, suffix = spec.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    return (start, stop) if start < stop else None


def precondition_fails(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-Match`` names another representation: 412."""
    value = headers.get("if-match")
    return value is not None and value.strip() != "*" and etag not in _tags(value)


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-None-Match`` says that the client has it already: 304. Compared weakly, as section 13.1.2 says."""
    value = headers.get("if-none-match")
    if value is None:
        return False
    return value.strip() == "*" or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in _tags(value)}


def _tags(value: str) -> list[str]:
    return _TAG.findall(value)
