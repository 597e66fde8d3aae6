"""Reads single files out of a .tgz: what the package says of itself, not whether its other files hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from libreseed import limits
from libreseed.adapters.packing.gzip_stream import GzipReader
from libreseed.errors import ContentRejected
from libreseed.package.archive_reader import ArchiveEvent, EntryData, EntryEnd, EntryStart, TarReader
from libreseed.package.manifest import FullManifest, parse_manifest
from libreseed.package.paths import SRC_PATH

__all__ = ["peek_manifest", "peek_src"]

_READ_BYTES = 64 * 2**10


def peek_manifest(tgz: Path) -> FullManifest:
    """The verified manifest at the head of ``tgz``, whose files are not looked at; raises :class:`ContentRejected`."""
    data = bytearray()
    for event in _events(tgz):
        if isinstance(event, EntryStart) and event.size > limits.MANIFEST_BYTES:
            raise ContentRejected("manifest.too-large", f"manifest.json has {event.size} bytes")
        if isinstance(event, EntryData):
            data += event.data
        if isinstance(event, EntryEnd):  # the reader demands that the first entry is manifest.json
            return parse_manifest(bytes(data))
    raise ContentRejected("archive.truncated", f"{tgz.name} ends within its first entry")


def peek_src(tgz: Path, manifest: FullManifest) -> bytes:
    """The package's SRC, which is what ``manifest`` names; the other files are not judged.

    Raises :class:`ContentRejected` (``archive.*``, ``src.mismatch``).
    """
    data, wanted = bytearray(), False
    for event in _events(tgz):
        if isinstance(event, EntryStart):
            wanted = event.path == SRC_PATH
            if wanted and event.size != manifest.sizes[SRC_PATH]:
                break
        if isinstance(event, EntryData) and wanted:
            data += event.data
        if isinstance(event, EntryEnd) and wanted:
            break
    if hashlib.sha256(data).digest() != manifest.files[SRC_PATH].raw:
        raise ContentRejected("src.mismatch", f"SRC in {tgz.name} is not the one that its manifest names")
    return bytes(data)


def _events(tgz: Path) -> Iterator[ArchiveEvent]:
    gzip, tar = GzipReader(), TarReader()
    with tgz.open("rb") as file:
        while portion := file.read(_READ_BYTES):
            for piece in gzip.feed(portion):
                yield from tar.feed(piece)
