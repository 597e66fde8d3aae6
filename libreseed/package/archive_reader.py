"""A strict tar reader without IO: bytes in, events out (DESIGN 3.4).

It accepts the form that ``archive_writer`` makes, whatever its owners and times, plus folder entries, and nothing else:
there is one way to read each accepted archive, so no second parser can see other files in it. Order, count, paths and
collisions are checked here; content, and whether the listing is the manifest's, in ``archive_check``. Memory is bounded
by ``limits.ARCHIVE_ENTRIES`` paths. After an error the reader is dead. Specification: ``archive.md``, 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.package.archive_header import Header, parse_header, parse_pax_path
from libreseed.package.archive_writer import BLOCK_BYTES, TAR_END, fits_name_field, padding
from libreseed.package.paths import MANIFEST_PATH, PathSet, check_path, path_key

__all__ = ["ArchiveEnd", "ArchiveEvent", "EntryData", "EntryEnd", "EntryStart", "FolderEntry", "TarReader"]


@dataclass(frozen=True, slots=True)
class EntryStart:
    """A regular file begins: its path, its bytes, its mode (0o644 or 0o755)."""

    path: str
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class EntryData:
    """The next bytes of the current file; a view into what was fed, valid as long as that is."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class EntryEnd:
    """The current file is complete."""


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A folder entry: it makes no folder, and must be above a file of the archive."""

    path: str


@dataclass(frozen=True, slots=True)
class ArchiveEnd:
    """The two zero blocks were read; ``folders`` are the folder entries that the archive held."""

    folders: tuple[str, ...]


ArchiveEvent = EntryStart | EntryData | EntryEnd | FolderEntry | ArchiveEnd
_Step = Callable[[memoryview], Iterator[ArchiveEvent]]


class TarReader:
    """Feed it the uncompressed stream in pieces of any size; every piece yields the events that it completes."""

    def __init__(self) -> None:
        self._step: _Step = self._header
        self._unit = bytearray()  # the fixed-size unit that is being collected
        self._unit_bytes = BLOCK_BYTES
        self._left = 0  # bytes of content still to come
        self._pax_bytes = 0
        self._pax_path: str | None = None
        self._tree = PathSet("archive")
        self._folders: set[str] = set()
        self._entries = 0
        self._last: bytes | None = None  # key of the last file behind the manifest
        self._content_padding = 0
        self._ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[ArchiveEvent]:
        """The events that ``data`` completes; raises :class:`ContentRejected` (``archive.*``)."""
        view = memoryview(data)
        while view:
            if self._ended:
                raise ContentRejected("archive.trailing", "bytes follow the end of the archive")
            if self._left:
                part = view[: self._left]
                view = view[len(part) :]
                self._left -= len(part)
                yield EntryData(part)
                if not self._left:
                    yield from self._content_done()
                continue
            part = view[: self._unit_bytes - len(self._unit)]
            view = view[len(part) :]
            self._unit += part
            if len(self._unit) == self._unit_bytes:
                unit, self._unit = self._unit, bytearray()
                yield from self._step(memoryview(unit).toreadonly())

    def finish(self) -> None:
        """Say that no more bytes come; raises :class:`ContentRejected` (``archive.truncated``) if some are missing."""
        if not self._ended:
            raise ContentRejected("archive.truncated", "the archive ends before its two zero blocks")

    def _expect(self, step: _Step, size: int = BLOCK_BYTES) -> None:
        self._step, self._unit_bytes = step, size

    def _header(self, block: memoryview) -> Iterator[ArchiveEvent]:
        raw = bytes(block)
        if raw == TAR_END[:BLOCK_BYTES]:
            if self._pax_path is not None or not self._entries:
                raise ContentRejected("archive.truncated", "the archive ends where an entry is expected")
            self._expect(self._end)
            return
        header = parse_header(raw)
        if header.kind == "pax":
            if self._pax_path is not None:
                raise ContentRejected("archive.pax", "two pax headers before one entry")
            self._pax_bytes = header.size
            self._expect(self._pax, header.size + padding(header.size))
            return
        path = self._path(header)
        self._entries += 1
        if self._entries > limits.ARCHIVE_ENTRIES:
            raise ContentRejected("archive.entries", f"more than {limits.ARCHIVE_ENTRIES} entries")
        if header.kind == "folder":
            self._take_folder(path)
            yield FolderEntry(path)
            return
        self._take_file(path)
        self._left, self._content_padding = header.size, padding(header.size)
        yield EntryStart(path, header.size, header.mode)
        if not header.size:
            yield from self._content_done()

    def _path(self, header: Header) -> str:
        path, self._pax_path = self._pax_path, None
        if path is None:
            path = header.name
        elif fits_name_field(path):
            raise ContentRejected("archive.pax", f"a pax path where the name field suffices: {path!r:.200}")
        if header.kind == "folder":
            path = path.removesuffix("/")
        return check_path(path, "archive")

    def _take_file(self, path: str) -> None:
        key = path_key(path)
        if self._entries == 1 and path != MANIFEST_PATH:
            raise ContentRejected("archive.manifest-first", f"the first entry is {path!r:.200}, not {MANIFEST_PATH}")
        if path in self._tree:
            raise ContentRejected("archive.duplicate", f"a second entry {path!r:.200}", evidence={"path": path})
        if self._last is not None and key < self._last:
            raise ContentRejected("archive.order", f"out of order: {path!r:.200}", evidence={"path": path})
        self._tree.add(path)
        if path in self._folders:
            raise ContentRejected("archive.file-and-folder", f"{path!r:.200} is a file and a folder")
        if self._entries > 1:
            self._last = key

    def _take_folder(self, path: str) -> None:
        if self._entries == 1:
            raise ContentRejected("archive.manifest-first", f"the first entry is a folder, not {MANIFEST_PATH}")
        if path in self._folders:
            raise ContentRejected("archive.duplicate", f"a second folder entry {path!r:.200}")
        if path in self._tree:
            raise ContentRejected("archive.file-and-folder", f"{path!r:.200} is a file and a folder")
        self._folders.add(path)

    def _pax(self, block: memoryview) -> Iterator[ArchiveEvent]:
        raw = bytes(block)
        if raw[self._pax_bytes :].strip(b"\0"):
            raise ContentRejected("archive.padding", "the bytes behind a pax record are not zero")
        self._pax_path = parse_pax_path(raw[: self._pax_bytes])
        self._expect(self._header)
        yield from ()

    def _content_done(self) -> Iterator[ArchiveEvent]:
        yield EntryEnd()
        if self._content_padding:
            self._expect(self._pad, self._content_padding)
        else:
            self._expect(self._header)

    def _pad(self, block: memoryview) -> Iterator[ArchiveEvent]:
        if bytes(block).strip(b"\0"):
            raise ContentRejected("archive.padding", "the bytes behind a file's content are not zero")
        self._expect(self._header)
        yield from ()

    def _end(self, block: memoryview) -> Iterator[ArchiveEvent]:
        if bytes(block).strip(b"\0"):
            raise ContentRejected("archive.format", "a lone zero block inside the archive")
        self._ended = True
        for folder in self._folders:
            if not self._tree.has_folder(folder):
                message = f"a folder entry that is above no file: {folder!r:.200}"
                raise ContentRejected("archive.folder", message, evidence={"path": folder})
        yield ArchiveEnd(tuple(sorted(self._folders, key=path_key)))
