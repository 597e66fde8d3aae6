"""Kills a real resolver process at random moments, starts it again, and counts what it had to download."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from libreseed.ids import PublicKey
from libreseed.resolve.journal import JournalHeader, Kind, Origin, replay
from tests.resolver_support import KEY, Sample, Scene, assert_installed


@dataclass
class Ordeal:
    """What happened: how many runs were killed, data chunks journaled as downloaded, the last run's result."""

    kills: int = 0
    downloads: Counter[int] = field(default_factory=Counter)
    result: dict[str, object] = field(default_factory=dict)


def command(it: Scene, *more: str, publisher: PublicKey = KEY.public) -> list[str]:
    """A resolver process for the scene's release."""
    line = [sys.executable, "-m", "libreseed_services.resolver.cli", str(it.sample.minimal.release)]
    line += ["--store", str(it.store), "--publisher", str(publisher), "--json", "--quiet"]
    line += [] if "--bundle" in more else ["--no-silexium"]
    for node in it.bootstrap:
        line += ["--bootstrap", str(node)]
    return [*line, *more]


def downloaded(sample: Sample, store: Path) -> Counter[int]:
    """How often each data chunk is journaled as downloaded in the unfinished download."""
    header = JournalHeader(
        sample.minimal.chunks, sample.layout.grid.n, sample.layout.grid.parity_chunks(sample.layout.m)
    )
    counts: Counter[int] = Counter()
    for path in (store / "staging").glob("*/journal"):
        for run in replay(path.read_bytes(), header).runs:
            if run.kind is Kind.DATA and run.origin in (Origin.SWARM, Origin.PEER, Origin.MIRROR):
                counts.update(range(run.first, run.first + run.count))
    return counts


async def kill_and_resume(
    it: Scene, draw: random.Random, *, most_kills: int, longest_s: float, more: Sequence[str] = ()
) -> Ordeal:
    """Start, kill after a random time, look, start again; let it finish after ``most_kills`` kills.

    Where all others came before the first verified chunk (a slow machine), the last kill waits for it.
    """
    ordeal = Ordeal()
    line = command(it, *(arg for seeder in it.seeders for arg in ("--peer", str(seeder.endpoint))), *more)
    while True:
        early = ordeal.kills >= most_kills - 1 and not ordeal.downloads  # nothing was shown yet
        limit = draw.uniform(0.15, longest_s) if ordeal.kills < most_kills or early else None
        done = await _run(line, limit, (lambda: bool(downloaded(it.sample, it.store))) if early else lambda: True)
        final = it.store / "packages" / str(it.sample.minimal.release)
        if done is not None:
            assert done.returncode == 0, done.stderr.decode()[-800:]
            ordeal.result = json.loads(done.stdout)
            return ordeal
        ordeal.kills += 1
        ordeal.downloads = downloaded(it.sample, it.store)
        if final.exists():  # the kill came after the last step: whole, or not at all
            assert_installed(it.sample, str(final))
            most_kills = ordeal.kills


async def _run(
    line: Sequence[str], limit: float | None, ripe: Callable[[], bool]
) -> subprocess.CompletedProcess[bytes] | None:
    """The finished process, or None when it was killed after ``limit`` seconds, as soon as it was ``ripe``."""
    start = partial(trio.run_process, line, capture_stdout=True, capture_stderr=True, check=False)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIBRESEED_")}
    start = partial(start, env=environment, deliver_cancel=_kill)
    done = None
    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            if limit is not None:
                nursery.start_soon(_end, nursery.cancel_scope, limit, ripe)
            done = await start()
            nursery.cancel_scope.cancel()
    return done


async def _end(scope: trio.CancelScope, limit: float, ripe: Callable[[], bool]) -> None:
    await trio.sleep(limit)
    while not ripe():
        await trio.sleep(0.05)  # the journal of another process
    scope.cancel()


async def _kill(process: trio.Process) -> None:
    process.send_signal(signal.SIGKILL)
