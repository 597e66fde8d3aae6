"""Kills a seeder with SIGKILL at random moments of everything it does, and looks at what the next start makes of it.

Run: ``python bench/kill_seeder.py [ROUNDS [MEGABYTES]]`` (default 50 rounds, 8 MB). Each round starts the daemon on
the same state directory, has it add, remove, or heal damage, and kills it after a random time. After every start: no
leftover, each listed release is either whole (byte-equal to its source) or absent, and a release that was not being
written to when the daemon died is not hashed again. Exits 1 at the first breach; prints a summary as JSON.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.daemon_support import clean_environment
from tests.seeder_support import SeederProcess, flip, make_release, running, until


def main(rounds: int, megabytes: int) -> int:
    draw = random.Random(20)
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="libreseed-kill-") as place:
        folder = Path(place)
        releases = [make_release(folder / "p", name=f"kill{n}", size=megabytes * 10**6) for n in range(3)]
        state = folder / "state"
        for number in range(rounds):
            with running(state, env={"LIBRESEED_SCRUB_INTERVAL": "3600"}) as seeder:
                judge(seeder, state, releases, seen)
                job = draw.choice(["add", "add", "heal", "heal", "remove", "idle"])
                commands = begin(job, draw, seeder, state, releases)
                time.sleep(draw.uniform(0.0, 0.3 + megabytes / 8))
                seeder.kill()
                for one in commands:
                    one.wait(60)
            seen[f"killed during {job}"] += 1
            print(f"round {number + 1}: killed during {job}", file=sys.stderr)
        with running(state) as seeder:
            judge(seeder, state, releases, seen)
            assert seeder.stop() == 0
    print(json.dumps({"rounds": rounds, "megabytes": megabytes, "ok": True, **dict(sorted(seen.items()))}))
    return 0


def begin(
    job: str, draw: random.Random, seeder: SeederProcess, state: Path, releases: list[Path]
) -> list[subprocess.Popen[bytes]]:
    held = {one["release"]: Path(one["folder"]) for one in seeder.ask("list")["releases"]}
    if job == "add":
        return [command(state, "add", release) for release in releases if release.name not in held]
    if job == "remove" and held:
        return [command(state, "remove", draw.choice(sorted(held)))]
    if job == "heal" and held:
        name = draw.choice(sorted(held))
        path = held[name] / f"{name}.tgz"
        chunks = draw.sample(range(path.stat().st_size // 5120), 8)
        flip(path, *(chunk * 5120 + 5 for chunk in chunks))
        return [command(state, "scrub", name)]
    return []


def command(state: Path, *arguments: object) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "libreseed_services.seeder.cli", *map(str, arguments), "--state-dir", str(state)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(line, env=clean_environment(), stdout=quiet, stderr=quiet)


def judge(seeder: SeederProcess, state: Path, releases: list[Path], seen: Counter[str]) -> None:
    """What must hold after every start."""
    until(lambda: seeder.ask("status")["releases"]["checking"] == 0, "all checked")
    listed = seeder.ask("list")["releases"]
    sources = {release.name: release for release in releases}
    for one in listed:
        assert one["state"] == "seeding" and one["pieces_offered"] == one["pieces"], one
        source = sources[one["release"]]
        for path in source.iterdir():
            assert (Path(one["folder"]) / path.name).read_bytes() == path.read_bytes(), path
    folders = {path.name for path in (state / "releases").iterdir()}
    assert folders == {one["id"] for one in listed}, (folders, listed)
    hashed = seeder.ask("status")["scrub"]["bytes_hashed"]
    seen["starts that hashed nothing" if not hashed else "starts that hashed what was being healed"] += 1
    seen["releases found whole"] += len(listed)


if __name__ == "__main__":
    sys.exit(main(*map(int, [*sys.argv[1:], *("50", "8")[len(sys.argv) - 1 :]])))
