"""The gzip form of a package: a deterministic writer that uses all cores, and a strict reader (DESIGN 3.4).

Writer: one member, header and trailer made here, raw deflate by zlib-ng at level 6. The stream is cut every
``limits.DEFLATE_BLOCK_BYTES``; each block is compressed on its own, primed with the last 32 KiB of the block before it,
and ends on a byte boundary. So the bytes depend on the input and on zlib-ng's version, never on threads or timing.
Reader: accepts one member of that header (any XFL), whatever compressed it, and bounds what it gives out.
Neither knows about tar. Specification: ``archive.md``, 1.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from zlib_ng import zlib_ng

from libreseed import limits
from libreseed.errors import ContentRejected

__all__ = ["OUTPUT_BYTES", "GzipReader", "GzipWriter", "default_threads", "zlib_ng_version"]

OUTPUT_BYTES = 256 * 2**10  # the reader's largest piece of output
_LEVEL = 6
_RAW_DEFLATE = -15
_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))  # FLG 0, mtime 0, XFL 0, OS 255 (RFC 1952)
_TRAILER = struct.Struct("<II")


def default_threads() -> int:
    """How many threads compress when the caller does not say: the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def zlib_ng_version() -> str:
    """The version of zlib-ng that decides the compressed bytes."""
    return str(zlib_ng.ZLIBNG_RUNTIME_VERSION)


class GzipWriter:
    """Compresses what is written and hands the .tgz to ``sink`` in order, in the caller's thread.

    Use it as a context manager, and call :meth:`close` inside: leaving without it abandons the work. Holds at most
    about ``4 * threads`` blocks. ``plain_size`` and ``size`` count uncompressed and compressed bytes.
    """

    def __init__(self, sink: Callable[[bytes], None], threads: int | None = None) -> None:
        self._sink = sink
        self._threads = threads or default_threads()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="deflate")
        self._flying: deque[tuple[int, Future[tuple[bytes, int]]]] = deque()
        self._block = bytearray(limits.DEFLATE_BLOCK_BYTES)
        self._filled = 0
        self._window = b""
        self._plain_hash = hashlib.sha256()
        self._crc = 0
        self.plain_size = 0
        self.size = 0
        self._emit(_HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def reserve(self) -> memoryview:
        """Writable room for the next bytes, never empty; follow with :meth:`commit`."""
        if self._filled == len(self._block):
            self._submit(last=False)
        return memoryview(self._block)[self._filled :]

    def commit(self, count: int) -> None:
        """Take the first ``count`` bytes of what :meth:`reserve` gave."""
        self._filled += count

    def write(self, data: bytes | memoryview) -> None:
        """Take ``data``; blocks while enough blocks are being compressed."""
        rest = memoryview(data)
        while rest:
            room = self.reserve()
            part = rest[: len(room)]
            room[: len(part)] = part
            self.commit(len(part))
            rest = rest[len(part) :]

    def close(self) -> bytes:
        """Write the rest and the trailer; returns the SHA-256 of the uncompressed stream."""
        self._submit(last=True)
        while self._flying:
            self._land()
        self._emit(_TRAILER.pack(self._crc, self.plain_size & 0xFFFFFFFF))
        return self._plain_hash.digest()

    def _submit(self, *, last: bool) -> None:
        block = memoryview(self._block)[: self._filled]
        self._plain_hash.update(block)
        while len(self._flying) >= 2 * self._threads:
            self._land()
        self._flying.append((len(block), self._pool.submit(_deflate, block, self._window, last=last)))
        self._window = bytes(block[-limits.DEFLATE_WINDOW_BYTES :])
        self._block, self._filled = bytearray(0 if last else limits.DEFLATE_BLOCK_BYTES), 0

    def _land(self) -> None:
        plain, future = self._flying.popleft()
        data, crc = future.result()
        self._crc = zlib_ng.crc32_combine(self._crc, crc, plain)
        self.plain_size += plain
        if self.plain_size > max(limits.RATIO_FREE_BYTES, limits.RATIO * self.size):
            # Judged by the output before this block, so that no reader sees a higher ratio inside it.
            raise ContentRejected("tree.ratio", f"the tree compresses better than {limits.RATIO}:1")
        self._emit(data)

    def _emit(self, data: bytes) -> None:
        self.size += len(data)
        self._sink(data)


def _deflate(block: memoryview, window: bytes, *, last: bool) -> tuple[bytes, int]:
    """One block as raw deflate, and its CRC-32. Runs in a pool thread; zlib-ng works without the interpreter's lock."""
    if window:
        deflater = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, _RAW_DEFLATE, zdict=window)
    else:
        deflater = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, _RAW_DEFLATE)
    data = deflater.compress(block) + deflater.flush(zlib_ng.Z_FINISH if last else zlib_ng.Z_SYNC_FLUSH)
    return data, zlib_ng.crc32(block)


class GzipReader:
    """Feed it the .tgz in pieces; it gives out the uncompressed stream in pieces of at most ``OUTPUT_BYTES``.

    Raises :class:`ContentRejected` (``archive.*``) and is dead after it. The ratio is judged before a piece is given.
    """

    def __init__(self) -> None:
        self._inflater = zlib_ng.decompressobj(_RAW_DEFLATE)
        self._header = b""
        self._trailer = b""
        self._crc = 0
        self._taken = 0  # compressed bytes that went into the output so far
        self._given = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that ``data`` completes."""
        if len(self._header) < len(_HEADER):
            missing = len(_HEADER) - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            self._taken = len(self._header)
            self._check_header()
        while data and not self._inflater.eof:
            piece, data = self._inflate(data)
            if piece:
                yield piece
        if data:
            self._take_trailer(data)

    def finish(self) -> None:
        """Say that no more bytes come: the member must be complete, its checksum and length true."""
        if len(self._trailer) < _TRAILER.size:
            raise ContentRejected("archive.truncated", "the .tgz ends too early")
        crc, length = _TRAILER.unpack(self._trailer)
        if crc != self._crc:
            raise ContentRejected("archive.checksum", "the CRC-32 of the gzip member does not hold")
        if length != self._given & 0xFFFFFFFF:
            raise ContentRejected("archive.length", "the length in the gzip trailer does not hold")

    def _check_header(self) -> None:
        got, expected = self._header, _HEADER[: len(self._header)]
        if got[:8] + got[9:] != expected[:8] + expected[9:]:
            raise ContentRejected("archive.gzip-header", "the gzip header is not the one of a package")

    def _inflate(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            piece: bytes = self._inflater.decompress(data, OUTPUT_BYTES)
        except zlib_ng.error as error:  # type: ignore[misc]  # its stub declares the class as an instance
            raise ContentRejected("archive.deflate", f"the compressed data is damaged: {error}") from error
        rest: bytes = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        self._taken += len(data) - len(rest)
        self._given += len(piece)
        if self._given > max(limits.RATIO_FREE_BYTES, limits.RATIO * self._taken):
            raise ContentRejected("archive.ratio", f"the archive expands more than {limits.RATIO}:1")
        self._crc = zlib_ng.crc32(piece, self._crc)
        return piece, rest

    def _take_trailer(self, data: bytes) -> None:
        missing = _TRAILER.size - len(self._trailer)
        self._trailer += data[:missing]
        if rest := data[missing:]:
            reason, what = ("second-member", "a second gzip member") if rest[0] == _HEADER[0] else ("trailing", "bytes")
            raise ContentRejected(f"archive.{reason}", f"{what} behind the gzip member")
