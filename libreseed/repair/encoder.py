"""Parity of a whole .tgz in bounded memory: which runs to read, and what to write, group of stripes by group.

Chunks are interleaved, so a stripe is scattered over the file, but row ``r`` of neighbouring stripes is one run. A
:class:`StripeGroup` is as many neighbouring stripes as the memory budget allows; its ``reads`` are one run per row, its
parity one run of the ``.parity`` file. Groups do not depend on each other: threads may take them in any order. Nothing
here reads or writes (``libreseed.adapters.parity_file`` does).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.repair.grid import ChunkGrid
from libreseed.repair.stripes import encode_rows

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["StripeGroup", "stripe_groups"]

_CHUNK = limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class StripeGroup:
    """The neighbouring stripes ``first .. first + count - 1`` of a package with ``m`` parity rows."""

    grid: ChunkGrid
    m: int
    first: int
    count: int

    @property
    def row_bytes(self) -> int:
        """The length of one row of the group, virtual and short chunks filled up with zeros."""
        return self.count * _CHUNK

    def read(self, row: int) -> tuple[int, int]:
        """Offset and length in the .tgz of row ``row``; what is shorter than ``row_bytes`` is zeros at the end."""
        offset = (row * self.grid.s + self.first) * _CHUNK
        return offset, max(0, min(self.row_bytes, self.grid.size - offset))

    @property
    def parity_offset(self) -> int:
        """Where the group's parity begins in the ``.parity`` file, in bytes."""
        return self.first * self.m * _CHUNK

    def encode(self, rows: Sequence[Buffer]) -> bytes:
        """The group's parity, in file order (stripe by stripe), from its ``k`` rows of ``row_bytes`` each."""
        parity = [memoryview(block) for block in encode_rows(rows, self.m)]
        starts = range(0, self.row_bytes, _CHUNK)
        return b"".join([block[at : at + _CHUNK] for at in starts for block in parity])


def stripe_groups(grid: ChunkGrid, m: int, memory: int) -> Iterator[StripeGroup]:
    """All stripes of the grid in groups whose rows take at most ``memory`` bytes (at least one stripe each)."""
    count = max(1, min(grid.s, memory // (grid.k * _CHUNK)))
    for first in range(0, grid.s, count):
        yield StripeGroup(grid, m, first, min(count, grid.s - first))
