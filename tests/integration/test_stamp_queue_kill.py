"""kill -9 of a process that gets stamps: nothing that was stored is lost, changed or asked for again."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.stamps.embedded import embedded_world
from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedTimeStampService
from libreseed.adapters.silexium.stamps.stamp_queue import STAMP_SCHEMA, StampQueue
from libreseed.silexium.bitcoin_headers import REGTEST
from libreseed.silexium.stamps import TimePolicy, anchored_at, stamped_at
from tests.stamp_worker import message

COUNT, KILLS = 40, 8


def stored(folder: Path) -> dict[tuple[bytes, str], bytes]:
    """Every promise and proof in the queue, by attestation and kind."""
    if not (folder / "silexium.db").exists():
        return {}
    with closing(sqlite3.connect(folder / "silexium.db")) as connection:
        rows = connection.execute("SELECT message, kind, state, proof FROM stamp_jobs WHERE state = 'done'").fetchall()
    return {(row[0], row[1]): row[3] for row in rows}


def start(folder: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "tests.stamp_worker", str(folder), str(COUNT)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])


@pytest.mark.slow
@pytest.mark.integration
def test_kill_9_loses_no_stamp_and_asks_for_none_twice(tmp_path: Path) -> None:
    draw = random.Random(9)
    before: dict[tuple[bytes, str], bytes] = {}
    partly, slowness = 0, 1
    for _ in range(KILLS):
        with start(tmp_path) as worker:
            assert worker.stdout is not None and worker.stdout.readline() == b"ready\n"
            try:
                worker.wait(slowness * draw.uniform(0.02, 0.5))
            except subprocess.TimeoutExpired:
                worker.kill()
        now = stored(tmp_path)
        assert before.items() <= now.items()  # what was done stays, byte for byte
        partly += len(before) < len(now) < 2 * COUNT
        slowness += now == before  # it is given longer where it got nowhere
        before = now
    assert partly > 1, "no kill came while there was work"
    with start(tmp_path) as worker:
        assert worker.wait(60) == 0
    check(tmp_path, before)


def check(folder: Path, before: dict[tuple[bytes, str], bytes]) -> None:
    """All is stamped once and verifies; the calendar was asked once more per kill at the most."""
    world = embedded_world(folder / "world")
    policy = TimePolicy((EmbeddedTimeStampService(world).trusted,), network=REGTEST)
    with open_database(folder / "silexium.db", [STAMP_SCHEMA]) as database:
        queue = StampQueue(database, [])
        for number in range(COUNT):
            status = queue.status(message(number))
            assert (len(status.tokens), len(status.proofs), status.open) == (1, 1, ())
            stamped_at(status.tokens, message(number), policy, now=world.clock())
            anchored_at(status.proofs, message(number), policy, [world.chain()])
    assert before.items() <= stored(folder).items()
    with closing(sqlite3.connect(folder / "world" / "calendar.db")) as connection:
        (commitments,) = connection.execute("SELECT COUNT(*) FROM commitments").fetchone()
    assert COUNT <= commitments <= COUNT + KILLS
