"""The .tgz and .parity of one release on disk, judged against their chunk map, and repaired in place.

Invariants: a chunk counts as verified only if its bytes were read back from, or written *and synced* to, the disk; only
chunks that verified in the same pass enter decoding; decoded bytes are verified before they are written, and the bytes
of a stripe that does not come out right are not written at all. So a damaged, truncated or missing file, a poisoned
chunk and lying parity can lose time only. A crash leaves right bytes, or bytes that the next pass finds wrong.

Everything blocks, in bounded memory; trio code calls it in a worker thread. Section 3.6 of the specification.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.adapters.chunks.chunk_runs import ChunkRunReader, flags_of
from libreseed.adapters.chunks.stripe_io import Progress, each_group, write_at
from libreseed.errors import ContentRejected, LocalFault
from libreseed.repair.chunkmap import ChunkMap, chunk_digests, digests_of
from libreseed.repair.plan import Coherence, Verified, plan_repair

if TYPE_CHECKING:
    from libreseed.adapters.chunks.stripe_repair import RepairFindings

__all__ = ["ChunkStore", "RepairReport"]

_CHUNK = limits.CHUNK_BYTES
_VERIFY_STEP = 8192  # chunks that a thread takes at once: 40 MiB


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What one pass found and did. ``verified`` is the state after it; ``before`` the worst stripe's state before.

    ``repaired`` and ``repaired_parity`` are the chunks written. ``lying``: stripes whose parity, though it matches the
    chunk map, belongs to other data than the chunk map names.
    """

    verified: Verified
    before: Coherence
    repaired: tuple[int, ...] = ()
    repaired_parity: tuple[int, ...] = ()
    lying: tuple[int, ...] = ()

    def require_complete(self) -> None:
        """Raise :class:`ContentRejected` unless every data chunk is verified: ``parity.lying`` or ``repair.beyond``."""
        if self.verified.complete:
            return
        if self.lying:
            named = ", ".join(map(str, self.lying[:8]))
            message = f"the parity that the chunk map names is not that of the data, in stripe {named}"
            raise ContentRejected("parity.lying", message, evidence={"stripes": self.lying})
        plan_repair(self.verified).require_repairable()


class ChunkStore:
    """The files of one release; any of them may be missing, short or wrong. Holds no descriptor between calls."""

    def __init__(self, chunk_map: ChunkMap, tgz: Path, parity: Path | None = None) -> None:
        self.chunk_map = chunk_map
        self.tgz = tgz
        self.parity = parity

    def verify_data(self, chunks: range) -> bytearray:
        """One byte per chunk of the run: 1 if it stands in the .tgz as the chunk map says, else 0."""
        return self.verify_data_runs([chunks])[0]

    def verify_data_runs(self, runs: Sequence[range]) -> list[bytearray]:
        """:meth:`verify_data` of each run, for little more than the hashing even where the runs are short."""
        with _opened(self.tgz) as descriptor:
            reader, grid = ChunkRunReader(descriptor), self.chunk_map.grid
            return [reader.judge(*grid.span(run), self.chunk_map.data_digests(run)) for run in runs]

    def verify_parity(self, chunks: range) -> bytearray:
        """One byte per parity chunk of the run: 1 if it stands in the ``.parity`` file as the chunk map says."""
        with _opened(self.parity) as descriptor:
            expected = self.chunk_map.parity_digests(chunks)
            return ChunkRunReader(descriptor).judge(chunks.start * _CHUNK, len(chunks) * _CHUNK, expected)

    def verify(self, *, threads: int = 1, progress: Progress | None = None) -> Verified:
        """Judge every chunk of both files, in file order; ``progress`` counts bytes."""
        grid, m = self.chunk_map.grid, self.chunk_map.m
        verified = Verified(grid, m)
        parity_starts = range(0, grid.parity_chunks(m), _VERIFY_STEP)

        def judge(start: int) -> int:
            if start >= 0:
                run = range(start, min(start + _VERIFY_STEP, grid.n))
                verified.data[run.start : run.stop] = self.verify_data(run)
            else:  # parity runs are numbered -1, -2, ...
                first = parity_starts[-1 - start]
                run = range(first, min(first + _VERIFY_STEP, grid.parity_chunks(m)))
                verified.parity[run.start : run.stop] = self.verify_parity(run)
            return len(run) * _CHUNK

        starts = [*range(0, grid.n, _VERIFY_STEP), *range(-1, -1 - len(parity_starts), -1)]
        each_group(starts, lambda: judge, threads=threads, progress=progress)
        return verified

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the .tgz as they are, all of them; raises ``storage.io`` where the file ends before."""
        with _opened(self.tgz) as descriptor:
            data = os.pread(descriptor, length, offset) if descriptor >= 0 else b""
        if len(data) != length:
            raise LocalFault("storage.io", f"{self.tgz}: bytes from {offset + len(data)} on are gone; it was cut off")
        return data

    def write_chunk(self, i: int, data: bytes) -> None:
        """Write data chunk ``i``, which must verify (else ``chunkmap.chunk``); it counts once :meth:`sync` returns."""
        if digests_of([data]) != self.chunk_map.data_digest(i):
            raise ContentRejected("chunkmap.chunk", f"chunk {i} is not the one that the chunk map names")
        with _opened(self.tgz, write=True) as descriptor:
            write_at(descriptor, data, self.chunk_map.grid.chunk(i)[0])

    def take(self, chunks: range, data: memoryview, *, parity: bool = False) -> bytearray:
        """Judge a run of chunks that came from elsewhere and write those that are as signed; 0 or 1 for each chunk.

        Not synced: a machine that crashes has them judged again. ``data`` is the run's bytes, no less.
        """
        expected = self.chunk_map.parity_digests(chunks) if parity else self.chunk_map.data_digests(chunks)
        flags = flags_of(chunk_digests(data), expected)
        with _opened(self.parity if parity else self.tgz, write=True) as descriptor:
            for run in _runs(flags):
                part = data[run.start * _CHUNK : run.stop * _CHUNK]
                write_at(descriptor, part, (chunks.start + run.start) * _CHUNK)
        return flags

    def sync(self) -> None:
        """Return once everything written to the .tgz is on the disk."""
        with _opened(self.tgz, write=True) as descriptor:
            os.fdatasync(descriptor)

    def repair(
        self,
        *,
        known: Verified | None = None,
        heal_parity: bool = False,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> RepairReport:
        """One pass over the stripes: verify, decode what can be, write and sync it; ``progress`` counts stripes.

        Neighbourhoods that lack nothing according to ``known`` are not read again; default: all are. The .tgz gets its
        exact size. With ``heal_parity`` the parity of complete stripes is put right too. Whether the result will do is
        the caller's question: :meth:`RepairReport.require_complete`.
        """
        from libreseed.adapters.chunks.stripe_repair import RepairFindings, StripeRepairer
        from libreseed.repair.encoder import group_starts

        grid, m = self.chunk_map.grid, self.chunk_map.m
        heal_parity = heal_parity and self.parity is not None
        findings = RepairFindings(self.chunk_map, known)
        starts = group_starts(grid)
        groups = [at for at in starts if known is None or _lacks(findings.verified, at, starts.step, heal_parity)]
        with _opened(self.tgz, write=True) as tgz, _opened(self.parity, write=heal_parity) as parity:
            _set_size(tgz, grid.size)
            if heal_parity:
                _set_size(parity, grid.parity_bytes(m))

            def worker() -> Callable[[int], int]:
                repairer = StripeRepairer(self.chunk_map, tgz, parity, heal_parity=heal_parity, findings=findings)
                return repairer.repair_group

            each_group(groups, worker, threads=threads, progress=progress)
            if findings.repaired:
                os.fdatasync(tgz)
            if findings.repaired_parity:
                os.fdatasync(parity)
        return _report(findings)


def _report(findings: RepairFindings) -> RepairReport:
    return RepairReport(
        findings.verified,
        Coherence(findings.least_parts, findings.verified.grid.k + findings.verified.m),
        tuple(sorted(findings.repaired)),
        tuple(sorted(findings.repaired_parity)),
        tuple(sorted(findings.lying)),
    )


def _lacks(verified: Verified, first: int, count: int, parity_too: bool) -> bool:
    """Whether a group of stripes lacks data, or parity if that matters."""
    stripes = range(first, min(first + count, verified.grid.s))
    return any(
        verified.rows_verified(stripe) < verified.grid.k
        or (parity_too and verified.parity_verified(stripe) < verified.m)
        for stripe in stripes
    )


def _runs(flags: bytearray) -> Iterator[range]:
    """The maximal runs of 1."""
    start = flags.find(1)
    while start >= 0:
        end = flags.find(0, start)
        end = len(flags) if end < 0 else end
        yield range(start, end)
        start = flags.find(1, end)


@contextlib.contextmanager
def _opened(path: Path | None, *, write: bool = False) -> Iterator[int]:
    """A descriptor of ``path``, made if it is missing and to be written; -1 where there is no file to read.

    Nothing is waited for: what stands there may be a pipe.
    """
    if path is None:
        yield -1
        return
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_RDWR | os.O_CREAT if write else os.O_RDONLY)
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        if write:
            raise
        yield -1
        return
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            yield descriptor
        elif write:
            raise FileExistsError(errno.EEXIST, "something else stands in the place of this file", str(path))
        else:
            yield -1
    finally:
        os.close(descriptor)


def _set_size(descriptor: int, size: int) -> None:
    if os.fstat(descriptor).st_size != size:
        os.ftruncate(descriptor, size)
