"""kill -9 the resolver at random moments, many times: nothing partial visible, no verified chunk downloaded twice.

usage: kill_resolver.py [--kills 50] [--mb 4] [--seed 1]

Each round is a fresh store; its resolver is killed up to five times and then allowed to finish. Rounds follow until the
number of kills is reached. The journal tells which chunks each run had verified.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.kill_support import kill_and_resume
from tests.resolver_support import Sample, assert_installed, make_sample, scene


async def rounds(work: Path, sample: Sample, kills: int, draw: random.Random) -> None:
    done = resumed = twice = 0
    async with scene(work, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=sample.minimal.size // 2)  # bytes per second: a download takes two seconds
        while done < kills:
            ordeal = await kill_and_resume(it, draw, most_kills=min(5, kills - done), longest_s=2.5)
            assert_installed(sample, str(ordeal.result["path"]))
            assert not list((it.store / "staging").iterdir()), "a workspace was left behind"
            done += ordeal.kills
            resumed += int(ordeal.result["chunks"]["reused"])  # type: ignore[index]
            twice += sum(count - 1 for count in ordeal.downloads.values())
            print(f"{done:4} kills, {resumed} chunks taken up again, {twice} downloaded twice", flush=True)
            shutil.rmtree(it.store)
        it.nursery.cancel_scope.cancel()
    if twice:
        raise SystemExit(f"{twice} verified chunks were downloaded twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--mb", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    choice = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-") as folder:
        sample = make_sample(Path(folder) / "release", choice.mb * 1_000_000)
        trio.run(rounds, Path(folder), sample, choice.kills, random.Random(choice.seed))


if __name__ == "__main__":
    main()
