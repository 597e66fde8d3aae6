"""Kills a Silexium server, and the ingests beside it, again and again: nothing logged is ever lost or logged twice.

    python bench/kill_silexium_server.py [--kills 100] [--seed 1]

Each round takes a release in with a process of its own, starts the server, and kills one or both with SIGKILL at a
random moment. After every kill the database is checked: no head was taken back, no size has two roots, every release
that was logged is where it was, and no release has two entries. At the end a server runs undisturbed until all are
logged, and every bundle verifies with every head seen on the way.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.silexium_kill_support import Ordeal, finish, one_round
from tests.silexium_server_support import Shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="silexium-kills-") as folder:
        shop = Shop.make(Path(folder) / "shop")
        ordeal = Ordeal(shop)
        places = [shop.attested(f"hello@1.0.{number}") for number in range(arguments.kills)]
        began = time.monotonic()
        for number, place in enumerate(places):
            one_round(ordeal, place, draw)
            if number % 10 == 9:
                print(
                    f"{number + 1} kills, {len(ordeal.logged)} logged, heads of {sorted(ordeal.heads)[-1:]}", flush=True
                )
        finish(ordeal, places)
        print(f"{arguments.kills} kills in {time.monotonic() - began:.0f} s; every release logged once, all heads fit")
        print("releases seen in a state after a kill:", dict(ordeal.kills))


if __name__ == "__main__":
    main()
