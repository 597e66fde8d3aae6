"""Moments in Silexium's documents: ``YYYY-MM-DDTHH:MM:SSZ`` as text, seconds of the Unix epoch as numbers.

One spelling per moment, UTC, whole seconds, no leap second. There is no clock here. Specification: ``silexium.md``, 1.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from libreseed.errors import Malformed

__all__ = ["LAST_INSTANT", "format_instant", "parse_instant"]

LAST_INSTANT = 253402300799  # 9999-12-31T23:59:59Z

_INSTANT = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z", re.ASCII)


def parse_instant(text: object) -> int:
    """Read ``YYYY-MM-DDTHH:MM:SSZ`` from 1970 on; raises :class:`Malformed` (``encoding.range``)."""
    match = _INSTANT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Malformed("encoding.range", f"expected YYYY-MM-DDTHH:MM:SSZ, got {text!r:.60}")
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        instant = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise Malformed("encoding.range", f"no such moment: {text}") from error
    if year < 1970:
        raise Malformed("encoding.range", f"before 1970: {text}")
    return int(instant.timestamp())


def format_instant(seconds: int) -> str:
    """The text of a moment; raises :class:`Malformed` outside 1970..9999."""
    if not 0 <= seconds <= LAST_INSTANT:
        raise Malformed("encoding.range", f"{seconds} seconds are outside the years 1970 to 9999")
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
