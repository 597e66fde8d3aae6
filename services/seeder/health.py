"""Reads a stored release against its chunk map, repairs it from its parity, and reads it again (section 3.6).

:class:`Health` is what an examination found. The stamps in it were the same before and after the reading, else they are
left out, so that a file that changed meanwhile is not trusted. All reading is counted by one :class:`Meter`; it runs in
at most two threads, in portions, so that a scrub keeps to its rate and ends at once when it is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore, RepairReport
from libreseed.adapters.files.stopping import cancel_flag, stop_if
from libreseed.adapters.release.seed_store import SeedStore
from libreseed.errors import LocalFault
from libreseed.repair.chunkmap import ChunkMap

from .stored import Stored, open_stored, rebuild_map, rebuild_metainfo

__all__ = ["Health", "Meter", "check_release"]

_RUN = 1024  # chunks judged at a time: 5 MiB


@dataclass(slots=True)
class Meter:
    """Counters of one daemon: bytes read to be judged, chunks judged and healed, small files mended, checks ended."""

    bytes_hashed: int = 0
    chunks_judged: int = 0
    chunks_healed: int = 0
    files_mended: int = 0
    scrubs: int = 0
    threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(2))


@dataclass(frozen=True, slots=True)
class Health:
    """What is bad of a release: runs of data and parity chunks; ``misfit``: a file is longer or shorter than it should.

    ``stamps`` are those of the files that were judged, ``healed`` the number of chunks that this check repaired.
    """

    stamps: dict[str, str]
    bad_data: tuple[range, ...] = ()
    bad_parity: tuple[range, ...] = ()
    misfit: bool = False
    healed: int = 0

    @property
    def good(self) -> bool:
        """Whether every byte of .tgz and .parity is right."""
        return not (self.bad_data or self.bad_parity or self.misfit)


async def check_release(
    store: SeedStore, stored: Stored, meter: Meter, *, rate: int = 0, before_repair: Callable[[Health], Awaitable[None]]
) -> tuple[Stored, Health]:
    """Read everything anew, put right what can be, and read it again; returns the release as it is now.

    ``before_repair`` is told of damage (and awaited) before any byte is changed. Raises LibreSeedError when no signed
    record is left, and LocalFault ``storage.io`` when the chunk map is lost and cannot be built anew.
    """
    stored, chunk_map = await trio.to_thread.run_sync(_reread, store, stored, meter, limiter=meter.threads)
    health = await _examine(stored, chunk_map, meter, rate)
    if not health.good:
        await before_repair(health)
        healed = await _heal(stored, chunk_map, meter)
        health = replace(await _examine(stored, chunk_map, meter, rate), healed=healed)
    if stored.metainfo is None and health.good:
        metainfo = await trio.to_thread.run_sync(rebuild_metainfo, stored, limiter=meter.threads)
        meter.bytes_hashed += stored.minimal.size
        meter.files_mended += metainfo is not None
        stored = replace(stored, metainfo=metainfo)
    return stored, health


def _reread(store: SeedStore, known: Stored, meter: Meter) -> tuple[Stored, ChunkMap]:
    """The small files as they are on disk now; a lost chunk map is made anew from the large files."""
    found = open_stored(store, known.folder)
    meter.files_mended += len(found.mended)
    chunk_map = found.chunk_map
    if chunk_map is None:
        chunk_map = rebuild_map(found)
        meter.bytes_hashed += found.minimal.size
        if chunk_map is None:
            message = (
                f"the chunk map of {found.minimal.release} is lost, and the other files are too damaged to build it"
            )
            raise LocalFault("storage.io", message)
        meter.files_mended += 1
    return replace(found, chunk_map=chunk_map), chunk_map


async def _examine(stored: Stored, chunk_map: ChunkMap, meter: Meter, rate: int) -> Health:
    before = stored.stamps()
    files = ChunkStore(chunk_map, stored.file(".tgz"), stored.file(".parity"))
    grid, m = chunk_map.grid, chunk_map.m
    bad_data = await _judge(files.verify_data, grid.n, meter, rate)
    bad_parity = await _judge(files.verify_parity, grid.parity_chunks(m), meter, rate)
    after = stored.stamps()
    sizes = {".tgz": grid.size, ".parity": grid.parity_bytes(m)}
    misfit = any(after.get(suffix, "").split(":")[0] != str(size) for suffix, size in sizes.items())
    steady = {suffix: stamp for suffix, stamp in after.items() if before.get(suffix) == stamp}
    return Health(steady, bad_data, bad_parity, misfit)


async def _judge(judge: Callable[[range], bytearray], count: int, meter: Meter, rate: int) -> tuple[range, ...]:
    bad: list[range] = []
    began = trio.current_time()
    for start in range(0, count, _RUN):
        run = range(start, min(start + _RUN, count))
        flags = await trio.to_thread.run_sync(judge, run, limiter=meter.threads)
        bad += _bad_runs(flags, start)
        meter.chunks_judged += len(run)
        meter.bytes_hashed += len(run) * limits.CHUNK_BYTES
        if rate:
            await trio.sleep_until(began + run.stop * limits.CHUNK_BYTES / rate)
    return tuple(bad)


async def _heal(stored: Stored, chunk_map: ChunkMap, meter: Meter) -> int:
    """One pass of repair in a thread; cancelled, it stops within a group of stripes (what it wrote is right)."""
    files = ChunkStore(chunk_map, stored.file(".tgz"), stored.file(".parity"))
    with cancel_flag() as cancelled:

        def repair() -> RepairReport:
            return files.repair(heal_parity=True, progress=lambda stripes: stop_if(cancelled))

        report = await trio.to_thread.run_sync(repair, limiter=meter.threads, abandon_on_cancel=True)
    healed = len(report.repaired) + len(report.repaired_parity)
    meter.bytes_hashed += chunk_map.grid.size + chunk_map.grid.parity_bytes(chunk_map.m)
    meter.chunks_healed += healed
    return healed


def _bad_runs(flags: bytearray, first: int) -> list[range]:
    """Runs of zeros in ``flags``, whose first element is chunk ``first``."""
    runs: list[range] = []
    at = flags.find(0)
    while at >= 0:
        end = flags.find(1, at)
        end = len(flags) if end < 0 else end
        runs.append(range(first + at, first + end))
        at = flags.find(0, end)
    return runs
