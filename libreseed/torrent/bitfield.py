"""BEP 3 bitfields: which pieces somebody has, one bit each, the highest bit of the first byte being piece 0.

Invariant: a bitfield of ``count`` pieces is ``ceil(count / 8)`` bytes long and its spare bits are zero (BEP 3 drops a
peer that sets one). Says nothing about what the pieces hold. Specification: docs/specification/swarm.md, "Bitfields".
"""

from __future__ import annotations

from collections.abc import Iterable

from libreseed.errors import ContentRejected

__all__ = ["pack_bitfield", "unpack_bitfield"]

_BITS = tuple(tuple(bool(byte >> (7 - bit) & 1) for bit in range(8)) for byte in range(256))


def pack_bitfield(flags: Iterable[bool]) -> bytes:
    """The bitfield in which bit ``i`` says whether ``flags[i]`` holds."""
    digits = "".join("1" if flag else "0" for flag in flags)
    size = -(-len(digits) // 8)
    return int(digits.ljust(size * 8, "0") or "0", 2).to_bytes(size, "big")


def unpack_bitfield(data: bytes, count: int) -> list[bool]:
    """One flag per piece; raises ``torrent.bitfield`` unless ``data`` is exactly a bitfield of ``count`` pieces."""
    if len(data) != -(-count // 8):
        raise ContentRejected("torrent.bitfield", f"{len(data)} bytes of bitfield for {count} pieces")
    flags = [flag for byte in data for flag in _BITS[byte]]
    if any(flags[count:]):
        raise ContentRejected("torrent.bitfield", "a spare bit of the bitfield is set")
    return flags[:count]
