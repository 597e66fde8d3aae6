"""The tar form of an archive entry: pure functions from path, size and mode to header bytes (DESIGN 3.4).

Every field has one value: what the file system says about owners, times and devices does not reach the bytes. The form
is the one of POSIX pax with one possible record, ``path``; ``tar`` and :mod:`tarfile` read it. Compression is
``adapters/gzip_stream``, order and content are the caller's. Specification: ``archive.md``, 2.
"""

from __future__ import annotations

import struct

from libreseed import limits
from libreseed.errors import ContentRejected

__all__ = ["BLOCK_BYTES", "TAR_END", "checksum", "entry_header", "fits_name_field", "padding"]

BLOCK_BYTES = 512
TAR_END = bytes(limits.TAR_END_BYTES)

# name mode uid gid size mtime checksum typeflag linkname magic version uname gname devmajor devminor prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_PAX_NAME = b"././@PaxHeader"  # as Python's tarfile has it


def entry_header(path: str, size: int, mode: int, mtime: int = 0) -> bytes:
    """The header blocks of a regular file: one block, or a pax header, its record and one block.

    ``size`` is in bytes, ``mode`` 0o644 or 0o755, ``mtime`` in seconds of the Unix epoch (0 to 2^33-1). ``path`` must
    have passed ``check_path``. Raises :class:`ContentRejected` (``archive.header``) for what the fields cannot hold.
    """
    if not 0 <= size <= limits.FILE_BYTES or not 0 <= mtime < 8**11 or mode not in (0o644, 0o755):
        raise ContentRejected("archive.header", f"no tar header can hold {path!r:.200}: {size=} {mode=:o} {mtime=}")
    if fits_name_field(path):
        return _block(path.encode("ascii"), b"0", size, mode, mtime)
    record = _pax_record(path)
    short = path.encode("ascii", "replace")[: limits.USTAR_NAME_BYTES]
    return (
        _block(_PAX_NAME, b"x", len(record), 0, 0)
        + record
        + bytes(padding(len(record)))
        + _block(short, b"0", size, mode, mtime)
    )


def fits_name_field(path: str) -> bool:
    """Whether ``path`` stands in the ``name`` field: ASCII, at most 100 bytes. All others take a pax record."""
    return path.isascii() and len(path) <= limits.USTAR_NAME_BYTES


def padding(size: int) -> int:
    """How many zero bytes follow ``size`` bytes of content."""
    return -size % BLOCK_BYTES


def checksum(block: bytes) -> int:
    """The sum of a header's bytes, its checksum field taken as spaces."""
    return sum(block) - sum(block[148:156]) + 8 * 0x20


def _block(name: bytes, typeflag: bytes, size: int, mode: int, mtime: int) -> bytes:
    block = _HEADER.pack(
        name,
        b"%07o\0" % mode,
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b"        ",
        typeflag,
        b"",
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"",
        b"",
        b"",
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax_record(path: str) -> bytes:
    """``"<length> path=<path>\\n"``, where the length in decimal counts its own digits."""
    body = b" path=" + path.encode("utf-8") + b"\n"
    length = len(body)
    while length != len(str(length)) + len(body):
        length = len(str(length)) + len(body)
    return str(length).encode("ascii") + body
