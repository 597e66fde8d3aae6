"""The log in its database, by size: appending in batches and one by one, proofs made and verified, memory, disk.

    python bench/silexium_log.py [--largest 1000000] [--entry-bytes 64 948] [--keep DIR]

Wall time on whatever disk the temporary folder is on, and CPU time, which other processes disturb less; every append is
durable (fsync) when it returns. The growth to each size and its proofs run in a process of their own, whose peak memory
is reported. Entries of 64 bytes show what the log costs; those of 948 bytes, a real entry with two authorities and a
calendar, what it costs with their bytes. Beside single appends stands what SQLite alone does in the same minute: one
row of a bare table in each transaction, as durable, once before and once after.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blake3 import blake3

from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.log.log_check import check_log
from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA, LogStore
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.log_proofs import verify_consistency, verify_inclusion
from libreseed.silexium.tree_head import NamedKey

BATCH = 5000
SINGLES = 3000
PROOFS = 2000
KEY = PrivateKey(bytes([4]) * 32)
SIZES = (10**4, 10**5, 10**6)


def entry(index: int, length: int) -> bytes:
    digest = blake3(index.to_bytes(8, "big")).hexdigest()
    return (f'{{"entry":{index},"hash":"{digest}",' + f'"filling":"{digest * 20}')[: length - 2].encode() + b'"}'


def timed(count: int, work: Callable[[], object]) -> tuple[float, float]:
    """How often per second of wall time, and microseconds of CPU for each."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - begun), (time.process_time() - used) / count * 1e6


def bare_commits(folder: Path, length: int) -> float:
    """Durable transactions per second of SQLite alone, into a write-ahead log whose blocks the disk has already."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    try:
        for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("CREATE TABLE rows(number INTEGER PRIMARY KEY, text TEXT) STRICT")
        connection.execute("CREATE TABLE room(bytes BLOB)")
        connection.execute("INSERT INTO room VALUES(zeroblob(?))", (2**25,))
        connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        texts = [entry(index, length).decode() for index in range(SINGLES)]

        def commit(text: str) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO rows(text) VALUES(?)", (text,))
            connection.execute("COMMIT")

        return timed(SINGLES, lambda: [commit(text) for text in texts])[0]
    finally:
        connection.close()
        (folder / "bare.db").unlink()


def measure(folder: Path, size: int, length: int) -> dict[str, Any]:
    """Grow the log in ``folder`` to ``size`` entries, and measure it there."""
    found: dict[str, Any] = {}
    with open_database(folder / "log.db", (LOG_SCHEMA,)) as database:
        store = LogStore(database, NamedKey("bench.example/b3", KEY.public))
        start = store.size
        goal = size - SINGLES
        batches = [range(at, min(at + BATCH, goal)) for at in range(start, goal, BATCH)]
        wall = used = 0.0
        for batch in batches:
            entries = [entry(index, length) for index in batch]
            begun, cpu = time.perf_counter(), time.process_time()
            store.append(entries)
            wall, used = wall + time.perf_counter() - begun, used + time.process_time() - cpu
        found["batched"] = (goal - start) / wall, used / (goal - start) * 1e6
        singles = [[entry(index, length)] for index in range(goal, size)]
        before = bare_commits(folder, length)
        found["singles"] = timed(SINGLES, lambda: [store.append(single) for single in singles])
        found["bare"] = before, bare_commits(folder, length)
        sth = store.sign_head(KEY, 1_790_000_000 + size)
        found |= proofs(store, size, sth.root.raw, length)
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["disk"] = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    return found


def proofs(store: LogStore, size: int, root: bytes, length: int) -> dict[str, Any]:
    draw = random.Random(size)
    indices = [draw.randrange(size) for _ in range(PROOFS)]
    olds = [draw.randrange(1, size) for _ in range(PROOFS)]
    hashes = [blake3(entry(index, length)).digest() for index in indices]
    found: dict[str, Any] = {}
    made: list[list[bytes]] = []
    found["inclusion"] = timed(PROOFS, lambda: made.extend(store.inclusion(index, size) for index in indices))
    begun = time.process_time()
    for index, entry_hash, proof in zip(indices, hashes, made, strict=True):
        verify_inclusion(index, size, entry_hash, proof, root)
    found["verify inclusion"] = (time.process_time() - begun) / PROOFS * 1e6
    links: list[tuple[bytes, ...]] = []
    found["consistency"] = timed(PROOFS, lambda: links.extend(store.consistency(old, size).hashes for old in olds))
    roots = [store.root_at(old) for old in olds[:200]]
    begun = time.process_time()
    for old, old_root, link in zip(olds, roots, links, strict=False):
        verify_consistency(old, size, old_root, root, link)
    found["verify consistency"] = (time.process_time() - begun) / len(roots) * 1e6
    return found


def check(folder: Path) -> None:
    with open_database(folder / "log.db", (LOG_SCHEMA,)) as database:
        begun = time.perf_counter()
        facts = check_log(LogStore(database, NamedKey("bench.example/b3", KEY.public)))
        print(f"  fsck of {facts.size:,} entries: {time.perf_counter() - begun:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=10**6)
    parser.add_argument("--entry-bytes", type=int, nargs="+", default=[64, 948])
    parser.add_argument("--keep", type=Path, help="a folder that is kept, for another look")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, size, length = arguments.one
        print(json.dumps(measure(Path(folder), int(size), int(length))))
        return
    for length in arguments.entry_bytes:
        with tempfile.TemporaryDirectory(prefix="libreseed-log-") as place:
            folder = (arguments.keep or Path(place)) / str(length)
            os.makedirs(folder, exist_ok=True)
            print(f"entries of {length} bytes")
            for size in SIZES:
                if size <= arguments.largest:
                    show(size, folder, length)
            check(folder)


def show(size: int, folder: Path, length: int) -> None:
    line = [sys.executable, __file__, "--one", str(folder), str(size), str(length)]
    found = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    print(f"  {size:>9,} entries: peak memory {found['memory']:.0f} MiB, disk {found['disk']:.0f} MiB")
    for name, what in (
        ("batched", f"append, {BATCH} at once"),
        ("singles", "append, one by one"),
        ("inclusion", "inclusion proof made"),
        ("consistency", "consistency proof made"),
    ):
        rate, cpu = found[name]
        verified = f", verified in {found['verify ' + name]:.0f} us" if f"verify {name}" in found else ""
        bare = ", SQLite alone {:,.0f}/s and {:,.0f}/s".format(*found["bare"]) if name == "singles" else ""
        print(f"    {what:<24} {rate:>9,.0f}/s; {cpu:6.1f} us of CPU{verified}{bare}", flush=True)


if __name__ == "__main__":
    main()
