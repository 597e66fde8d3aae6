"""One tar header block, read strictly: which kind of entry it announces, or which rule it breaks (DESIGN 3.4).

Owners and times must have their form, their values are ignored. What a typeflag means is one table; a kind that is not
in it, or is refused by it, rejects with its own reason. Specification: ``archive.md``, 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.package.archive_writer import checksum

__all__ = ["Header", "parse_header", "parse_pax_path"]

Kind = Literal["file", "folder", "pax"]
_KINDS: dict[bytes, Kind] = {b"0": "file", b"5": "folder", b"x": "pax"}
_REFUSED = {
    b"1": ("archive.hardlink", "a hard link"),
    b"2": ("archive.symlink", "a symbolic link"),
    b"3": ("archive.device", "a character device"),
    b"4": ("archive.device", "a block device"),
    b"6": ("archive.fifo", "a fifo"),
    b"g": ("archive.global-header", "a pax global header"),
    b"K": ("archive.gnu", "a GNU long link name"),
    b"L": ("archive.gnu", "a GNU long name"),
    b"M": ("archive.gnu", "a GNU continuation"),
    b"S": ("archive.sparse", "a sparse file"),
}
# mode, uid, gid, size, mtime: octal digits and a NUL each, side by side at 100..148
_NUMBERS = re.compile(rb"([0-7]{7})\0[0-7]{7}\0[0-7]{7}\0([0-7]{11})\0[0-7]{11}\0")
_NUMBERS_AT = (100, 108, 116, 124, 136)
_NO_DEVICE = (bytes(16), b"0000000\0" * 2)
_CHECKSUM = re.compile(rb"[0-7]{6}\0 ")
_ZEROS = bytes(512)
_RECORD = re.compile(rb"([1-9][0-9]{0,9}) ([^=\n]+)=", re.ASCII)


@dataclass(frozen=True, slots=True)
class Header:
    """An accepted header: its ``kind``, the ``name`` field, ``size`` of what follows in bytes, ``mode``."""

    kind: Kind
    name: str
    size: int
    mode: int


def parse_header(block: bytes) -> Header:
    """Read 512 bytes that are not all zero; raises :class:`ContentRejected` (``archive.*``)."""
    if not _CHECKSUM.fullmatch(block, 148, 156) or int(block[148:154], 8) != checksum(block):
        raise ContentRejected("archive.header-checksum", "a tar header whose checksum does not hold")
    typeflag = block[156:157]
    shown = block[:100].rstrip(b"\0").decode("utf-8", "backslashreplace")
    if typeflag in _REFUSED:
        reason, what = _REFUSED[typeflag]
        raise ContentRejected(reason, f"{what}: {shown!r:.200}", evidence={"path": shown})
    if typeflag not in _KINDS:
        raise ContentRejected("archive.type", f"an entry of type {typeflag!r}: {shown!r:.200}")
    if block[257:265] != b"ustar\x0000":
        raise ContentRejected("archive.format", f"not a POSIX tar header: {shown!r:.200}")
    numbers = _NUMBERS.fullmatch(block, 100, 148)
    if not numbers:
        raise _number_fault(block, shown)
    mode, size = int(numbers[1], 8), int(numbers[2], 8)
    _check_unused(block, shown)
    kind = _KINDS[typeflag]
    _check_meaning(kind, size, mode, shown)
    return Header(kind, _name(block[:100]) if kind != "pax" else "", size, mode)


def parse_pax_path(body: bytes) -> str:
    """The path of a pax header that holds one ``path`` record and nothing else; raises :class:`ContentRejected`."""
    path: str | None = None
    while body:
        match = _RECORD.match(body)
        length = int(match[1]) if match else 0
        # Its head holds no LF, so a record that ends with one where its length says is longer than that, and complete.
        if not match or body[length - 1 : length] != b"\n":
            raise ContentRejected("archive.pax", "a malformed pax record")
        keyword, value, body = match[2], body[match.end() : length - 1], body[length:]
        if keyword.startswith(b"GNU.sparse."):
            raise ContentRejected("archive.sparse", "a pax record of a sparse file")
        if keyword != b"path":
            raise ContentRejected("archive.pax-key", f"the pax record {keyword.decode('ascii', 'replace')!r:.100}")
        if path is not None:
            raise ContentRejected("archive.pax", "two pax records 'path'")
        path = _utf8(value)
    if path is None:
        raise ContentRejected("archive.pax", "a pax header without a record")
    return path


def _number_fault(block: bytes, shown: str) -> ContentRejected:
    if any(block[at] & 0x80 for at in _NUMBERS_AT):
        return ContentRejected("archive.base256", f"a number in base 256: {shown!r:.200}")
    return ContentRejected("archive.header", f"a number that is not octal digits and a NUL: {shown!r:.200}")


def _check_unused(block: bytes, shown: str) -> None:
    if block[329:345] not in _NO_DEVICE:
        raise ContentRejected("archive.header", f"a device number: {shown!r:.200}")
    if block[345:500] != _ZEROS[345:500]:
        raise ContentRejected("archive.prefix", f"the prefix field is used: {shown!r:.200}")
    if block[157:257] != _ZEROS[157:257] or block[500:] != _ZEROS[500:]:
        raise ContentRejected("archive.header", f"a link name, or bytes behind the header's last field: {shown!r:.200}")


def _check_meaning(kind: Kind, size: int, mode: int, shown: str) -> None:
    if kind == "file" and mode not in (0o644, 0o755):
        raise ContentRejected("archive.mode", f"mode {mode:o} of {shown!r:.200}", evidence={"path": shown})
    if kind == "folder" and mode > 0o777:
        raise ContentRejected("archive.mode", f"mode {mode:o} of the folder {shown!r:.200}")
    if kind == "folder" and size:
        raise ContentRejected("archive.folder", f"a folder with content: {shown!r:.200}")
    if kind == "pax" and not 0 < size <= limits.PAX_BYTES:
        raise ContentRejected("archive.pax", f"a pax header of {size} bytes, where 1 to {limits.PAX_BYTES} are allowed")


def _name(field: bytes) -> str:
    name, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise ContentRejected("archive.path", f"bytes behind the NUL of a name: {field!r:.200}")
    if not name.isascii():
        raise ContentRejected("archive.path", f"a name that is not ASCII and has no pax record: {name!r:.200}")
    return name.decode("ascii")


def _utf8(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContentRejected("archive.path", f"a path that is not UTF-8: {value!r:.200}") from error
