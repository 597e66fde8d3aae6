"""Reads the full manifest out of a .tgz and nothing behind it: what the package says, not whether its files do."""

from __future__ import annotations

from pathlib import Path

from libreseed import limits
from libreseed.adapters.packing.gzip_stream import GzipReader
from libreseed.errors import ContentRejected
from libreseed.package.archive_reader import EntryData, EntryEnd, EntryStart, TarReader
from libreseed.package.manifest import FullManifest, parse_manifest

__all__ = ["peek_manifest"]

_READ_BYTES = 64 * 2**10


def peek_manifest(tgz: Path) -> FullManifest:
    """The verified manifest at the head of ``tgz``, whose files are not looked at; raises :class:`ContentRejected`."""
    gzip, tar = GzipReader(), TarReader()
    data = bytearray()
    with tgz.open("rb") as file:
        while portion := file.read(_READ_BYTES):
            for piece in gzip.feed(portion):
                for event in tar.feed(piece):
                    if isinstance(event, EntryStart) and event.size > limits.MANIFEST_BYTES:
                        raise ContentRejected("manifest.too-large", f"manifest.json has {event.size} bytes")
                    if isinstance(event, EntryData):
                        data += event.data
                    if isinstance(event, EntryEnd):  # the reader demands that the first entry is manifest.json
                        return parse_manifest(bytes(data))
    raise ContentRejected("archive.truncated", f"{tgz.name} ends within its first entry")
