"""Processes that write a log, or cosign for one, until they are killed; and what must hold whenever they are.

A worker tells on stdout what it has been told is durable. Nothing that was told may ever be missing or different.
"""

from __future__ import annotations

import contextlib
import random
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.log.log_check import check_log
from libreseed.adapters.silexium.log.log_export import export_log
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.watching.witness_store import WITNESS_SCHEMA, WitnessStore
from libreseed.errors import LocalFault, NotFound, ProofRejected
from libreseed.silexium.witness_wire import AddCheckpoint
from tests.log_support import START, Source, checkpoint_of, entry, grow, mirror_of, open_log
from tests.silexium_support import LOG, LOG_KEY, private

NAME, KEY = "w1.example", private(31)
_EXPORTS_UP_TO = 3000  # entries; a file for each costs more than the log


# --- workers: python -m tests.log_kill_support KIND FOLDER NUMBER ---------------------------------------


def write_log(folder: Path, number: int) -> None:
    """Append, sign and export for ever."""
    draw = random.Random()
    with open_log(folder / "log.db") as store:
        for step in range(10**9):
            count = draw.choice((1, 1, 1, 2, 7, 300))
            mark = f"{number}-{draw.getrandbits(64):x}"
            indices = store.append([entry(at, mark) for at in range(count)])
            tell("appended", indices.start, count, mark)
            if draw.random() < 0.5:
                sth = store.sign_head(LOG_KEY, int(time.time()))
                tell("signed", sth.size, sth.root.hex, sth.timestamp)
            if step % 10 == 3 and store.size < _EXPORTS_UP_TO:
                with contextlib.suppress(LocalFault, NotFound):  # the other one is exporting; no head yet
                    export_log(store, folder / "public")


def cosign(folder: Path, number: int) -> None:
    """Have the heads of one branch cosigned for ever, from whatever was cosigned last."""
    with (
        open_log(folder / f"branch{number}.db") as log,
        open_database(folder / "witness.db", (WITNESS_SCHEMA,)) as database,
    ):
        witness = WitnessStore(database, NAME, KEY, (LOG,))
        for _ in range(10**9):
            memory = witness.cosigned(LOG.name)
            old = 0 if memory is None else memory.head.size
            size = max(old, log.size) + random.randrange(1, 4)
            sth = grow(log, size, START + size, f"branch{number}")
            hashes = log.consistency(old, size).hashes if 0 < old < size else ()
            try:
                done = witness.add_checkpoint(AddCheckpoint(old, hashes, checkpoint_of(sth)), START + size)
            except ProofRejected as error:
                tell("refused", error.reason)
            else:
                tell("cosigned", done.head.size, done.head.root.hex)


def tell(*words: object) -> None:
    print(*words, flush=True)


# --- the ordeal ------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What the killed ones had been told is durable."""

    entries: dict[int, bytes] = field(default_factory=dict)
    heads: dict[int, tuple[str, int]] = field(default_factory=dict)
    cosigned: dict[int, set[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def hear(self, line: str) -> None:
        kind, *words = line.split()
        self.counts[kind] += 1
        if kind == "appended":
            start, count = int(words[0]), int(words[1])
            for at in range(count):
                body = entry(at, words[2])
                assert self.entries.setdefault(start + at, body) == body, f"entry {start + at} was logged twice"
        elif kind == "signed":
            size, root, at = int(words[0]), words[1], int(words[2])
            known = self.heads.setdefault(size, (root, at))
            assert known[0] == root, f"{size} entries have two roots"
            self.heads[size] = (root, max(at, known[1]))
        elif kind == "cosigned":
            self.cosigned.setdefault(int(words[0]), set()).add(words[1])


def kill_writers(folder: Path, draw: random.Random, told: Told, writers: int = 2) -> None:
    """Start writers, kill them all after a random time, and compare the log with what they told."""
    _kill("log", folder, draw, told, writers)
    size = max(told.entries, default=-1) + 1
    with open_log(folder / "log.db") as store:
        assert store.size >= size, f"the log shrank: {store.size} entries, {size} were durable"
        if draw.random() < 0.1:
            check_log(store)
        for index in draw.sample(sorted(told.entries), min(50, size)) + [size - 1] * (size > 0):
            assert store.entry(index) == told.entries[index]
        for signed, (root, at) in sorted(told.heads.items())[-20:]:
            assert store.root_at(signed).hex() == root
            with store.database.read() as connection:
                row = connection.execute("SELECT root, timestamp FROM log_sth WHERE size = ?", (signed,)).fetchone()
            assert row[0].hex() == root and row[1] >= at, "a head was lost, or its time went back"
    _mirror(folder)


def kill_cosigners(place: Path, draw: random.Random, told: Told) -> None:
    """Two branches of a forked log ask one witness; whatever it cosigned is of one history.

    After every third kill the world is made anew, since a branch that has lost never wins again.
    """
    folder = place / str(told.counts["kills"] // 3)
    if not folder.exists():
        folder.mkdir()
        told.cosigned.clear()
    told.counts["kills"] += 1
    _kill("witness", folder, draw, told, 2)
    last = 0
    for size, roots in sorted(told.cosigned.items()):
        assert len(roots) == 1, f"two roots of {size} entries were cosigned"
        last = size
    with open_database(folder / "witness.db", (WITNESS_SCHEMA,)) as database:
        memory = WitnessStore(database, NAME, KEY, (LOG,)).cosigned(LOG.name)
    assert memory is None or memory.head.size >= last, "a cosigned head was forgotten"
    for number in range(2):
        with open_log(folder / f"branch{number}.db") as log:
            fits = [size for size, roots in told.cosigned.items() if size <= log.size]
            if all(log.root_at(size).hex() in told.cosigned[size] for size in fits if size):
                return
    raise AssertionError("heads of two histories were cosigned")


def _mirror(folder: Path) -> None:
    """What the public sees is whole at any moment, and only grows."""
    if LogFolder(folder / "public").checkpoint() is not None:
        mirror_of(folder / "mirror").update(Source(folder / "public"), int(time.time()))


def _kill(kind: str, folder: Path, draw: random.Random, told: Told, count: int) -> None:
    line = [sys.executable, "-m", "tests.log_kill_support", kind, str(folder)]
    workers = [
        subprocess.Popen([*line, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    try:
        for worker in workers:  # a random time after each has begun to work
            assert worker.stdout is not None
            if not select.select([worker.stdout], [], [], 60)[0]:
                raise AssertionError("a worker does not begin")
        time.sleep(draw.uniform(0.0, 0.25))
    finally:
        for worker in workers:
            worker.kill()
    for worker in workers:
        output, errors = worker.communicate(timeout=60)
        assert worker.returncode == -9, f"a worker ended by itself: {errors[-2000:]}"
        for spoken in output.splitlines(keepends=True):
            if spoken.endswith("\n"):  # the last line may be cut off
                told.hear(spoken)


if __name__ == "__main__":
    {"log": write_log, "witness": cosign}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
