"""Writes the .tgz of a collected tree, in one pass over its files and in bounded memory (DESIGN 3.4).

Order: ``manifest.json``, then all files with SRC among them by their UTF-8 bytes. Every file is read a second time and
must have the BLAKE3 that the manifest's SRC lists, so what was signed is what is packed. The compressed bytes go to a
sink as they come; the sink may hash them as well. Specification: ``archive.md``, 2.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from libreseed.adapters.packing.gzip_stream import GzipWriter, zlib_ng_version
from libreseed.adapters.packing.tree import Tree, TreeFile
from libreseed.adapters.packing.tree_hash import read_file
from libreseed.adapters.packing.tree_walk import open_root
from libreseed.errors import ContentRejected
from libreseed.ids import Sha256Digest
from libreseed.package.archive_writer import TAR_END, entry_header, padding
from libreseed.package.manifest import FullManifest
from libreseed.package.paths import MANIFEST_PATH, SRC_PATH, path_key

__all__ = ["ArchiveReport", "write_archive"]


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What was written: the .tgz (``infohash``, ``size``), the tar stream inside (``tar_hash``, ``tar_size``; bytes),
    and the version of zlib-ng without which the .tgz cannot be rebuilt byte for byte."""

    infohash: Sha256Digest
    size: int
    tar_hash: Sha256Digest
    tar_size: int
    zlib_ng: str


def write_archive(
    tree: Tree,
    manifest: FullManifest,
    sink: Callable[[bytes], None],
    *,
    mtime: int = 0,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ArchiveReport:
    """Stream the .tgz of ``tree`` to ``sink``; blocks, so trio code calls it in a thread.

    ``manifest`` must be the one that ``tree.sign`` made; ``mtime`` is SOURCE_DATE_EPOCH in seconds, or 0. ``sink`` and
    ``progress`` (bytes of content) run in the caller's thread and may raise to stop the work. Raises
    :class:`ContentRejected` (``tree.changed``, ``tree.unreadable``, ``tree.ratio``).
    """
    infohash = hashlib.sha256()

    def deliver(data: bytes) -> None:
        infohash.update(data)
        sink(data)

    root = open_root(tree.root)
    try:
        with GzipWriter(deliver, threads) as writer:
            entries = _Entries(writer, root, mtime, progress)
            entries.add_data(MANIFEST_PATH, manifest.data)
            src_key = path_key(SRC_PATH)
            src_due = True
            for file in tree.files:
                if src_due and path_key(file.found.path) > src_key:
                    src_due = False
                    entries.add_data(SRC_PATH, tree.src)
                entries.add_file(file)
            if src_due:
                entries.add_data(SRC_PATH, tree.src)
            writer.write(TAR_END)
            tar_hash = writer.close()
    finally:
        os.close(root)
    return ArchiveReport(
        infohash=Sha256Digest(infohash.digest()),
        size=writer.size,
        tar_hash=Sha256Digest(tar_hash),
        tar_size=writer.plain_size,
        zlib_ng=zlib_ng_version(),
    )


class _Entries:
    def __init__(self, writer: GzipWriter, root: int, mtime: int, progress: Callable[[int], None] | None) -> None:
        self._writer = writer
        self._root = root
        self._mtime = mtime
        self._progress = progress

    def add_data(self, path: str, data: bytes) -> None:
        self._writer.write(entry_header(path, len(data), 0o644, self._mtime))
        self._writer.write(data)
        self._writer.write(bytes(padding(len(data))))

    def add_file(self, file: TreeFile) -> None:
        found = file.found
        mode = 0o755 if found.executable else 0o644
        self._writer.write(entry_header(found.path, found.size, mode, self._mtime))
        content = blake3()

        def take(piece: memoryview) -> None:
            content.update(piece)
            self._writer.commit(len(piece))

        read_file(self._root, found, self._writer.reserve, take)
        if content.digest() != file.blake3.raw:
            message = f"{found.path!r} changed between the two readings of the tree"
            raise ContentRejected("tree.changed", message, evidence={"path": found.path})
        self._writer.write(bytes(padding(found.size)))
        if self._progress is not None:
            self._progress(found.size)
