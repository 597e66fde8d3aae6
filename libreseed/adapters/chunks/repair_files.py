"""Makes what repair and the swarm need of a finished .tgz: ``.parity``, ``.chunks`` and ``.torrent``.

The .tgz is read twice, at best from the page cache: in file order for its SHA-256 and its piece hashes, and stripe by
stripe for chunk digests and parity. Both run at once, in bounded memory whatever the size of the .tgz. Nothing is
synced here: the files stand in a staging directory until their publisher syncs and renames it. Everything blocks; trio
code calls it in a worker thread. Sections 3.6 and 3.7 of the specification.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from libreseed.adapters.chunks.stripe_io import Progress, each_group, read_row, write_at
from libreseed.errors import ContentRejected
from libreseed.ids import ReleaseId, Sha256Digest
from libreseed.repair.chunkmap import ChunkMap, build_chunk_map, chunk_digests, digests_of
from libreseed.repair.encoder import StripeWindow, group_starts
from libreseed.repair.grid import ChunkGrid
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import Metainfo, build_metainfo
from libreseed.torrent.piecehash import FilePieces, PieceHasher

__all__ = ["RepairFiles", "hash_pieces", "make_parity", "make_repair_files"]

_PORTION_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class RepairFiles:
    """What a minimal manifest is made of: the chunk map, the torrent, and the .tgz's SHA-256 inside the map."""

    chunk_map: ChunkMap
    metainfo: Metainfo


def make_repair_files(
    release: ReleaseId,
    tgz: Path,
    *,
    m: int | None = None,
    folder: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> RepairFiles:
    """Write ``.parity``, ``.chunks`` and ``.torrent`` of ``tgz`` into ``folder`` (default: its own).

    ``m`` is the number of parity rows, by default the least that the specification allows. ``threads`` code stripes,
    one more hashes; ``progress`` counts stripes and may raise to stop. Raises :class:`ContentRejected`
    (``chunkmap.*``) for an empty .tgz or an impossible ``m``.
    """
    folder = folder or tgz.parent
    size = tgz.stat().st_size
    grid = ChunkGrid(size)
    layout = TorrentLayout(release, size, grid.least_m if m is None else m)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_hash_file, tgz, layout.piece_bytes, size)
        data_digests, parity_digests = make_parity(
            tgz, folder / layout.parity.name, grid, layout.m, threads=threads, progress=progress
        )
        sha256, tgz_pieces = reading.result()
    chunk_map = build_chunk_map(grid, layout.m, sha256, data_digests, parity_digests)
    chunks_pieces = PieceHasher(layout.piece_bytes)
    chunks_pieces.feed(chunk_map.data)
    parity_pieces = hash_pieces(folder / layout.parity.name, layout.piece_bytes)
    metainfo = build_metainfo(layout, chunks_pieces.finish(), parity_pieces, tgz_pieces)
    (folder / layout.chunks.name).write_bytes(chunk_map.data)
    (folder / f"{release}.torrent").write_bytes(metainfo.data)
    return RepairFiles(chunk_map, metainfo)


def make_parity(
    tgz: Path, parity: Path | None, grid: ChunkGrid, m: int, *, threads: int = 1, progress: Progress | None = None
) -> tuple[bytes, bytes]:
    """Write the ``.parity`` file (or nowhere); returns the digests of all data chunks and of all parity chunks."""
    with contextlib.ExitStack() as files:
        source = os.open(tgz, os.O_RDONLY | os.O_CLOEXEC)
        files.callback(os.close, source)
        target = -1
        if parity is not None:
            target = os.open(parity, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            files.callback(os.close, target)
        making = _ParityMaking(grid, m, source, target)
        each_group(group_starts(grid), making.worker, threads=threads, progress=progress)
    return bytes(making.data_digests), bytes(making.parity_digests)


class _ParityMaking:
    """What the threads that make parity share: each of them fills other places of the two digest lists."""

    def __init__(self, grid: ChunkGrid, m: int, source: int, target: int) -> None:
        self._grid = grid
        self._m = m
        self._source = source
        self._target = target
        self.data_digests = bytearray(32 * grid.n)
        self.parity_digests = bytearray(32 * grid.parity_chunks(m))

    def worker(self) -> Callable[[int], int]:
        """A function that codes the group of stripes that begins with its argument, in memory of its own."""
        return partial(self._code, StripeWindow(self._grid, self._m))

    def _code(self, window: StripeWindow, first: int) -> int:
        window.move(first)
        for row in range(self._grid.k):
            chunks = window.chunks(row)
            places = read_row(self._source, window, row)
            if len(places) != len(chunks):
                raise ContentRejected("chunkmap.size", "the .tgz became shorter while it was read")
            self.data_digests[32 * chunks.start : 32 * chunks.stop] = digests_of(places)
        parity = window.parity()
        at = 32 * first * self._m
        self.parity_digests[at : at + 32 * window.count * self._m] = chunk_digests(parity)
        if self._target >= 0:
            write_at(self._target, parity, window.parity_offset)
        return window.count


def hash_pieces(path: Path, piece_bytes: int) -> FilePieces:
    """The piece hashes of a file, v1 and v2."""
    hasher = PieceHasher(piece_bytes)
    _read_through(path, hasher.feed)
    return hasher.finish()


def _hash_file(path: Path, piece_bytes: int, size: int) -> tuple[Sha256Digest, FilePieces]:
    hasher, sha256 = PieceHasher(piece_bytes), hashlib.sha256()

    def take(portion: memoryview) -> None:
        sha256.update(portion)
        hasher.feed(portion)

    _read_through(path, take)
    pieces = hasher.finish()
    if pieces.size != size:
        raise ContentRejected("chunkmap.size", f"{path.name} changed its size while it was read")
    return Sha256Digest(sha256.digest()), pieces


def _read_through(path: Path, take: Callable[[memoryview], None]) -> None:
    memory = memoryview(bytearray(_PORTION_BYTES))
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(memory):
            take(memory[:got])
