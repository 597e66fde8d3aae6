"""Rules out keys that an index does not have, in a fixed piece of memory: a bit for each, found by the key's own bits.

Keys are the fronts of hashes, so their bits are as good as random. A key that was added is never ruled out; of others
it rules out all but n / 2^25, for n keys added (3 % of them for a million, 26 % for ten). Specification:
``silexium-log.md``, 2.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["KeyFilter"]

_BYTES = 2**22


class KeyFilter:
    """A set of 64-bit keys that knows only who is surely not in it. For one task."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(_BYTES)

    def add(self, keys: Iterable[int]) -> None:
        """Never rule these out."""
        bits, mask = self._bits, _BYTES - 1
        for key in keys:
            bits[key >> 3 & mask] |= 1 << (key & 7)

    def among(self, keys: Iterable[int]) -> list[int]:
        """Those of the keys that are not ruled out."""
        bits, mask = self._bits, _BYTES - 1
        return [key for key in keys if bits[key >> 3 & mask] >> (key & 7) & 1]
