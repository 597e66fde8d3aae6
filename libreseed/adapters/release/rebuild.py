"""What of a release can be made anew from its large files: the chunk map and the torrent.

The result counts only if it comes out with the hash that the minimal manifest signs; then it replaces the file,
durably. Everything here blocks. docs/operations.md, "What is checked, and when".
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.errors import ContentRejected
from libreseed.ids import Sha256Digest
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.chunkmap import ChunkMap, build_chunk_map, chunk_digests, parse_chunk_map
from libreseed.repair.grid import ChunkGrid
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import Metainfo, build_metainfo
from libreseed.torrent.piecehash import FilePieces, PieceHasher

__all__ = ["largest_map", "rebuild_chunk_map", "rebuild_torrent"]

_PORTION = limits.CHUNK_BYTES * 2048  # 10 MiB, a multiple of a chunk


def rebuild_chunk_map(files: ReleaseFiles, minimal: MinimalManifest, *, mode: int = 0o644) -> ChunkMap | None:
    """Write the chunk map anew from .tgz and .parity; None unless it comes out as the signed one."""
    grid = ChunkGrid(minimal.size)
    try:
        parity_size = files.path(".parity").stat().st_size
        m = grid.check_m(parity_size // grid.parity_bytes(1))
        tgz, parity = _digests(files.tgz), _digests(files.path(".parity"))
        chunk_map = build_chunk_map(grid, m, Sha256Digest(tgz[1]), tgz[0], parity[0])
        parse_chunk_map(chunk_map.data, expected=minimal.chunks, size=minimal.size)
    except (ContentRejected, FileNotFoundError):
        return None
    durable_write(files.path(".chunks"), chunk_map.data, mode=mode)
    return chunk_map


def rebuild_torrent(
    files: ReleaseFiles, minimal: MinimalManifest, chunk_map: ChunkMap, *, mode: int = 0o644
) -> Metainfo | None:
    """Write the torrent anew from the three files; None unless it comes out as the signed one."""
    layout = TorrentLayout(minimal.release, minimal.size, chunk_map.m)
    try:
        hashes = [_pieces(files.path(suffix), layout.piece_bytes) for suffix in (".chunks", ".parity", ".tgz")]
        metainfo = build_metainfo(layout, *hashes)
    except (FileNotFoundError, ValueError):  # a missing file, or one of another size
        return None
    if metainfo.v2 != minimal.torrent:
        return None
    durable_write(files.path(".torrent"), metainfo.data, mode=mode)
    return metainfo


def largest_map(size: int) -> int:
    """The bytes of the largest legal chunk map for a .tgz of ``size`` bytes."""
    grid = ChunkGrid(size)
    return grid.map_bytes(limits.STRIPE_ROWS - grid.k)


def _portions(path: Path) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # never waits for a pipe
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
        while portion := file.read(_PORTION):
            yield portion


def _digests(path: Path) -> tuple[bytes, bytes]:
    """The chunk digests of a file, and the SHA-256 of all of it."""
    digests, whole = [], hashlib.sha256()
    for portion in _portions(path):
        digests.append(chunk_digests(portion))
        whole.update(portion)
    return b"".join(digests), whole.digest()


def _pieces(path: Path, piece_bytes: int) -> FilePieces:
    hasher = PieceHasher(piece_bytes)
    for portion in _portions(path):
        hasher.feed(portion)
    return hasher.finish()
