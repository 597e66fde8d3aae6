"""What the comparisons share: releases, a seeder on loopback, timed processes in turn, ratios pair by pair."""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Timed:
    """One finished run: wall seconds, CPU seconds of it and its children, peak memory of the largest one in bytes."""

    wall: float
    cpu: float
    peak: int


def timed(command: Sequence[object], **options: object) -> Timed:
    """Run ``command`` to its end; it must succeed."""
    before = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - before
    if process.returncode:
        raise SystemExit(f"exit {process.returncode}: {' '.join(map(str, command))[:300]}")
    return Timed(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def in_turn(runs: int, contenders: dict[str, Callable[[int], float]], warm: bool = True) -> dict[str, list[float]]:
    """Call every contender once per run, in turn; returns seconds by contender. One round first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(-1 if warm else 0, runs):
        for name, call in contenders.items():
            took = call(run)
            if run >= 0:
                seconds[name].append(took)
    return seconds


def show(seconds: dict[str, list[float]], base: str) -> None:
    """Print minimum, median and maximum, and the median of the ratios to ``base`` within each round."""
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[base], strict=True)]
        print(
            f"  {name:<44} {min(values):7.3f} {statistics.median(values):7.3f} {max(values):7.3f} s"
            f"   {statistics.median(ratios):6.2f} x  [{min(ratios):.2f} .. {max(ratios):.2f}]",
            flush=True,
        )


def make_tree(root: Path, size: int, seed: int = 1, compressible: bool = True) -> Path:
    """A tree of ``size`` bytes in files of 2 kB to 4 MB; about half of the bytes compress when ``compressible``."""
    draw, written, number = random.Random(seed), 0, 0
    while written < size:
        length = min(size - written, int(2 ** draw.uniform(11, 22)))
        data = draw.randbytes(length)
        if compressible and number % 2:
            data = data.hex().encode()[:length]
        path = root / f"d{number % 40}" / f"file-{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written, number = written + length, number + 1
    return root


def command(name: str, *arguments: object) -> list[object]:
    """The command line of one of our programs beside this interpreter."""
    return [BIN / name, *arguments]


def json_of(line: Sequence[object]) -> dict[str, object]:
    """Run one of our programs and return the JSON object it prints."""
    done = subprocess.run([str(part) for part in line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {done.stderr[-500:]}{done.stdout[-500:]}")
    return json.loads(done.stdout)


def build(tree: Path, out: Path, name: str, key: Path, *flags: str) -> Path:
    """Package ``tree``; returns the release folder."""
    if not key.exists():
        json_of(command("libreseed-packager", "keygen", "--out", key, "--no-passphrase", "--json"))
    line = command(
        "libreseed-packager", "build", tree, "--name", name, "--version", "1.0.0", "--key", key, "--out", out
    )
    json_of([*line, *flags, "--json"])
    return out / f"{name}@1.0.0"


def public_key(release: Path) -> str:
    """The publisher's key as the minimal manifest states it."""
    return str(json.loads((release / f"{release.name}.minimal.json").read_bytes())["pubkey"])


@contextmanager
def seeder(state: Path, address: str, *releases: Path) -> Iterator[dict[str, object]]:
    """A seeder daemon on ``address`` that has added ``releases``; yields its status."""
    line = command("libreseed-seeder", "run", "--state-dir", state, "--listen", f"{address}:0", "--dht-port", 0)
    with subprocess.Popen([str(part) for part in line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            deadline = time.monotonic() + 30
            while True:
                asked = [str(p) for p in command("libreseed-seeder", "status", "--state-dir", state, "--json")]
                done = subprocess.run(asked, capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    break
                if time.monotonic() > deadline or daemon.poll() is not None:
                    raise SystemExit(f"the seeder did not start: {done.stderr}")
                time.sleep(0.1)
            for release in releases:
                json_of(command("libreseed-seeder", "add", release, "--state-dir", state, "--json"))
            yield json_of(command("libreseed-seeder", "status", "--state-dir", state, "--json"))
        finally:
            daemon.terminate()
            daemon.wait(30)


def own_peak() -> int:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
