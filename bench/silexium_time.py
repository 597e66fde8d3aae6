"""Silexium's clocks: block headers imported into the store, stamps issued and verified, the queue, one bundle verified.

    python bench/silexium_time.py [--headers 300000] [--jobs 200]

Synthetic headers of no difficulty, under all rules (retarget every 2016 blocks, median time); wall time and CPU time on
one thread, imports done before. The queue talks to embedded authorities in this process, so HTTP is not in its figure.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio

from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.stamps.embedded import embedded_world
from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedCalendarService, EmbeddedTimeStampService
from libreseed.adapters.silexium.stamps.header_store import HeaderStore
from libreseed.adapters.silexium.stamps.stamp_queue import STAMP_SCHEMA
from libreseed.adapters.silexium.stamps.stamping import Stamping
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, REGTEST
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.rfc3161 import verify_time_stamp
from libreseed.silexium.stamp_job import Pace
from libreseed.silexium.verification import ReleaseVerification
from tests.silexium_support import NOW, RELEASE, Draft, policy

# Blocks every 600 seconds keep the difficulty as it is: the rule is computed, its result is the same.
NETWORK = replace(REGTEST, name="synthetic", retargets=True, confirmations=6, timespan=2015 * 600)
START = 1296688602


def synthetic(count: int) -> bytes:
    data, previous = bytearray(REGTEST.genesis), REGTEST.genesis
    bits = previous[72:76]
    for height in range(1, count):
        link = hashlib.sha256(hashlib.sha256(previous).digest()).digest()
        stem = b"\x04\0\0\0" + link + bytes(32) + (START + 600 * height).to_bytes(4, "little") + bits
        for nonce in range(256):
            previous = stem + nonce.to_bytes(4, "little")
            if hashlib.sha256(hashlib.sha256(previous).digest()).digest()[31] < 0x7F:
                break
        data += previous
    return bytes(data)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_mib() -> int:
    """Of this program alone: getrusage would count what its parent was before it became this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def headers(folder: Path, count: int) -> None:
    (folder / "headers.bin").write_bytes(synthetic(count))
    line = [sys.executable, __file__, "--import-from", str(folder)]
    print(subprocess.run(line, check=True, capture_output=True, text=True).stdout, end="")


def import_headers(folder: Path) -> None:
    """In a process of its own, whose memory is the store's alone."""
    before = peak_mib()
    store = HeaderStore(folder / "store", NETWORK)
    with (folder / "headers.bin").open("rb") as file:
        wall, cpu = timed(lambda: store.add(file, now=2**32))
    count = store.record.count
    after = peak_mib()
    opened, _ = timed(lambda: HeaderStore(folder / "store", NETWORK))
    raw = store.headers(count // 2, 1)
    asked, _ = timed(lambda: [store.attested_time(count // 2, raw[36:68]) for _ in range(1000)])
    one, _ = timed(lambda: store.add(io.BytesIO(store.headers(count - 100, 100)), now=2**32))
    rate = f"{count / wall:,.0f}/s wall, {count / cpu:,.0f}/s CPU"
    print(f"  {count:,} headers imported: {rate}; peak {after} MiB, {before} before")
    size = f"{count * HEADER_BYTES / 1e6:.0f} MB"
    print(f"  opened and hashed ({size}): {opened * 1e3:.0f} ms; one block's time: {asked * 1e3:.0f} us")
    print(f"  100 known headers offered again: {one * 1e3:.1f} ms")


def stamps(folder: Path, jobs: int) -> None:
    world = embedded_world(folder / "world")
    message = b"an attestation"
    _, cpu = timed(lambda: [world.token(message) for _ in range(100)])
    token, trusted = world.token(message), EmbeddedTimeStampService(world).trusted
    _, checked = timed(lambda: [verify_time_stamp(token, message, [trusted], now=world.clock()) for _ in range(100)])
    print(f"  a time stamp asked for and issued: {cpu * 10:.1f} ms CPU; verified: {checked * 10:.1f} ms")
    services = [EmbeddedTimeStampService(world)], [EmbeddedCalendarService(world)]

    async def work() -> None:
        with open_database(folder / "silexium.db", [STAMP_SCHEMA]) as database:
            stamping = Stamping(database, *services, world.chain, pace=Pace(poll_first=0))
            await stamping.want([b"attestation %d" % number for number in range(jobs)], world.clock())
            while (await stamping.advance(world.clock())).next_due is not None:
                pass

    wall, cpu = timed(lambda: trio.run(work))
    rate = f"{jobs / wall:.0f}/s wall, {cpu / jobs * 1e3:.1f} ms CPU each"
    print(f"  queue, {jobs} attestations to complete, fsync each: {rate}")


def bundle() -> None:
    data, trust = Draft().bundle().data, policy()

    def verify() -> None:
        verify_bundle(ReleaseVerification(trust, RELEASE, now=NOW), parse_bundle(data))

    verify()
    _, cpu = timed(lambda: [verify() for _ in range(100)])
    print(f"  bundle, three attestations, six proofs, log: {cpu * 10:.1f} ms CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headers", type=int, default=300_000)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--import-from", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.import_from:
        import_headers(arguments.import_from)
        return
    bundle()
    with tempfile.TemporaryDirectory() as folder:
        stamps(Path(folder), arguments.jobs)
        headers(Path(folder), arguments.headers)


if __name__ == "__main__":
    main()
