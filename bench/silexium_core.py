"""Silexium's core alone, on one thread and in memory: appending to the log, proofs by its size, one bundle verified.

    python bench/silexium_core.py [--largest 1000000]

CPU time of this process; imports are done before. What a server adds (SQLite, fsync, HTTP) is measured elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from libreseed.silexium.bitcoin_headers import REGTEST, HeaderChain, mine_header
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.log_proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from libreseed.silexium.merkle import CompactRange
from libreseed.silexium.tiles import Tile, TileNodes, TileTail
from libreseed.silexium.verification import ReleaseVerification
from tests.silexium_support import NOW, RELEASE, Draft, policy

BATCH = 5000
PROOFS = 2000


class Log:
    """Tiles in a dictionary, as a database would hold them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], bytes] = {}
        self.tail = TileTail(self.read, 0)

    def read(self, tile: Tile) -> bytes:
        return self.rows[tile.level, tile.index]

    def append(self, entries: list[bytes]) -> None:
        self.rows |= self.tail.append(entries)


def entry(index: int) -> bytes:
    return hashlib.sha256(index.to_bytes(8, "big")).digest()


def per_call(calls: int, call: Callable[[int], object]) -> float:
    """Seconds of CPU per call."""
    begun = time.process_time()
    for number in range(calls):
        call(number)
    return (time.process_time() - begun) / calls


def log_of(size: int) -> None:
    log = Log()
    begun = time.process_time()
    for start in range(0, size, BATCH):
        log.append([entry(index) for index in range(start, min(start + BATCH, size))])
    appended = size / (time.process_time() - begun)
    root = log.tail.range.root
    nodes = TileNodes(log.read, size)
    draw = random.Random(size)
    indexes = [draw.randrange(size) for _ in range(PROOFS)]
    olds = [draw.randrange(1, size) for _ in range(PROOFS)]
    proofs: list[list[bytes]] = []
    made = per_call(PROOFS, lambda n: proofs.append(inclusion_proof(nodes.node, indexes[n], size)))
    checked = per_call(PROOFS, lambda n: verify_inclusion(indexes[n], size, entry(indexes[n]), proofs[n], root))
    links: list[list[bytes]] = []
    linked = per_call(PROOFS, lambda n: links.append(consistency_proof(nodes.node, olds[n], size)))
    few = olds[:50]
    roots = [_root_at(log, old) for old in few]
    unlinked = per_call(len(few), lambda n: verify_consistency(few[n], size, roots[n], root, links[n]))
    print(
        f"  {size:>9,} entries: append {appended:>9,.0f}/s; inclusion made {1 / made:>7,.0f}/s, verified in "
        f"{checked * 1e6:4.0f} us; consistency made {1 / linked:>7,.0f}/s, verified in {unlinked * 1e6:4.0f} us"
    )


def _root_at(log: Log, size: int) -> bytes:
    """The root that the log had at ``size``: a partial tile is the front of what it became."""
    return CompactRange.from_nodes(TileNodes(log.read, size).node, size).root


def bundles() -> None:
    data = Draft().bundle().data
    trust = policy()

    def verify(_: int) -> None:
        verify_bundle(ReleaseVerification(trust, RELEASE, now=NOW), parse_bundle(data))

    verify(0)
    print(f"  bundle of {len(data)} bytes, three attestations, six stamps, log: {per_call(100, verify) * 1e3:.1f} ms")


def headers(count: int) -> None:
    chain = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=NOW)
    for number in range(1, count):
        chain.extend(mine_header(chain, bytes(32), 1296688602 + 600 * number), now=NOW)
    took = per_call(3, lambda _: HeaderChain.read(REGTEST, 0, chain.data, now=NOW))
    print(f"  block headers, all rules: {count / took:,.0f}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=10**6)
    largest = parser.parse_args().largest
    bundles()
    headers(2016)
    for size in (10**4, 10**5, 10**6):
        if size <= largest:
            log_of(size)
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
