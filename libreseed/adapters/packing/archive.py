"""Reads a .tgz that nobody trusts: verifies it, and extracts it if asked to (DESIGN 3.4; steps 7 to 9).

Two threads: one reads, inflates and parses, the caller's hashes, checks and writes; a bounded queue is between them, so
the memory is some MB whatever the archive claims. A file is written as its bytes arrive and judged when it is complete:
after an error the caller must remove the directory, which nobody else may have seen (G1).
Specification: ``archive.md``, 4.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from libreseed.adapters.files.confine import ConfinedDirectory
from libreseed.adapters.files.durable import begin_writing
from libreseed.adapters.packing.archive_pipe import ArchivePipe, Source
from libreseed.adapters.packing.tree_stamps import Stamp, stamp_of
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, Sha256Digest
from libreseed.package.archive_check import ArchiveCheck
from libreseed.package.archive_reader import EntryData, EntryEnd, EntryStart, FolderEntry
from libreseed.package.manifest import FullManifest
from libreseed.package.minimal import MinimalManifest
from libreseed.package.paths import MANIFEST_PATH

__all__ = [
    "ExtractReport",
    "check_infohash",
    "examine_archive",
    "extract_archive",
    "verify_archive",
]

_READ_BYTES = 2**20
_LARGE_BYTES = 2**20  # small files are better left to the file system, which lays many of them down in one go
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What the archive holds: the verified ``manifest``, how many ``files`` (manifest.json included), their bytes, the
    BLAKE3 ``digests`` of all but manifest.json, and the ``stamps`` of the files that were written."""

    manifest: FullManifest
    files: int
    size: int
    digests: Mapping[str, Blake3Digest]
    stamps: Mapping[str, Stamp]


def check_infohash(source: Path | BinaryIO, minimal: MinimalManifest, *, progress: Progress | None = None) -> None:
    """Step 7: the .tgz has the signed size and SHA-256; raises ``archive.size`` or ``archive.infohash``.

    A stream is read from where it is and put back there. ``progress`` is called with compressed bytes.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            _check_infohash(file, minimal, progress)
        return
    start = source.tell()
    _check_infohash(source, minimal, progress)
    source.seek(start)


def verify_archive(
    source: Path | BinaryIO, minimal: MinimalManifest | None, *, progress: Progress | None = None
) -> FullManifest:
    """Steps 7 to 9 without writing: everything that can be said about a .tgz; returns its manifest.

    Without ``minimal`` only the archive is checked against itself. ``progress`` is called with uncompressed bytes and
    may raise to stop. Raises :class:`ContentRejected`; ``OSError`` passes.
    """
    if minimal is not None:
        check_infohash(source, minimal)
    with ArchivePipe(source) as pipe:
        return _Judge(minimal, None, progress).run(pipe).manifest


def examine_archive(source: Path | BinaryIO) -> ExtractReport:
    """Steps 8 and 9 without writing and without a minimal manifest: the archive against itself. Raises as above."""
    with ArchivePipe(source) as pipe:
        return _Judge(None, None, None).run(pipe)


def extract_archive(
    source: Source, minimal: MinimalManifest, into: Path, *, progress: Progress | None = None
) -> ExtractReport:
    """Steps 8 and 9, writing the files below the existing empty directory ``into``; step 7 is the caller's.

    Of a :class:`GrowingFile` as its bytes are verified; then step 7 follows, and nothing counts before it.
    After an error ``into`` holds part of the package: the caller removes it. ``progress`` is called with uncompressed
    bytes and may raise to stop. Raises :class:`ContentRejected`; ``OSError`` passes.
    """
    with ConfinedDirectory(into) as directory, ArchivePipe(source) as pipe:
        return _Judge(minimal, directory, progress).run(pipe)


class _Judge:
    """Takes the events of one archive; owned by the caller's thread."""

    def __init__(
        self, minimal: MinimalManifest | None, directory: ConfinedDirectory | None, progress: Progress | None
    ) -> None:
        self._check = ArchiveCheck(minimal)
        self._directory = directory
        self._progress = progress
        self._entry: EntryStart | None = None
        self._file = -1  # descriptor of the file being written
        self._head = bytearray()  # manifest.json until it is complete
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()
        self._stamps: dict[str, Stamp] = {}
        self._files = 0
        self._size = 0

    def run(self, pipe: ArchivePipe) -> ExtractReport:
        try:
            for batch in pipe:
                before = self._size
                for event in batch:
                    if isinstance(event, EntryStart):
                        self._start(event)
                    elif isinstance(event, EntryData):
                        self._data(event.data)
                    elif isinstance(event, EntryEnd):
                        self._end()
                    elif isinstance(event, FolderEntry):
                        self._check.folder(event.path)
                if self._progress is not None:
                    self._progress(self._size - before)
            return ExtractReport(self._check.finish(), self._files, self._size, self._check.digests, self._stamps)
        except ContentRejected as error:
            error.at_step(8)
            raise
        finally:
            self._close()

    def _start(self, entry: EntryStart) -> None:
        self._check.start(entry)
        self._entry = entry
        self._files += 1
        if entry.path == MANIFEST_PATH:
            return
        self._sha256, self._blake3 = hashlib.sha256(), blake3()
        self._create(entry.path)

    def _data(self, data: memoryview) -> None:
        assert self._entry is not None
        self._size += len(data)
        if self._entry.path == MANIFEST_PATH:
            self._head += data
            return
        self._sha256.update(data)
        self._blake3.update(data)
        self._write(data)

    def _end(self) -> None:
        assert self._entry is not None
        entry = self._entry
        if entry.path == MANIFEST_PATH:
            self._check.take_manifest(bytes(self._head))
            self._create(entry.path)
            self._write(memoryview(self._head))
            self._head = bytearray()
        else:
            self._check.take_file(entry.path, Sha256Digest(self._sha256.digest()), Blake3Digest(self._blake3.digest()))
        if self._file >= 0:
            os.fchmod(self._file, entry.mode)
            self._stamps[entry.path] = stamp_of(self._file)
            if entry.size >= _LARGE_BYTES:
                begin_writing(self._file)  # or whoever syncs the tree waits for all of it at the end
        self._close()

    def _create(self, path: str) -> None:
        if self._directory is not None:
            self._file = self._directory.create(path)

    def _write(self, data: memoryview) -> None:
        while self._file >= 0 and data:
            data = data[os.write(self._file, data) :]

    def _close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)


def _check_infohash(file: BinaryIO, minimal: MinimalManifest, progress: Progress | None) -> None:
    digest, size = hashlib.sha256(), 0
    while data := file.read(_READ_BYTES):
        digest.update(data)
        size += len(data)
        if progress is not None:
            progress(len(data))
        if size > minimal.size:
            break
    if size != minimal.size:
        at_least = "at least " if size > minimal.size else ""
        message = f"the .tgz has {at_least}{size} bytes, the minimal manifest says {minimal.size}"
        raise ContentRejected("archive.size", message, step=7)
    if digest.digest() != minimal.infohash.raw:
        evidence = {"expected": str(minimal.infohash), "actual": "sha256:" + digest.hexdigest()}
        raise ContentRejected("archive.infohash", "the .tgz is not the one that was signed", step=7, evidence=evidence)
