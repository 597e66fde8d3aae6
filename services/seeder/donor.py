"""Adding a release that is held already but damaged: what is bad in the copy is taken from the folder that was named.

Nothing is trusted because of where it comes from: the small files must parse against the signed manifest, a chunk must
match the chunk map before it is written. The copy that is held is never removed for it. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.release.rebuild import largest_map
from libreseed.errors import ContentRejected
from libreseed.repair.chunkmap import parse_chunk_map
from libreseed.torrent.metainfo import parse_metainfo

from .intake import Found
from .stored import Stored

__all__ = ["donate_chunks", "donate_small_files"]


def donate_small_files(stored: Stored, found: Found) -> None:
    """Write the chunk map and the torrent of ``found`` into the copy; raises ContentRejected unless they hold."""
    source, minimal = found.source, stored.minimal
    chunks = source.read(source.path(".chunks"), largest_map(minimal.size))
    parse_chunk_map(chunks, expected=minimal.chunks, size=minimal.size)
    torrent = source.read(source.path(".torrent"), limits.METAINFO_BYTES)
    parse_metainfo(torrent, minimal.release, minimal)
    durable_write(stored.file(".chunks"), chunks, mode=0o600)
    durable_write(stored.file(".torrent"), torrent, mode=0o600)


def donate_chunks(stored: Stored, found: Found, bad: Iterable[range]) -> int:
    """Copy the ``bad`` data chunks that verify from ``found``'s .tgz; returns how many did. The caller checks anew."""
    chunks = read_bounded(stored.file(".chunks"), largest_map(stored.minimal.size))
    chunk_map = parse_chunk_map(chunks, expected=stored.minimal.chunks, size=stored.minimal.size)
    store, grid, taken = ChunkStore(chunk_map, stored.file(".tgz")), chunk_map.grid, 0
    reader = found.source.open(found.source.path(".tgz"))
    try:
        for number in (number for run in bad for number in run):
            offset, length = grid.chunk(number)
            with contextlib.suppress(ContentRejected):  # bad there, too
                store.write_chunk(number, os.pread(reader, length, offset))
                taken += 1
    finally:
        os.close(reader)
    store.sync()
    return taken
