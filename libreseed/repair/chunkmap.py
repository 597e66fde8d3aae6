"""The chunk map ``name@version.chunks`` of section 3.6: BLAKE3-256 of every data and every parity chunk.

A :class:`ChunkMap` is the file's exact bytes, read once and found consistent: N, S and k are recomputed from the size,
m is within its bounds, the length is exact. Whether it is *the* map is decided by the signed hash (``expected``), which
the parser checks first, so that no byte of an unsigned map is interpreted. Nothing here reads a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blake3 import blake3

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, Sha256Digest
from libreseed.repair.grid import ChunkGrid

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ChunkMap", "build_chunk_map", "chunk_digests", "digests_of", "parse_chunk_map", "unlike"]

_HEADER = struct.Struct("<8sIIIHHQ32s16s")
_MAGIC = b"LSCHUNK1"
_CHUNK = limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ChunkMap:
    """A consistent chunk map: ``data`` is the file, ``grid`` and ``m`` its shape, ``tgz_sha256`` what it speaks of."""

    data: bytes = field(repr=False)
    grid: ChunkGrid
    m: int
    tgz_sha256: Sha256Digest

    def __post_init__(self) -> None:
        if len(self.data) != self.grid.map_bytes(self.m):
            raise ContentRejected("chunkmap.length", "the chunk map's length is not what its header implies")

    @property
    def digest(self) -> Blake3Digest:
        """BLAKE3 of the whole file: ``chunks`` of the minimal manifest."""
        return Blake3Digest(blake3(self.data).digest())

    def data_digest(self, i: int) -> bytes:
        """BLAKE3-256 (32 bytes) of data chunk ``i``, over its true bytes; raises ``IndexError``."""
        if not 0 <= i < self.grid.n:
            raise IndexError(f"chunk {i} of {self.grid.n}")
        return self.data_digests(range(i, i + 1))

    def parity_digest(self, j: int) -> bytes:
        """BLAKE3-256 (32 bytes) of parity chunk ``j``; raises ``IndexError``."""
        if not 0 <= j < self.grid.parity_chunks(self.m):
            raise IndexError(f"parity chunk {j} of {self.grid.parity_chunks(self.m)}")
        return self.parity_digests(range(j, j + 1))

    def data_digests(self, chunks: range) -> bytes:
        """The digests of neighbouring data chunks, one after another."""
        start = limits.CHUNK_MAP_HEADER_BYTES
        return self.data[start + 32 * chunks.start : start + 32 * chunks.stop]

    def parity_digests(self, chunks: range) -> bytes:
        """The digests of neighbouring parity chunks, one after another."""
        start = limits.CHUNK_MAP_HEADER_BYTES + 32 * self.grid.n
        return self.data[start + 32 * chunks.start : start + 32 * chunks.stop]


def parse_chunk_map(
    data: bytes,
    *,
    expected: Blake3Digest | None = None,
    size: int | None = None,
    max_size: int = limits.PACKAGE_BYTES,
) -> ChunkMap:
    """Read a ``.chunks`` file; raises :class:`ContentRejected` (``chunkmap.*``) unless it is consistent.

    ``expected`` is ``chunks`` of the minimal manifest, ``size`` its ``size``; ``max_size`` the policy's bound in bytes
    for a .tgz. The caller bounds the length of ``data`` itself (:meth:`ChunkGrid.map_bytes`).
    """
    if expected is not None and blake3(data).digest() != expected.raw:
        raise ContentRejected("chunkmap.digest", "the chunk map is not the one that the manifest names")
    if len(data) < _HEADER.size:
        raise ContentRejected("chunkmap.length", f"{len(data)} bytes are no chunk map")
    magic, chunk, n, s, k, m, stated, sha256, reserved = _HEADER.unpack_from(data)
    if magic != _MAGIC or chunk != _CHUNK or reserved != bytes(16):
        raise ContentRejected("chunkmap.header", "not a chunk map of this version")
    if stated > max_size:
        raise ContentRejected("chunkmap.policy", f"a package of {stated} bytes where policy allows {max_size}")
    if size is not None and stated != size:
        raise ContentRejected("chunkmap.size", f"the chunk map speaks of {stated} bytes, the manifest of {size}")
    grid = ChunkGrid(stated)
    if (n, s, k) != (grid.n, grid.s, grid.k):
        raise ContentRejected("chunkmap.shape", f"N, S, k = {n}, {s}, {k} do not follow from {stated} bytes")
    return ChunkMap(data, grid, grid.check_m(m), Sha256Digest(sha256))


def build_chunk_map(
    grid: ChunkGrid, m: int, tgz_sha256: Sha256Digest, data_digests: bytes, parity_digests: bytes
) -> ChunkMap:
    """The chunk map for digests made by :func:`chunk_digests`; raises :class:`ContentRejected` if they are too few."""
    header = _HEADER.pack(_MAGIC, _CHUNK, grid.n, grid.s, grid.k, grid.check_m(m), grid.size, tgz_sha256.raw, bytes(16))
    if len(data_digests) != 32 * grid.n:
        raise ContentRejected("chunkmap.length", f"{len(data_digests)} bytes of digests for {grid.n} chunks")
    return ChunkMap(b"".join((header, data_digests, parity_digests)), grid, m, tgz_sha256)


def chunk_digests(data: Buffer) -> bytes:
    """BLAKE3-256 of each 5120-byte chunk of ``data`` (the last one as long as it is), one after another."""
    view = memoryview(data)
    return digests_of([view[at : at + _CHUNK] for at in range(0, len(view), _CHUNK)])


def digests_of(chunks: Iterable[Buffer]) -> bytes:
    """BLAKE3-256 of each of ``chunks``, one after another."""
    hasher = blake3()  # used again and again: making one costs a fifth of the hashing
    found = []
    for chunk in chunks:
        hasher.reset()
        hasher.update(chunk)
        found.append(hasher.digest())
    return b"".join(found)


def unlike(actual: bytes, expected: bytes) -> list[int]:
    """The places at which two runs of 32-byte digests differ; a place that ``actual`` lacks differs."""
    if actual == expected:
        return []
    return [at // 32 for at in range(0, len(expected), 32) if actual[at : at + 32] != expected[at : at + 32]]
