"""The one form of zip that a DIRAM package has: stored entries end to end, nothing between, before or behind them.

Where every byte stands follows from the entries' paths, sizes and CRC-32. So a zip is read by rebuilding its layout
from the central directory and demanding that all bytes outside the entries' data are equal: no extra field, comment,
data descriptor, flag, compression, time stamp, second directory or gap can hide anything, and two readers can't
disagree. It can be written, and served in ranges, without being made in memory. No zip64: less than 4 GiB, at most
65534 entries.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from libreseed import limits
from libreseed.errors import ContentRejected

__all__ = ["Data", "ReadBytes", "ZipEntry", "ZipLayout", "parse_zip", "read_zip"]

ReadBytes = Callable[[int, int], bytes]  # the bytes from an offset to another; fewer where the file has shrunk

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_NEEDED = 10  # no feature beyond storing files
_MADE_BY = 3 << 8 | 20  # Unix, so that the mode means something
_DATE = 1 << 5 | 1  # 1980-01-01, the format's first day
_MODE = 0o100644 << 16
_SIZE = 2**32 - 2  # a field of all ones would announce zip64


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file in a zip: ASCII path, size in bytes, CRC-32. Which paths are good is the reader's matter."""

    path: str
    size: int
    crc32: int

    def __post_init__(self) -> None:
        if not (self.path.isascii() and 1 <= len(self.path) <= limits.ZIP_PATH_CHARS):
            raise ContentRejected("auraseal.zip-path", f"no path in a package: {self.path!r:.100}")
        if not (0 <= self.size <= _SIZE and 0 <= self.crc32 < 2**32):
            raise ContentRejected("auraseal.zip-size", f"{self.path} of {self.size} bytes")

    def local(self) -> bytes:
        """What stands in front of the data."""
        name = self.path.encode()
        fields = (_NEEDED, 0, 0, 0, _DATE, self.crc32, self.size, self.size, len(name), 0)
        return _LOCAL.pack(b"PK\x03\x04", *fields) + name

    def central(self, offset: int) -> bytes:
        """The entry of the central directory, for a local header at ``offset``."""
        name = self.path.encode()
        fields = (_MADE_BY, _NEEDED, 0, 0, 0, _DATE, self.crc32, self.size, self.size, len(name), 0, 0, 0, 0, _MODE)
        return _CENTRAL.pack(b"PK\x01\x02", *fields, offset) + name


class Data(NamedTuple):
    """Bytes ``start`` to ``stop`` of the data of entry number ``entry``."""

    entry: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ZipLayout:
    """Where everything stands in the zip of ``entries``; ``offsets`` are those of the local headers."""

    entries: tuple[ZipEntry, ...]
    offsets: tuple[int, ...] = field(init=False, repr=False)
    directory: bytes = field(init=False, repr=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.entries) > limits.ZIP_ENTRIES:
            raise ContentRejected("auraseal.zip-size", f"{len(self.entries)} entries are too many")
        if len({entry.path for entry in self.entries}) != len(self.entries):
            raise ContentRejected("auraseal.zip-path", "two entries have one path")
        offsets, at = [], 0
        for entry in self.entries:
            offsets.append(at)
            at += _LOCAL.size + len(entry.path) + entry.size
        listing = sum(_CENTRAL.size + len(entry.path) for entry in self.entries)
        if at + listing + _END.size > _SIZE:
            raise ContentRejected("auraseal.zip-size", f"a zip of {at} bytes is too large")
        central = b"".join(entry.central(offset) for entry, offset in zip(self.entries, offsets, strict=True))
        count = len(self.entries)
        end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(central), at, 0)
        object.__setattr__(self, "offsets", tuple(offsets))
        object.__setattr__(self, "directory", central + end)
        object.__setattr__(self, "size", at + len(central) + len(end))

    def data_offset(self, entry: int) -> int:
        """Where the data of entry number ``entry`` begins."""
        return self.offsets[entry] + _LOCAL.size + len(self.entries[entry].path)

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes | Data]:
        """What bytes ``start`` to ``stop`` of the zip are, in order: bytes as such, or data of an entry."""
        stop = self.size if stop is None else min(stop, self.size)
        first = max(0, bisect_right(self.offsets, start) - 1)
        for number in range(first, len(self.entries)):
            offset, data_at = self.offsets[number], self.data_offset(number)
            if offset >= stop:
                return
            if piece := self.entries[number].local()[max(0, start - offset) : max(0, stop - offset)]:
                yield piece
            low, high = max(0, start - data_at), min(self.entries[number].size, stop - data_at)
            if low < high:
                yield Data(number, low, high)
        at = self.size - len(self.directory)
        if piece := self.directory[max(0, start - at) : max(0, stop - at)]:
            yield piece


def parse_zip(data: memoryview) -> ZipLayout:
    """Read the layout of a zip in memory; see :func:`read_zip`."""
    return read_zip(len(data), lambda start, stop: bytes(data[start:stop]))


def read_zip(size: int, read: ReadBytes) -> ZipLayout:
    """Read the layout of a zip of ``size`` bytes; raises :class:`ContentRejected` (``auraseal.zip-*``) unless it is
    exactly this form.

    The entries' data is not looked at. Memory is bounded by the directory of ``limits.ZIP_ENTRIES``, about 7 MB.
    """
    if not _END.size <= size <= _SIZE:
        raise ContentRejected("auraseal.zip-size", f"{size} bytes are not a zip package")
    tail = read(size - _END.size, size)
    if len(tail) != _END.size:
        raise ContentRejected("auraseal.zip-form", "the file became shorter while it was read")
    magic, _, _, _, count, listing, at, _ = _END.unpack(tail)
    if magic != b"PK\x05\x06":
        raise ContentRejected("auraseal.zip-form", "not a zip package, or not all of one: it does not end like one")
    if at + listing + _END.size != size:
        raise ContentRejected("auraseal.zip-form", "the central directory does not end the file")
    longest = _CENTRAL.size + limits.ZIP_PATH_CHARS
    if count > limits.ZIP_ENTRIES or not count * _CENTRAL.size <= listing <= count * longest:
        raise ContentRejected("auraseal.zip-form", f"{count} entries in {listing} bytes of central directory")
    layout = ZipLayout(tuple(_entries(read(at, at + listing), count)))
    _demand_layout(layout, size, read)
    return layout


def _entries(directory: bytes, count: int) -> Iterator[ZipEntry]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise ContentRejected("auraseal.zip-form", "the central directory is too short")
        fields = _CENTRAL.unpack_from(directory, at)
        crc32, size, chars, extra, comment = fields[7], *fields[9:13]
        if extra or comment:
            raise ContentRejected("auraseal.zip-form", "an entry with an extra field or a comment")
        name = directory[at + _CENTRAL.size : at + _CENTRAL.size + min(chars, limits.ZIP_PATH_CHARS + 1)]
        yield ZipEntry(name.decode("latin-1"), size, crc32)
        at += _CENTRAL.size + len(name)


def _demand_layout(layout: ZipLayout, size: int, read: ReadBytes) -> None:
    if layout.size != size:
        raise ContentRejected("auraseal.zip-form", f"{size} bytes where its entries make {layout.size}")
    at = 0
    for piece in layout.pieces():
        if isinstance(piece, Data):
            at += piece.stop - piece.start
            continue
        if read(at, at + len(piece)) != piece:
            raise ContentRejected("auraseal.zip-form", f"other bytes than its entries make, from {at} on")
        at += len(piece)
