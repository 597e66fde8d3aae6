"""Canonical codes and their 128-byte tables (section 3.9), many at once.

A table holds 256 code lengths of 4 bits: symbol ``2i`` in the low nibble of byte ``i``, 0 = absent. Codes are assigned
as RFC 1951 does; seen as fractions they are the running sum of ``2**-length`` over the symbols by length and value, so
one cumulative sum assigns them all. A code is complete (the sum is exactly 1) or a single symbol of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from libreseed import limits
from libreseed.errors import ContentRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Codes", "assign_codes", "check_table", "pack_tables", "table_codes", "unpack_tables"]

_BITS = limits.CODE_BITS
_TABLE = limits.CODE_TABLE_BYTES
_WHOLE = 1 << _BITS


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of many blocks, a row each, symbols ordered by length and value; absent ones last, with length 16.

    ``symbols``, ``lengths`` and ``starts`` (the code's bits, filled with zeros to 15) are (rows, 256); ``sound`` says
    which rows are codes at all.
    """

    symbols: NDArray[np.int64]
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]
    sound: NDArray[np.bool_]

    @property
    def shares(self) -> NDArray[np.int64]:
        """How many of the 2**15 combinations of 15 bits begin with each code; 0 for absent ones."""
        return _WHOLE >> self.lengths

    def entries(self) -> NDArray[np.uint32]:
        """``code << 4 | length`` by symbol, (rows, 256); 0 for absent ones."""
        values = np.where(self.lengths <= _BITS, self.starts >> (_BITS - self.lengths) << 4 | self.lengths, 0)
        entries = np.zeros(values.shape, np.uint32)
        np.put_along_axis(entries, self.symbols, values.astype(np.uint32), axis=1)
        return entries


def assign_codes(lengths: NDArray[np.uint8]) -> Codes:
    """The canonical codes for rows of 256 code lengths."""
    keys = np.where(lengths == 0, _BITS + 1, lengths).astype(np.uint16) << 8 | np.arange(256, dtype=np.uint16)
    keys.sort(axis=1)
    symbols, ordered = (keys & 255).astype(np.int64), (keys >> 8).astype(np.int64)
    shares = _WHOLE >> ordered
    ends = shares.cumsum(axis=1)
    alone = (ordered[:, 0] == 1) & (ordered[:, 1] > _BITS)
    return Codes(symbols, ordered, ends - shares, (ends[:, -1] == _WHOLE) | alone)


def pack_tables(lengths: NDArray[np.uint8]) -> list[bytes]:
    """The 128-byte tables for rows of 256 code lengths."""
    packed = lengths[:, 0::2] | lengths[:, 1::2] << 4
    return [row.tobytes() for row in packed]


def unpack_tables(tables: Sequence[bytes]) -> NDArray[np.uint8]:
    """The 256 code lengths of each of the 128-byte ``tables``."""
    packed: NDArray[Any] = np.frombuffer(b"".join(tables), np.uint8).reshape(len(tables), _TABLE)
    lengths = np.empty((len(tables), 256), np.uint8)
    lengths[:, 0::2] = packed & 15
    lengths[:, 1::2] = packed >> 4
    return lengths


def check_table(table: bytes) -> bytes:
    """Return ``table`` if it is a code; raises :class:`ContentRejected` (``auraseal.huffman-table``) otherwise."""
    if len(table) != _TABLE or not assign_codes(unpack_tables([table])).sound[0]:
        raise ContentRejected("auraseal.huffman-table", "the code lengths are not those of a complete prefix code")
    return table


def table_codes(table: bytes) -> dict[int, str]:
    """The code of each symbol as a text of binary digits; raises as :func:`check_table` does."""
    entries = assign_codes(unpack_tables([check_table(table)])).entries()[0]
    return {symbol: f"{entry >> 4:0{entry & 15}b}" for symbol, entry in enumerate(entries.tolist()) if entry}
