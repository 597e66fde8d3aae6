"""Working memory for neighbouring stripes: which runs of the .tgz to read where, so that they can be coded in place.

Chunks are interleaved, so a stripe is scattered over the file; but row ``r`` of neighbouring stripes is one run. A
:class:`StripeWindow` holds as many stripes as its memory allows, each as ``k`` chunks end to end, and says for every
row which run to read and into which places (one scattering read). The parity of a window is one run of the ``.parity``
file. Windows do not depend on each other: threads with a window each may take groups in any order. Nothing here reads
or writes (``libreseed.adapters`` does), and memory is bounded whatever the size of the .tgz.
"""

from __future__ import annotations

from libreseed import limits
from libreseed.repair.grid import ChunkGrid
from libreseed.repair.stripes import stripe_coder

__all__ = ["StripeWindow", "group_starts"]

_CHUNK = limits.CHUNK_BYTES


def group_starts(grid: ChunkGrid, memory: int = limits.REPAIR_WINDOW_BYTES) -> range:
    """The first stripe of each group that windows of ``memory`` bytes hold; together the groups cover all stripes."""
    return range(0, grid.s, _width(grid, memory))


def _width(grid: ChunkGrid, memory: int) -> int:
    return max(1, min(grid.s, limits.SCATTERED_READS, memory // (grid.k * _CHUNK)))


class StripeWindow:
    """Memory for up to ``width`` neighbouring stripes of a package with ``m`` parity rows; owned by one thread.

    :meth:`move` it to a group of stripes, fill the places that :meth:`row` gives, then use :meth:`stripe`.
    """

    def __init__(self, grid: ChunkGrid, m: int, memory: int = limits.REPAIR_WINDOW_BYTES) -> None:
        self.grid = grid
        self.m = m
        self.width = _width(grid, memory)
        self.first = 0
        self.count = self.width
        self._stripe_bytes = grid.k * _CHUNK
        self._memory = memoryview(bytearray(self.width * self._stripe_bytes))

    def move(self, first: int) -> None:
        """Stand for the group of stripes that begins with ``first``; virtual and short chunks become zeros."""
        self.first = first
        self.count = min(self.width, self.grid.s - first)
        last = self.grid.k - 1
        for at in range(self.count):
            if (last * self.grid.s + first + at + 1) * _CHUNK > self.grid.size:
                self.place(at, last)[:] = bytes(_CHUNK)

    def stripes(self) -> range:
        """The stripes of the group."""
        return range(self.first, self.first + self.count)

    def chunks(self, row: int) -> range:
        """The data chunks of one row of the group: neighbours in the file. Empty if they are all virtual."""
        start = row * self.grid.s + self.first
        return range(start, max(start, min(start + self.count, self.grid.n)))

    def places(self, row: int) -> list[memoryview]:
        """Where the chunks of :meth:`chunks` go, in order; the file's last chunk has its true length."""
        chunks = self.chunks(row)
        found = [self.place(at, row) for at in range(len(chunks))]
        if chunks.stop == self.grid.n and found:
            found[-1] = found[-1][: self.grid.chunk(self.grid.n - 1)[1]]
        return found

    def place(self, at: int, row: int) -> memoryview:
        """The 5120 bytes for row ``row`` of the group's stripe number ``at``."""
        start = at * self._stripe_bytes + row * _CHUNK
        return self._memory[start : start + _CHUNK]

    def stripe(self, at: int) -> memoryview:
        """The ``k`` chunks of the group's stripe number ``at``, end to end."""
        return self._memory[at * self._stripe_bytes : (at + 1) * self._stripe_bytes]

    def parity(self) -> bytearray:
        """The parity of the whole group as it stands in the ``.parity`` file from :attr:`parity_offset` on."""
        coder = stripe_coder(self.grid.k, self.m)
        size = self.m * _CHUNK
        result = bytearray(self.count * size)
        with memoryview(result) as view:
            for at in range(self.count):
                coder.encode_into(self.stripe(at), view[at * size : (at + 1) * size])
        return result

    @property
    def parity_offset(self) -> int:
        """Where the group's parity begins in the ``.parity`` file, in bytes."""
        return self.first * self.m * _CHUNK
