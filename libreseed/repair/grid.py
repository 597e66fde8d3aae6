"""The chunk grid of section 3.6: how a .tgz of a given size is cut into chunks, stripes and rows.

Everything here follows from the size alone; only the number of parity rows ``m`` is free, above :attr:`least_m`.
Chunk ``i`` is row ``i // s`` of stripe ``i % s``, so that neighbours in the file lie in different stripes and row ``r``
of the stripes ``a..b`` is one contiguous run of the file. Only the last row can have absent (virtual, zero) chunks.

Parity chunk ``j`` of the ``.parity`` file is row ``j % m`` of stripe ``j // m``. Nothing here reads, hashes or codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libreseed import limits
from libreseed.errors import ContentRejected

__all__ = ["ChunkGrid"]

_CHUNK = limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """The shape of a .tgz of ``size`` bytes; raises :class:`ContentRejected` (``chunkmap.size``) if it has none.

    ``n`` data chunks in ``s`` stripes of ``k`` rows each; ``least_m`` parity rows make coherence 0.954 sufficient.
    """

    size: int
    n: int = field(init=False)
    s: int = field(init=False)
    k: int = field(init=False)
    least_m: int = field(init=False)

    def __post_init__(self) -> None:
        n = -(-self.size // _CHUNK)
        if not 1 <= n <= limits.CHUNKS:
            raise ContentRejected("chunkmap.size", f"a package of {self.size} bytes has no chunk grid")
        s = -(-n // limits.STRIPE_DATA_ROWS)
        k = -(-n // s)
        num, den = limits.COHERENCE_NUM, limits.COHERENCE_DEN
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "s", s)
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "least_m", max(1, -(-k * (den - num) // num)))

    # --- data chunks -----------------------------------------------------------------------------------------------

    def chunk(self, i: int) -> tuple[int, int]:
        """Offset and length in bytes of data chunk ``i`` in the .tgz; raises ``IndexError``."""
        if not 0 <= i < self.n:
            raise IndexError(f"chunk {i} of {self.n}")
        return i * _CHUNK, min(_CHUNK, self.size - i * _CHUNK)

    def stripe_of(self, i: int) -> int:
        """The stripe that data chunk ``i`` belongs to."""
        return i % self.s

    def row_of(self, i: int) -> int:
        """The row (share number) of data chunk ``i`` in its stripe."""
        return i // self.s

    def chunk_at(self, stripe: int, row: int) -> int | None:
        """The data chunk in a place of the grid; ``None`` for a virtual zero row."""
        i = row * self.s + stripe
        return i if i < self.n else None

    def chunks_of(self, stripe: int) -> range:
        """The data chunks of ``stripe``, ordered by row."""
        return range(stripe, self.n, self.s)

    def virtual_rows(self, stripe: int) -> int:
        """How many rows of ``stripe`` are virtual zeros: 0 or 1."""
        return self.k - len(self.chunks_of(stripe))

    def chunks_in(self, offset: int, length: int) -> range:
        """The chunks that have a byte in ``[offset, offset + length)`` of the .tgz."""
        end = min(offset + length, self.size)
        return range(0) if end <= offset else range(offset // _CHUNK, -(-end // _CHUNK))

    def chunks_within(self, offset: int, length: int) -> range:
        """The chunks that lie wholly in ``[offset, offset + length)`` of the .tgz."""
        end = offset + length
        last = self.n if end >= self.size else end // _CHUNK
        first = -(-offset // _CHUNK)
        return range(first, max(first, last))

    def span(self, chunks: range) -> tuple[int, int]:
        """Offset and length in bytes of a run of neighbouring chunks in the .tgz."""
        offset = chunks.start * _CHUNK
        return offset, min(chunks.stop * _CHUNK, self.size) - offset

    # --- parity ----------------------------------------------------------------------------------------------------

    def check_m(self, m: int) -> int:
        """Return ``m`` if this grid can have that many parity rows; raises :class:`ContentRejected` otherwise."""
        if not self.least_m <= m <= limits.STRIPE_ROWS - self.k:
            top = limits.STRIPE_ROWS - self.k
            raise ContentRejected("chunkmap.shape", f"{m} parity rows where {self.least_m} to {top} are allowed")
        return m

    def parity_chunks(self, m: int) -> int:
        """How many chunks the ``.parity`` file has."""
        return self.s * m

    def parity_bytes(self, m: int) -> int:
        """The size of the ``.parity`` file in bytes."""
        return self.s * m * _CHUNK

    def parity_of(self, stripe: int, m: int) -> range:
        """The parity chunks of ``stripe``, ordered by row; chunk ``j`` lies at ``j * 5120`` in the file."""
        return range(stripe * m, (stripe + 1) * m)

    def parity_share(self, j: int, m: int) -> tuple[int, int]:
        """Stripe and share number (``k..k+m-1``) of parity chunk ``j``."""
        return j // m, self.k + j % m

    def map_bytes(self, m: int) -> int:
        """The size of the ``.chunks`` file in bytes."""
        return limits.CHUNK_MAP_HEADER_BYTES + 32 * (self.n + self.s * m)
