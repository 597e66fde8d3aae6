"""An in-memory datagram network in virtual time, and DHT nodes on it: thousands of them in one thread.

It drives the very :class:`~libreseed.dht.node.NodeMachine` that :mod:`libreseed.adapters.dht.udp` drives, with an event
queue instead of sockets and a clock. Latency is lognormal around a median round trip, loss is a probability; everything
is drawn from one seeded generator, so that a run repeats exactly. Nodes that are switched off stay silent, as a machine
that lost its power does.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from libreseed.dht.addresses import ID_BYTES, Endpoint
from libreseed.dht.node import Finished, NodeConfig, NodeMachine, Outcome
from libreseed.dht.nodeid import id_for_address
from libreseed.dht.operations import Operation

__all__ = ["DatagramNetwork", "SimulatedNode", "address_of", "grow"]

_SIGMA = 0.4  # of the logarithm of a one-way delay


def address_of(number: int) -> Endpoint:
    """A public address of its own /24 for the node of that number (none of them is ever sent to)."""
    return f"{11 + number // 65536}.{number // 256 % 256}.{number % 256}.1", 6881


@dataclass(slots=True, eq=False)
class SimulatedNode:
    """A machine with an address; ``alive`` is its power switch."""

    machine: NodeMachine
    endpoint: Endpoint
    alive: bool = True
    wakes_at: float = float("inf")
    results: dict[int, object] = field(default_factory=dict)
    ended_at: dict[int, float] = field(default_factory=dict)
    sent: int = 0


class DatagramNetwork:
    """The network, its clock (seconds) and its nodes."""

    def __init__(self, seed: int, *, round_trip: float = 0.08, loss: float = 0.0) -> None:
        self.random = random.Random(seed)  # noqa: S311  # a simulation has to repeat
        self.now = 0.0
        self.nodes: dict[Endpoint, SimulatedNode] = {}
        self.datagrams = 0
        self.largest = 0
        self.tap: Callable[[Endpoint, Endpoint, bytes], None] | None = None
        self._one_way = round_trip / 2
        self._loss = loss
        self._order = itertools.count()
        self._events: list[tuple[float, int, Endpoint, Endpoint | None, bytes]] = []

    def entropy(self, count: int) -> bytes:
        """Bytes for the nodes of this network, drawn from its seed."""
        return self.random.randbytes(count)

    def add(self, endpoint: Endpoint, *, bootstrap: tuple[Endpoint, ...] = (), client: bool = False) -> SimulatedNode:
        """A node, switched on."""
        node_id = id_for_address(endpoint[0], self.entropy(ID_BYTES))
        config = NodeConfig(node_id, client=client, bootstrap=bootstrap)
        return self.attach(endpoint, NodeMachine(config, self.entropy, self.now))

    def attach(self, endpoint: Endpoint, machine: NodeMachine) -> SimulatedNode:
        """Put a machine on the network: a node, or what a test passes off as one."""
        node = SimulatedNode(machine, endpoint)
        self.nodes[endpoint] = node
        self._flush(node)
        return node

    def send(self, source: Endpoint, destination: Endpoint, data: bytes) -> None:
        """Put a datagram on its way; anybody may claim any source."""
        self.datagrams += 1
        self.largest = max(self.largest, len(data))
        if self.tap is not None:
            self.tap(source, destination, data)
        if self.random.random() < self._loss:
            return
        delay = self._one_way * self.random.lognormvariate(0, _SIGMA)
        heapq.heappush(self._events, (self.now + delay, next(self._order), destination, source, data))

    def start(self, node: SimulatedNode, operation: Operation) -> int:
        """Begin an operation on ``node``; its result will be in ``node.results``."""
        number = node.machine.start(operation, self.now)
        self._flush(node)
        return number

    def run(self, *, until: float | None = None, ended: Callable[[], bool] | None = None) -> None:
        """Let time pass, until a moment or a condition; ends as well when nothing is left to happen."""
        while self._events and (ended is None or not ended()):
            if until is not None and self._events[0][0] > until:
                break
            self.now, _, destination, source, data = heapq.heappop(self._events)
            node = self.nodes.get(destination)
            if node is None or not node.alive:
                continue
            if source is not None:
                node.machine.handle_datagram(data, source, self.now)
            elif node.wakes_at <= self.now:
                node.wakes_at = float("inf")
                node.machine.handle_timeout(self.now)
            else:
                continue  # an alarm that was set for later in the meantime
            self._flush(node)
        if until is not None and (ended is None or not ended()):
            self.now = max(self.now, until)

    def finish(self, node: SimulatedNode, operation: Operation) -> object:
        """Run one operation to its end and return its result."""
        number = self.start(node, operation)
        self.run(ended=lambda: number in node.results)
        return node.results.pop(number)

    def _flush(self, node: SimulatedNode) -> None:
        machine = node.machine
        for send in machine.outbox:
            node.sent += 1
            self.send(node.endpoint, send.endpoint, send.data)
        machine.outbox.clear()
        for outcome in machine.outcomes:
            self._note(node, outcome)
        machine.outcomes.clear()
        due = machine.next_timeout()
        if due is not None and due < node.wakes_at:
            node.wakes_at = due
            heapq.heappush(self._events, (max(due, self.now), next(self._order), node.endpoint, None, b""))

    def _note(self, node: SimulatedNode, outcome: Outcome) -> None:
        if isinstance(outcome, Finished):
            node.results[outcome.number] = outcome.result
            node.ended_at[outcome.number] = self.now


def grow(network: DatagramNetwork, count: int, *, batch: int = 50, pause: float = 2.0) -> list[SimulatedNode]:
    """``count`` nodes that join one batch after the other through the first ten, then settle for a while."""
    nodes: list[SimulatedNode] = []
    for number in range(count):
        known = tuple(network.random.choice(nodes[:10]).endpoint for _ in range(min(2, len(nodes))))
        nodes.append(network.add(address_of(number), bootstrap=tuple(dict.fromkeys(known))))
        if number < 10 or number % batch == 0:
            network.run(until=network.now + pause)
    network.run(until=network.now + 5 * pause)
    return nodes
