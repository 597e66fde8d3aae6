"""Works on a stamp queue until all is done, and is made to be killed: ``python -m tests.stamp_worker FOLDER COUNT``."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.stamps.embedded import embedded_world
from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedCalendarService, EmbeddedTimeStampService
from libreseed.adapters.silexium.stamps.stamp_queue import STAMP_SCHEMA
from libreseed.adapters.silexium.stamps.stamping import Stamping
from libreseed.silexium.stamp_job import Pace


def message(number: int) -> bytes:
    return b"attestation %d" % number


async def main(folder: Path, count: int) -> None:
    world = embedded_world(folder / "world")
    with open_database(folder / "silexium.db", [STAMP_SCHEMA]) as database:
        services = [EmbeddedTimeStampService(world)], [EmbeddedCalendarService(world)]
        stamping = Stamping(database, *services, world.chain, pace=Pace(retry_first=1, poll_first=0))
        print("ready", flush=True)
        await stamping.want([message(number) for number in range(count)], world.clock())
        while (step := await stamping.advance(world.clock())).next_due is not None:
            await trio.sleep(max(step.next_due - world.clock(), 0))


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
