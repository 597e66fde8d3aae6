"""What a full node does unasked: join, refresh buckets, ping silent contacts, forget what expired, follow its address.

A join is a walk to the own id and then one into each of the large subtrees around it: without the latter some keys
are never found (measured for the stock implementation: 16 of 300 gets). All of it is paced, so that a node that was
suspended does not wake up with a storm.

Specification: ``docs/specification/dht.md``, "Upkeep".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from typing import TYPE_CHECKING

from libreseed.dht.addresses import ID_BYTES, Endpoint, Scope, family_of, prefix_of, scope_of
from libreseed.dht.nodeid import follows_address, id_for_address
from libreseed.dht.operations import Stage
from libreseed.dht.requests import find_node

if TYPE_CHECKING:
    from libreseed.dht.node import NodeMachine
    from libreseed.dht.routing import Bucket

__all__ = ["Maintenance"]

TURN = 10.0  # seconds between turns
REFRESH = 900.0  # seconds that a bucket and a contact may be silent (BEP 5)
JOIN_WALKS = 4  # into ever smaller halves, after the walk to the own id
TURN_BUCKETS = 1  # refreshed per turn
TURN_PINGS = 8
RETRY = (2.0, 5.0, 15.0, 60.0)  # seconds until the next join while nobody is known
VOTES = 8  # distinct prefixes that must report the same address of ours


class Maintenance:
    """Upkeep of one machine; does nothing but start operations and pings on it."""

    def __init__(self, machine: NodeMachine, now: float) -> None:
        self._machine = machine
        self._next = now
        self._join: int | None = None
        self._refresh: int | None = None
        self._joins = 0
        self._observed: OrderedDict[str, str] = OrderedDict()
        self.joined = False  # a join has ended with somebody known

    @property
    def next_timeout(self) -> float:
        """When the next turn is due."""
        return self._next

    def turn(self, now: float) -> None:
        """Do what is due."""
        if now < self._next:
            return
        machine = self._machine
        if machine.responder is not None:
            machine.responder.expire(now)
        if not self.joined or not machine.node_count:
            self._next = now + RETRY[min(self._joins, len(RETRY) - 1)]
            if self._join is None and (machine.bootstrap or machine.config.known or machine.node_count):
                self._joins += 1
                self._join = machine.start(self._joining(), now)
            return
        self._next = now + TURN * (0.75 + 0.5 * machine.entropy(1)[0] / 255)
        for table in machine.tables.values():
            for contact in table.questionable(now - REFRESH, TURN_PINGS):
                machine.ping(contact.info, now)
        if self._refresh is None:
            stale = self._stale(now)[:TURN_BUCKETS]
            if stale:
                self._refresh = machine.start(self._refreshing(stale, now), now)

    def _stale(self, now: float) -> list[Bucket]:
        return [bucket for table in self._machine.tables.values() for bucket in table.stale_buckets(now - REFRESH)]

    def _joining(self) -> Generator[Stage, None, None]:
        machine = self._machine
        try:
            yield from find_node(machine, machine.node_id)
            if machine.node_count:
                self.joined = True
                for depth in range(min(JOIN_WALKS, self._shared_bits())):
                    yield from find_node(machine, self._id_at(depth), paths=1)
        finally:
            self._join = None

    def _refreshing(self, buckets: list[Bucket], now: float) -> Generator[Stage, None, None]:
        try:
            for bucket in buckets:
                bucket.refreshed = now
                yield from find_node(self._machine, self._id_within(bucket), paths=1)
        finally:
            self._refresh = None

    def _shared_bits(self) -> int:
        """How many leading bits the nearest contact shares with us: about log2 of the network's size."""
        own = int.from_bytes(self._machine.node_id, "big")
        nearest = [table.closest(self._machine.node_id, 1) for table in self._machine.tables.values()]
        distances = [contact.long_id ^ own for contacts in nearest for contact in contacts]
        return 8 * ID_BYTES - min(distances).bit_length() if distances else 0

    def _id_at(self, depth: int) -> bytes:
        """A random id that shares exactly ``depth`` leading bits with ours."""
        keep = 8 * ID_BYTES - depth
        own = int.from_bytes(self._machine.node_id, "big")
        drawn = int.from_bytes(self._machine.entropy(ID_BYTES), "big")
        flipped = own ^ 1 << (keep - 1)
        below = (1 << (keep - 1)) - 1
        return (flipped & ~below | drawn & below).to_bytes(ID_BYTES, "big")

    def _id_within(self, bucket: Bucket) -> bytes:
        lower, upper = bucket.range
        offset = int.from_bytes(self._machine.entropy(ID_BYTES), "big") % (upper - lower + 1)
        return int(lower + offset).to_bytes(ID_BYTES, "big")

    def observe(self, speaker: Endpoint, own: Endpoint, now: float) -> None:
        """Learn from an answer where its sender saw us; once enough agree, take an id that fits (BEP 42)."""
        host = own[0]
        prefix = prefix_of(speaker[0])
        if prefix is None or scope_of(host) is not Scope.GLOBAL or family_of(host) != family_of(speaker[0]):
            return
        self._observed[prefix] = host
        self._observed.move_to_end(prefix)
        if len(self._observed) > 4 * VOTES:
            self._observed.popitem(last=False)
        if follows_address(self._machine.node_id, host):
            return
        if sum(seen == host for seen in self._observed.values()) >= VOTES:
            self._observed.clear()
            self._machine.take_id(id_for_address(host, self._machine.entropy(ID_BYTES)))
            self.joined = False  # the new neighbours do not know us
            self._next = now
