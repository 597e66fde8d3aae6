"""Where the bytes of answers come from: files of a copy, and the package zip that is made of them while it is sent.

A file that is still the one that was judged (its stamp says so, asked before every portion) is read as it is; that is
why the mirror keeps near a plain file server's rate. One that is not, because it is being healed or somebody writes to
it, is read chunk by chunk against the signed chunk map, and the copy is judged anew. So bytes that changed on the disk
behind the file system's back are found by the scrub, all others before they are sent; either way a client verifies
what it gets. Reading is done in threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.http.guards import CutOff
from libreseed.adapters.http.ranges import Span
from libreseed.adapters.release.seed_store import Stamp
from libreseed.auraseal.zip_layout import Data, ZipLayout
from libreseed.errors import NotFound, TransportFault
from libreseed.repair.chunkmap import ChunkMap, chunk_digests

from .copies import Copy
from .library import Holding, Library

__all__ = ["CopyFile", "ZipBody", "opened"]

_CHUNK = limits.CHUNK_BYTES
_CONTENT = (".tgz", ".parity", ".chunks")  # a copy without them is damaged


@dataclass(frozen=True, slots=True)
class CopyFile:
    """An open file of a holding, with ``suffix``; a body of an answer."""

    library: Library
    holding: Holding
    suffix: str
    descriptor: int
    size: int

    def prepare(self, spans: Sequence[Span]) -> None:
        """Refuse (``mirror.damaged``) what has a bad chunk in it."""
        note = self._copy().note
        bad = {".tgz": note.bad_data, ".parity": note.bad_parity}.get(self.suffix, ())
        for start, stop in spans:
            if any(run.start * _CHUNK < stop and start < run.stop * _CHUNK for run in bad):
                raise _damaged(self.holding)

    async def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to ``stop``; raises :class:`CutOff` when they are no longer to be had."""
        return await trio.to_thread.run_sync(self._read, self._copy(), start, stop) or await self._read_verified(
            start, stop
        )

    def _read(self, copy: Copy, start: int, stop: int) -> bytes:
        """The bytes if the file is the one that was judged, else none; blocks."""
        if not copy.fresh(self.suffix, _stamp(self.descriptor)):
            return b""
        data = os.pread(self.descriptor, stop - start, start)
        return data if len(data) == stop - start else b""

    async def _read_verified(self, start: int, stop: int) -> bytes:
        self.library.suspect(self.holding)
        if self.suffix not in (".tgz", ".parity"):
            raise CutOff(f"{self.holding.release}: {self.suffix} changed while it was sent")
        copy = self._copy()
        chunk_map = await self.library.chunk_map(copy)
        data = await trio.to_thread.run_sync(_read_chunks, self, chunk_map, start, stop)
        if data is None:
            raise CutOff(f"{self.holding.release}: {self.suffix} has wrong bytes between {start} and {stop}")
        return data

    def _copy(self) -> Copy:
        if self.holding.copy is None:
            raise CutOff(f"{self.holding.release} is shown no longer")
        return self.holding.copy


def _read_chunks(file: CopyFile, chunk_map: ChunkMap, start: int, stop: int) -> bytes | None:
    """The bytes, every chunk that they touch verified; None if one is wrong. Blocks."""
    run = range(start // _CHUNK, -(-stop // _CHUNK))
    if file.suffix == ".tgz":
        (offset, length), digests = chunk_map.grid.span(run), chunk_map.data_digests(run)
    else:
        offset, length, digests = run.start * _CHUNK, len(run) * _CHUNK, chunk_map.parity_digests(run)
    data = os.pread(file.descriptor, length, offset)
    if chunk_digests(data) != digests:
        return None
    return data[start - offset : stop - offset]


@dataclass(frozen=True, slots=True)
class ZipBody:
    """The package zip of a holding's .tgz: ``manifest`` is entry 0, the components are the others, end to end."""

    layout: ZipLayout
    manifest: bytes
    tgz: CopyFile

    def prepare(self, spans: Sequence[Span]) -> None:
        """A zip is given only of a whole copy, which its route has seen to."""

    async def read(self, start: int, stop: int) -> bytes:
        """As the protocol says."""
        found: list[bytes] = []
        for piece in self.layout.pieces(start, stop):
            if not isinstance(piece, Data):
                found.append(piece)
            elif piece.entry == 0:
                found.append(self.manifest[piece.start : piece.stop])
            else:
                base = (piece.entry - 1) * limits.STRIPE_DATA_ROWS * _CHUNK
                found.append(await self.tgz.read(base + piece.start, base + piece.stop))
        return b"".join(found)


@asynccontextmanager
async def opened(
    library: Library, holding: Holding, suffix: str, size: Callable[[Copy], int]
) -> AsyncIterator[CopyFile]:
    """A file of a holding's copy, for the time of one answer; ``size`` is what it must have.

    Where it is not the file that was judged, or was none then, the copy is judged anew first. Raises TransportFault
    ``mirror.checking`` when that takes too long; ``mirror.damaged`` without the file, or NotFound ``mirror.absent`` if
    it is one that a copy need not have, and for one that does not hold.
    """
    path = holding.files.path(suffix)
    descriptor = await trio.to_thread.run_sync(_open, path)
    try:
        if not _as_judged(holding, suffix, descriptor):
            if descriptor >= 0:
                os.close(descriptor)
                descriptor = -1
            library.suspect(holding)
            await library.settle(holding)
            descriptor = await trio.to_thread.run_sync(_open, path)
        if holding.copy is None:
            raise NotFound("mirror.absent", f"{holding.release} is not shown any longer")
        if suffix not in _CONTENT and not holding.copy.has(suffix):
            raise NotFound("mirror.absent", f"there is no {suffix.strip('.')} of {holding.release}")
        if descriptor < 0:
            raise _damaged(holding)
        yield CopyFile(library, holding, suffix, descriptor, size(holding.copy))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _as_judged(holding: Holding, suffix: str, descriptor: int) -> bool:
    """Whether the file, or that there is none, is what the copy was judged by."""
    now = str(_stamp(descriptor)) if descriptor >= 0 else None
    return holding.copy is not None and holding.copy.note.stamps.get(suffix) == now


def _open(path: Path) -> int:
    """A descriptor of a regular file, or -1; blocks, but never for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return -1
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return -1


def _stamp(descriptor: int) -> Stamp:
    status = os.fstat(descriptor)
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _damaged(holding: Holding) -> TransportFault:
    return TransportFault("mirror.damaged", f"the copy of {holding.release} is damaged there")
