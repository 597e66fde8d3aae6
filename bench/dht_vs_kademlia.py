"""Our DHT node beside the stock ``kademlia`` server on the same population: success, latency, requests.

Both run as many nodes, with the same simulated one-way delays (lognormal, sigma 0.4, around half the round trip), hold
as many keys with 900-byte values, and lose the same shares of nodes without notice. Ours runs the production state
machine in virtual time; the stock one runs on asyncio and loopback sockets in real time, its sends delayed. One run per
figure, one seed: read ratios. ``--real N`` adds N of our nodes on real sockets, without any simulated delay.

    python bench/dht_vs_kademlia.py [--nodes 1000] [--keys 100] [--round-trip 0.08] [--real 200] [--skip-stock]
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import logging
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from libreseed import bencode
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.dht import requests
from libreseed.dht.items import SignedItem, sign_item
from libreseed.keys.ed25519 import PrivateKey
from libreseed.testing.network import DatagramNetwork, SimulatedNode, grow

KEY = PrivateKey(b"\x71" * 32)
SHARES = (0.0, 0.3, 0.5)
SIGMA = 0.4


@dataclass
class Row:
    """One line of the table: gets tried, found, seconds of each, requests of each."""

    label: str
    tried: int = 0
    found: int = 0
    seconds: list[float] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def note(self, found: bool, seconds: float, asked: int) -> None:
        self.tried += 1
        self.found += found
        self.seconds.append(seconds)
        self.asked.append(asked)

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p50, p90, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.9, 0.99))
        asked = f"{statistics.mean(self.asked):5.1f}" if any(self.asked) else "    -"
        return f"{self.label:32} {self.found:4}/{self.tried:<4} {p50:7.3f} {p90:7.3f} {p99:8.3f}   {asked}"


def items(count: int) -> list[SignedItem]:
    return [sign_item(KEY, b"m:%d" % number, 1, bencode.encode(b"x" * 900)) for number in range(count)]


def simulated(count: int, keys: int, round_trip: float) -> None:
    network = DatagramNetwork(7, round_trip=round_trip)
    cpu = time.process_time()
    members = grow(network, count)
    print(
        f"  joined: {network.datagrams / count:.0f} datagrams per node, {time.process_time() - cpu:.0f} s of CPU in all"
    )
    stored = items(keys)
    for item in stored:
        node = network.random.choice(members)
        network.finish(node, requests.put_item(node.machine, item, (4,)))
    for share in SHARES:
        living = [node for node in members if node.alive]
        for node in network.random.sample(living, len(living) - round(count * (1 - share))):
            node.alive = False
        row = Row(f"  libreseed, {share:.0%} dead")
        for item in stored:
            node = _stranger(network.random, members, item, network.now)
            begun = network.now
            found = network.finish(node, requests.get_item(node.machine, KEY.public, item.salt, 0, None))
            assert isinstance(found, requests.Found)
            row.note(found.item == item, network.now - begun, found.queries)
        print(row)


def _stranger(draw: random.Random, members: list[SimulatedNode], item: SignedItem, now: float) -> SimulatedNode:
    """A living node that does not hold the item itself."""
    while True:
        node = draw.choice(members)
        if node.alive and node.machine.responder and node.machine.responder.held(item.target, now) is None:
            return node


def stock(count: int, keys: int, round_trip: float) -> None:
    logging.disable(logging.CRITICAL)
    asyncio.run(_stock(count, keys, round_trip))


async def _stock(count: int, keys: int, round_trip: float) -> None:
    from kademlia.utils import digest

    draw = random.Random(7)
    asked: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("asked", default=None)
    servers = [await _stock_server(draw, round_trip, asked) for _ in range(count)]
    for server in servers[1:10]:
        await server.bootstrap([servers[0].transport.get_extra_info("sockname")])
    for start in range(10, count, 50):
        batch = servers[start : start + 50]
        await asyncio.gather(
            *(s.bootstrap([draw.choice(servers[:10]).transport.get_extra_info("sockname")]) for s in batch)
        )
    names = [f"key{number}" for number in range(keys)]
    for name in names:
        await draw.choice(servers).set(name, b"x" * 900)
    living = list(servers)

    async def one(name: str, row: Row) -> None:
        counter = [0]
        asked.set(counter)
        server = draw.choice(living)
        while server.storage.get(digest(name)) is not None:
            server = draw.choice(living)
        begun = time.perf_counter()
        try:
            value = await server.get(name)
        except Exception:  # noqa: BLE001  # what the stock server raises counts as a failed get
            value = None
        row.note(value is not None, time.perf_counter() - begun, counter[0])

    for share in SHARES:
        while len(living) > round(count * (1 - share)):
            living.pop(draw.randrange(len(living))).stop()
        row = Row(f"  kademlia 2.2.3, {share:.0%} dead")
        if share:  # one after the other would take an hour: they wait for 5 s timeouts, not for the processor
            await asyncio.gather(*(asyncio.create_task(one(name, row)) for name in names))
        else:
            for name in names:
                await asyncio.create_task(one(name, row))
        print(row, flush=True)
    for server in living:
        server.stop()


async def _stock_server(draw: random.Random, round_trip: float, asked: contextvars.ContextVar[Any]) -> Any:
    """A stock server whose sends are delayed, and counted for whoever runs a get."""
    from kademlia.network import Server
    from kademlia.protocol import KademliaProtocol

    class Delayed:
        def __init__(self, transport: Any) -> None:
            self._transport = transport
            self.close, self.is_closing = transport.close, transport.is_closing
            self.get_extra_info = transport.get_extra_info

        def sendto(self, data: bytes, address: Any = None) -> None:
            counter = asked.get()
            if data[0] == 0 and counter is not None:
                counter[0] += 1
            delay = draw.lognormvariate(0, SIGMA) * round_trip / 2
            asyncio.get_running_loop().call_later(delay, self._transport.sendto, data, address)

    class Protocol(KademliaProtocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.transport = Delayed(transport)

    class Counted(Server):  # type: ignore[misc]
        protocol_class = Protocol

    server = Counted(ksize=20, alpha=3, node_id=draw.randbytes(20))
    await server.listen(0, interface="127.0.0.1")
    return server


async def real(count: int, keys: int) -> None:
    """Our nodes on real sockets in one process, one get after the other."""
    draw = random.Random(5)
    stored = items(keys)
    members: list[tuple[DhtNode, trio.CancelScope]] = []

    async def run(node: DhtNode, scope: trio.CancelScope, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with scope:
            await node.run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            known = tuple({draw.choice(members[:10])[0].addresses[0] for _ in range(min(2, number))})
            host = f"127.2.{number // 250}.{number % 250 + 1}"
            members.append((DhtNode(DhtOptions(listen=((host, 0),), bootstrap=known)), trio.CancelScope()))
            await nursery.start(run, *members[-1])
        await _until(lambda: min(node.node_count for node, _ in members) >= min(20, count - 1))
        for item in stored:
            await draw.choice(members)[0].put_item(item)
        for share in SHARES:
            draw.shuffle(members)
            while len(members) > round(count * (1 - share)):
                members.pop()[1].cancel()
            row = Row(f"  libreseed, real UDP, {share:.0%} dead")
            for item in stored:
                begun = time.perf_counter()
                found = await draw.choice(members)[0].get_item(KEY.public, item.salt)
                row.note(found == item, time.perf_counter() - begun, 0)
            print(row, flush=True)
        nursery.cancel_scope.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--round-trip", type=float, default=0.08, help="seconds, median")
    parser.add_argument("--real", type=int, default=200, help="nodes on real sockets; 0: none")
    parser.add_argument("--skip-stock", action="store_true")
    arguments = parser.parse_args()
    print(
        f"{arguments.nodes} nodes, {arguments.keys} keys of 900 bytes, round trip {arguments.round_trip * 1000:.0f} ms"
    )
    print(f"{'':32} {'found':>9} {'p50 s':>7} {'p90 s':>7} {'p99 s':>8}   requests per get", flush=True)
    simulated(arguments.nodes, arguments.keys, arguments.round_trip)
    if not arguments.skip_stock:
        stock(arguments.nodes, arguments.keys, arguments.round_trip)
    if arguments.real:
        trio.run(real, arguments.real, arguments.keys)


if __name__ == "__main__":
    main()
