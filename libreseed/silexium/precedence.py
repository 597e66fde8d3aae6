"""SemVer 2.0.0 precedence as bytes: ``rank(a) < rank(b)`` exactly when a comes before b (SemVer, clause 11).

So that a database can find the newest version by an index. Build metadata does not count: two versions that differ in
it alone have one rank.
"""

from __future__ import annotations

from libreseed.ids import Version

__all__ = ["rank"]

_END, _NUMBER, _TEXT, _RELEASE = b"\x00", b"\x01", b"\x02", b"\x03"


def rank(version: Version) -> bytes:
    """The sort key of ``version``; at most some 200 bytes, because versions have at most 64 characters."""
    text = version.text.partition("+")[0]
    core, dash, prerelease = text.partition("-")
    key = b"".join(_number(part) for part in core.split("."))
    if not dash:
        return key + _RELEASE
    # Fewer identifiers come first when all that there are are equal: the end is the least byte.
    return key + b"".join(_identifier(part) for part in prerelease.split(".")) + _END


def _number(digits: str) -> bytes:
    """Digits without leading zeros order by their count, then by themselves."""
    return bytes([len(digits)]) + digits.encode("ascii")


def _identifier(text: str) -> bytes:
    """Numbers come before texts, and texts order as ASCII, a shorter one first."""
    return _NUMBER + _number(text) if text.isdecimal() else _TEXT + text.encode("ascii") + _END
