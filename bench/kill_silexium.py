"""Kills the processes that write a log, and those of a witness, with SIGKILL at random moments.

    python bench/kill_silexium.py [--kills 100] [--seed 1]

Two processes at once append to one log, sign and export it; then two ask one witness to cosign two branches of a forked
log. After every kill: no entry that was reported durable is missing or different, no size has two roots, no head is
lost, no time goes back, the export folder can be mirrored and only grows, and the witness has cosigned one history.
Exits with an AssertionError at the first breach.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from libreseed.adapters.silexium.log.log_check import check_log
from tests.log_kill_support import Told, kill_cosigners, kill_writers
from tests.log_support import open_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="libreseed-kill-") as place:
        for name, kill in (("writers of a log", kill_writers), ("cosigners of a fork", kill_cosigners)):
            folder, told = Path(place) / kill.__name__, Told()
            folder.mkdir()
            for number in range(1, arguments.kills + 1):
                kill(folder, draw, told)
                print(f"\r{name}: {number} kills", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            print(f"{name}: {arguments.kills} times two killed; {dict(sorted(told.counts.items()))}; all held")
            if kill is kill_writers:
                with open_log(folder / "log.db") as store:
                    print(f"  {check_log(store)}")


if __name__ == "__main__":
    main()
