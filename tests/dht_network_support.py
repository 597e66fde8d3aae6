"""A small DHT of real nodes on loopback in a thread of its own, for tests of processes that use it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from tests.seeder_support import loopback

T = TypeVar("T")


@dataclass
class Network:
    """Nodes that know each other; ``ask`` runs a coroutine function with one of them."""

    nodes: list[DhtNode] = field(default_factory=list)
    token: trio.lowlevel.TrioToken | None = None
    nursery: trio.Nursery | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [node.addresses[0] for node in self.nodes]

    @property
    def bootstrap(self) -> list[str]:
        """Flags for a daemon."""
        return [part for host, port in self.addresses[:3] for part in ("--bootstrap", f"{host}:{port}")]

    def ask(self, question: Callable[[DhtNode], Awaitable[T]], node: int = -1) -> T:
        async def answer() -> T:
            with trio.fail_after(60):
                return await question(self.nodes[node])

        return trio.from_thread.run(answer, trio_token=self.token)

    def stop(self) -> None:
        """End all nodes without notice."""
        if self.token is not None and self.nursery is not None:
            with contextlib.suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(self.nursery.cancel_scope.cancel, trio_token=self.token)


@contextlib.contextmanager
def dht_network(count: int, bootstrap: tuple[tuple[str, int], ...] = ()) -> Iterator[Network]:
    """``count`` nodes, each of which begins with the first one and ``bootstrap``."""
    network, ready, failure = Network(), threading.Event(), []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            network.token, network.nursery = trio.lowlevel.current_trio_token(), nursery
            for _ in range(count):
                known = (*bootstrap, *network.addresses[:1])
                node = DhtNode(DhtOptions(listen=((loopback(), 0),), bootstrap=known))
                await nursery.start(node.run)
                network.nodes.append(node)
            ready.set()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:  # noqa: BLE001  # handed to the test's thread
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="dht-network")
    thread.start()
    ready.wait(30)
    try:
        assert not failure, failure
        yield network
    finally:
        network.stop()
        thread.join(30)
    assert not failure, failure
