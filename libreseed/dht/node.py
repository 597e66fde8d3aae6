"""The node as a timed state machine: datagrams and the time in, datagrams and results out.

Owns transactions (an answer counts only from the address that was asked, and under the id that was asked where that is
known), the round-trip estimate, the tables, running operations and upkeep. A *client* has no tables and stores nothing:
it starts from its bootstrap addresses, marks its queries read-only (BEP 43) and answers with its id alone.

No clock, no sockets, no randomness: ``now`` is in seconds of any monotonic clock, ``entropy(n)`` gives random bytes.
Specification: ``docs/specification/dht.md``.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from libreseed import limits
from libreseed.dht import krpc
from libreseed.dht.addresses import Endpoint, NodeInfo, family_of
from libreseed.dht.guard import Guard
from libreseed.dht.krpc import Failure, Query, Response
from libreseed.dht.lookup import PATHS, Candidate, Lookup
from libreseed.dht.operations import Ask, Operation, Stage, lost_after
from libreseed.dht.requests import PeerSearch
from libreseed.dht.roundtrip import RoundTrip
from libreseed.errors import Malformed

if TYPE_CHECKING:
    from libreseed.dht.maintenance import Maintenance
    from libreseed.dht.responder import Responder
    from libreseed.dht.routing import Table

__all__ = ["Finished", "NewPeers", "NodeConfig", "NodeMachine", "Outcome", "Send"]

_WANTING = (b"find_node", b"get_peers", b"get")  # queries whose answers name nodes (BEP 32)
_SEEDS = 20  # nearest known contacts that a lookup starts from


class Send(NamedTuple):
    """Send ``data`` to ``endpoint``; ``via`` is the socket that an answer must leave by, None for a query."""

    data: bytes
    endpoint: Endpoint
    via: int | None


class Finished(NamedTuple):
    """Operation ``number`` has ended with ``result``."""

    number: int
    result: object


class NewPeers(NamedTuple):
    """Operation ``number`` has heard of peers."""

    number: int
    peers: list[Endpoint]


Outcome = Finished | NewPeers


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node is. ``bootstrap`` holds numeric endpoints; ``known`` are nodes saved by an earlier run."""

    node_id: bytes
    families: tuple[int, ...] = (4,)
    client: bool = False
    bootstrap: tuple[Endpoint, ...] = ()
    known: tuple[NodeInfo, ...] = ()
    upload: int = limits.DHT_UPLOAD_BYTES_PER_SECOND


class _Pending(NamedTuple):
    endpoint: Endpoint
    node_id: bytes | None
    sent_at: float
    running: _Running | None
    candidate: Candidate
    learn: bool = True  # whether an answer makes it a contact


@dataclass(slots=True, eq=False)
class _Running:
    number: int
    operation: Operation
    stage: Stage
    transactions: dict[Candidate, list[bytes]] = field(default_factory=dict)


class NodeMachine:
    """One DHT node. Every method returns at once; what is to be sent is in ``outbox``, what came of it in ``outcomes``.

    The owner drains both after each call and calls :meth:`handle_timeout` when :meth:`next_timeout` has come.
    """

    def __init__(self, config: NodeConfig, entropy: Callable[[int], bytes], now: float) -> None:
        self.node_id = config.node_id
        self.config = config
        self.outbox: list[Send] = []
        self.outcomes: list[Outcome] = []
        self.tables: dict[int, Table] = {}
        self.responder: Responder | None = None
        self.maintenance: Maintenance | None = None
        self.entropy = entropy
        self.round_trip = RoundTrip()
        self.bootstrap = list(config.bootstrap)
        self._guard = Guard(now, config.upload)
        self._known: OrderedDict[Endpoint, NodeInfo] = OrderedDict((info.endpoint, info) for info in config.known)
        self._pending: dict[bytes, _Pending] = {}
        self._loose: list[tuple[float, bytes]] = []  # deadlines of queries that no operation waits for
        self._pinged: set[Endpoint] = set()
        self._running: dict[int, _Running] = {}
        self._numbers = 0
        if not config.client:
            from libreseed.dht.maintenance import Maintenance
            from libreseed.dht.responder import Responder
            from libreseed.dht.routing import Table

            self.tables = {family: Table(config.node_id) for family in config.families}
            self.responder = Responder(entropy, now, upload=config.upload)
            self.maintenance = Maintenance(self, now)

    # --- what the owner calls -----------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, source: Endpoint, now: float, via: int = 0) -> None:
        """Take one datagram. Whatever it holds, nothing is raised; what is not understood is dropped."""
        try:
            message = krpc.parse(data)
        except Malformed:
            return
        if isinstance(message, Query):
            self._answer(message, len(data), source, now, via)
        else:
            self._take_answer(message, source, now)

    def handle_timeout(self, now: float) -> None:
        """Do what has become due."""
        while self._loose and self._loose[0][0] <= now:
            _, transaction = heapq.heappop(self._loose)
            pending = self._pending.pop(transaction, None)
            if pending is not None:
                self._lost(pending.endpoint, pending.node_id)
        for running in list(self._running.values()):
            self._advance(running, now)
        if self.maintenance is not None:
            self.maintenance.turn(now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` should be called next."""
        rto = self.round_trip.timeout
        times = [running.stage.flight.next_timeout(rto) for running in self._running.values()]
        if self._loose:
            times.append(self._loose[0][0])
        if self.maintenance is not None:
            times.append(self.maintenance.next_timeout)
        return min((time for time in times if time is not None), default=None)

    def start(self, operation: Operation, now: float) -> int:
        """Run an operation; its number is in the outcomes that belong to it."""
        self._numbers += 1
        if len(self._running) >= limits.DHT_OPERATIONS:
            raise AssertionError("more operations at one time than the adapter admits")
        running = _Running(self._numbers, operation, next(operation))
        self._running[running.number] = running
        self._advance(running, now)
        return running.number

    def cancel(self, number: int) -> None:
        """Stop an operation: nothing more is sent for it, no outcome follows."""
        running = self._running.pop(number, None)
        if running is not None:
            self._let_go(running)
            running.operation.close()

    def ping(self, info: NodeInfo, now: float, *, learn: bool = True) -> None:
        """Ask a node whether it is there; the table learns the answer, unless it is only to prove its address."""
        if info.endpoint in self._pinged or len(self._pinged) >= limits.DHT_UNPROVEN_PINGS:
            return
        transaction = self._query(Ask(Candidate(info.node_id, info.endpoint, 0, 0), b"ping", {}), now, None, learn)
        if transaction is not None:
            self._pinged.add(info.endpoint)
            heapq.heappush(self._loose, (now + lost_after(self.round_trip.timeout), transaction))

    # --- what operations need -------------------------------------------------------------------------------------

    def lookup(self, target: bytes, paths: int = PATHS) -> Lookup:
        """A lookup from the nearest nodes known, and from the bootstrap addresses while few are known.

        A client always asks these too: what it saved in an earlier run may be gone.
        """
        seeds: list[tuple[bytes | None, Endpoint]] = []
        if self.tables:
            for table in self.tables.values():
                seeds += [(contact.id, contact.endpoint) for contact in table.mixed(target, _SEEDS)]
        wanted = int.from_bytes(target, "big")
        if len(seeds) < _SEEDS:
            near = sorted(self._known.values(), key=lambda info: int.from_bytes(info.node_id, "big") ^ wanted)
            seeds += [(info.node_id, info.endpoint) for info in near[:_SEEDS]]
        reserve = self.bootstrap
        if len(seeds) < _SEEDS // 2 or self.config.client:
            seeds, reserve = seeds + [(None, endpoint) for endpoint in self.bootstrap], []
        return Lookup(target, self.node_id, seeds, self.config.families, paths=paths, reserve=reserve)

    @property
    def node_count(self) -> int:
        """How many nodes that have answered are known."""
        return sum(len(table) for table in self.tables.values()) if self.tables else len(self._known)

    @property
    def pending_count(self) -> int:
        """How many queries wait for an answer."""
        return len(self._pending)

    def take_id(self, node_id: bytes) -> None:
        """Go on under another id: contacts are sorted anew around it."""
        from libreseed.dht.routing import Table

        self.node_id = node_id
        for family, old in list(self.tables.items()):
            self.tables[family] = Table(node_id)
            for contact in sorted(old.contacts(), key=lambda contact: contact.last_seen):
                self.tables[family].seen(contact.info, contact.last_seen)

    def good_nodes(self, most: int) -> list[NodeInfo]:
        """Nodes worth saving: those that answered last, newest first."""
        if not self.tables:
            return list(reversed(self._known.values()))[:most]
        contacts = [c for table in self.tables.values() for c in table.contacts() if c.fails == 0]
        contacts.sort(key=lambda contact: -contact.last_seen)
        return [contact.info for contact in contacts[:most]]

    # --- queries to us ----------------------------------------------------------------------------------------------

    def _answer(self, query: Query, size: int, source: Endpoint, now: float, via: int) -> None:
        guard = self.responder.guard if self.responder is not None else self._guard
        if not guard.admit(source, size, now):
            return
        if self.responder is None:
            data = krpc.encode_response(query.transaction, {b"id": self.node_id, b"nodes": b""}, source)
            self.outbox.append(Send(data, source, via))
            return
        answer = self.responder.answer(query, source, self.node_id, self.tables, now)
        if answer is not None:
            self.outbox.append(Send(answer, source, via))
        table = self.tables.get(family_of(source[0]))
        if table is not None and not query.read_only:
            info = NodeInfo(query.sender, source)
            if table.wants(info):
                self.ping(info, now)
                return
        if guard.wants_proof(source, now):
            self.ping(NodeInfo(query.sender, source), now, learn=False)

    # --- answers to us ----------------------------------------------------------------------------------------------

    def _take_answer(self, answer: Response | Failure, source: Endpoint, now: float) -> None:
        pending = self._pending.get(answer.transaction)
        if pending is None or pending.endpoint != source:
            return  # forged, or too late
        del self._pending[answer.transaction]
        self._pinged.discard(source)
        running, candidate = pending.running, pending.candidate
        if isinstance(answer, Response) and answer.sender == self.node_id:
            # Nobody else goes by our id: this address sends our own answers back to us, or it is our own.
            self._lost(source, pending.node_id)
            answer = Failure(answer.transaction, 0, b"answered under our own id")
        elif isinstance(answer, Response):
            self.round_trip.sample(now - pending.sent_at)
            self._seen(NodeInfo(answer.sender, source), now, pending.learn)
            if self.maintenance is not None and answer.observed is not None:
                self.maintenance.observe(source, answer.observed, now)
            if pending.node_id is not None and answer.sender != pending.node_id:
                answer = Failure(answer.transaction, 0, b"answered under another id")
        if running is not None and running.number in self._running:
            for transaction in running.transactions.pop(candidate, ()):
                self._pending.pop(transaction, None)
            running.stage.reply(candidate, answer)
            if isinstance(running.stage, PeerSearch) and (fresh := running.stage.fresh_peers()):
                self.outcomes.append(NewPeers(running.number, fresh))
            self._advance(running, now)

    def _seen(self, info: NodeInfo, now: float, learn: bool) -> None:
        """A round trip was completed: this node is at this address, under this id, whatever others say of it."""
        if self.responder is not None:
            self.responder.guard.proven(info.endpoint, now)
            table = self.tables.get(family_of(info.endpoint[0])) if learn else None
            doubtful = table.seen(info, now) if table is not None else None
            if doubtful is not None and doubtful.last_seen < now - limits.DHT_DOUBT_SECONDS:
                self.ping(doubtful.info, now)
            return
        self._known[info.endpoint] = info
        self._known.move_to_end(info.endpoint)
        if len(self._known) > limits.DHT_STATE_NODES:
            self._known.popitem(last=False)

    def _lost(self, endpoint: Endpoint, node_id: bytes | None) -> None:
        self._pinged.discard(endpoint)
        self._known.pop(endpoint, None)
        table = self.tables.get(family_of(endpoint[0]))
        if table is not None and node_id is not None:
            table.failed(NodeInfo(node_id, endpoint))

    # --- operations -------------------------------------------------------------------------------------------------

    def _advance(self, running: _Running, now: float) -> None:
        """Let an operation go on until it waits for somebody or is over."""
        while True:
            asks, dead = running.stage.poll(now, self.round_trip.timeout)
            for candidate in dead:
                for transaction in running.transactions.pop(candidate, ()):
                    self._pending.pop(transaction, None)
                self._lost(candidate.endpoint, candidate.node_id)
            self._ask(running, asks, now)
            if not running.stage.done:
                return
            self._let_go(running)
            try:
                running.stage = next(running.operation)
            except StopIteration as end:
                del self._running[running.number]
                self.outcomes.append(Finished(running.number, end.value))
                return

    def _ask(self, running: _Running, asks: Iterable[Ask], now: float) -> None:
        for ask in asks:
            transaction = self._query(ask, now, running)
            if transaction is not None:
                running.transactions.setdefault(ask.candidate, []).append(transaction)

    def _let_go(self, running: _Running) -> None:
        """Queries that an operation no longer waits for: the table still learns what becomes of them."""
        patience = lost_after(self.round_trip.timeout)
        for transactions in running.transactions.values():
            for transaction in transactions:
                pending = self._pending.get(transaction)
                if pending is not None:
                    self._pending[transaction] = pending._replace(running=None)
                    heapq.heappush(self._loose, (pending.sent_at + patience, transaction))
        running.transactions.clear()

    def _query(self, ask: Ask, now: float, running: _Running | None, learn: bool = True) -> bytes | None:
        """Send one query; returns its transaction, None where too many are waiting."""
        if len(self._pending) >= limits.DHT_PENDING_QUERIES:
            return None
        transaction = self.entropy(4)
        while transaction in self._pending:
            transaction = self.entropy(4)
        candidate, args = ask.candidate, ask.args | {b"id": self.node_id}
        if len(self.config.families) > 1 and ask.method in _WANTING:
            args[b"want"] = [b"n4", b"n6"]
        data = krpc.encode_query(transaction, ask.method, args, read_only=self.config.client)
        self._pending[transaction] = _Pending(candidate.endpoint, candidate.node_id, now, running, candidate, learn)
        self.outbox.append(Send(data, candidate.endpoint, None))
        return transaction
