"""What a node does on request: find nodes, get and put items, find and announce peers, list records of a name.

An operation is a generator that yields *stages* and gets each back when it is done; what it returns is its result.
A stage says whom to ask next and takes the answers; :mod:`libreseed.dht.node` gives queries their transactions and
addresses their answers. Two kinds: :class:`Search` walks to a target, :class:`Batch` asks given nodes.

Nothing here sends or reads a clock. Specification: ``docs/specification/dht.md``, "Lookup", "Put", "Name discovery".
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple, Protocol

from libreseed import limits
from libreseed.dht.addresses import Endpoint, NodeInfo, may_name, unpack_nodes
from libreseed.dht.krpc import Failure, Fields, Response, bytes_field
from libreseed.dht.lookup import PATHS, Candidate, Lookup, State
from libreseed.errors import Malformed

__all__ = ["Ask", "Batch", "Operation", "Search", "Seeker", "Stage", "lost_after", "nodes_of"]

QUORUM = 4  # nodes that must give the same newest item before a get stops early, on at least two paths
REPLICAS = 16  # nearest nodes that a put or an announcement goes to
REPLICAS_ANY = 8  # of these, whether or not their ids follow from their addresses
SLOW_AFTER, DEAD_AFTER = 1, 3  # multiples of the retransmission timeout
_SOONEST_LOSS = 0.5  # seconds: a machine that is busy keeps all its datagrams waiting for longer than its network does


def lost_after(rto: float) -> float:
    """Seconds from a query until it counts as lost, given the timeout ``rto`` in seconds."""
    return max(DEAD_AFTER * rto, _SOONEST_LOSS)


class Ask(NamedTuple):
    """A query to send: the candidate stands for it when the answer comes."""

    candidate: Candidate
    method: bytes
    args: Fields


class Seeker(Protocol):
    """Makes lookups from what a node knows."""

    def lookup(self, target: bytes, paths: int = PATHS) -> Lookup:
        """A lookup for 20 bytes, from the best seeds known."""


class Collector(Protocol):
    """Takes what a search is for out of its answers."""

    def take(self, candidate: Candidate, response: Response) -> None: ...

    def enough(self, lookup: Lookup) -> bool: ...


class _InFlight:
    """Candidates that were asked and have neither answered nor died."""

    def __init__(self) -> None:
        self.asked: dict[Candidate, float] = {}

    def overdue(self, now: float, rto: float) -> tuple[list[Candidate], list[Candidate]]:
        """Those newly slow and those newly dead, given the present timeout ``rto`` in seconds."""
        slow = [c for c, at in self.asked.items() if c.state is State.BUSY and now >= at + SLOW_AFTER * rto]
        dead = [c for c, at in self.asked.items() if now >= at + lost_after(rto)]
        return slow, dead

    def next_timeout(self, rto: float) -> float | None:
        times = [
            at + (SLOW_AFTER * rto if candidate.state is State.BUSY else lost_after(rto))
            for candidate, at in self.asked.items()
        ]
        return min(times, default=None)


class Stage(Protocol):
    """One step of an operation."""

    flight: _InFlight

    def poll(self, now: float, rto: float) -> tuple[list[Ask], list[Candidate]]:
        """Queries to send now, and candidates that have died."""

    def reply(self, candidate: Candidate, answer: Response | Failure) -> None:
        """Take an answer; what is malformed in it makes the candidate count as dead."""

    @property
    def done(self) -> bool:
        """Whether the operation may go on."""


Operation = Generator[Stage, None, object]


class Search:
    """Walks to a target, asking ``method`` with ``args``; ``collector`` says when to stop early."""

    def __init__(self, lookup: Lookup, method: bytes, args: Fields, collector: Collector) -> None:
        self.lookup = lookup
        self.flight = _InFlight()
        self.tokens: dict[Endpoint, bytes] = {}
        self._method = method
        self._args = args
        self._collector = collector
        self._ends: float | None = None
        self._expired = False

    def poll(self, now: float, rto: float) -> tuple[list[Ask], list[Candidate]]:
        """See :class:`Stage`."""
        if self._ends is None:
            self._ends = now + limits.DHT_SEARCH_SECONDS
        self._expired = now >= self._ends
        slow, dead = self.flight.overdue(now, rto)
        again = [candidate for candidate in slow if candidate.node_id is None and not candidate.retried]
        for candidate in slow:
            candidate.retried = True
            self.lookup.slow(candidate)
        for candidate in dead:
            del self.flight.asked[candidate]
            self.lookup.failed(candidate)
        chosen = [] if self.done else self.lookup.take()
        for candidate in chosen:
            self.flight.asked[candidate] = now
        return [Ask(candidate, self._method, self._args) for candidate in again + chosen], dead

    def reply(self, candidate: Candidate, answer: Response | Failure) -> None:
        """See :class:`Stage`."""
        self.flight.asked.pop(candidate, None)
        try:
            if isinstance(answer, Failure):
                raise Malformed("encoding.type", "an error instead of an answer")
            named = nodes_of(answer, candidate.endpoint)
            if b"token" in answer.values:
                self.tokens[candidate.endpoint] = bytes_field(answer.values, b"token", 0, 64)
        except Malformed:
            self.lookup.failed(candidate)
            return
        self.lookup.answered(candidate, answer.sender, named)
        self._collector.take(candidate, answer)

    @property
    def done(self) -> bool:
        """Enough was collected, or there is nobody left to ask."""
        return self._expired or self._collector.enough(self.lookup)

    def writers(self, families: Iterable[int]) -> list[Candidate]:
        """Where to write, per family: the nearest nodes that gave a token and whose ids follow from their addresses
        (BEP 42), and the nearest few of any kind.
        """
        chosen: dict[Candidate, None] = {}
        for family in families:
            with_token = [node for node in self.lookup.answerers(family) if node.endpoint in self.tokens]
            chosen |= dict.fromkeys([node for node in with_token if node.follows][:REPLICAS])
            chosen |= dict.fromkeys(with_token[:REPLICAS_ANY])
        return list(chosen)


class Batch:
    """Asks given nodes once each (again once when slow) and keeps their answers."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.flight = _InFlight()
        self.answers: list[tuple[Candidate, Response]] = []
        self.failures: list[tuple[Candidate, Failure]] = []
        self._asks = {ask.candidate: ask for ask in asks}
        self._waiting = list(asks)

    def poll(self, now: float, rto: float) -> tuple[list[Ask], list[Candidate]]:
        """See :class:`Stage`."""
        slow, dead = self.flight.overdue(now, rto)
        for candidate in slow:
            candidate.state = State.SLOW
        for candidate in dead:
            del self.flight.asked[candidate]
            candidate.state = State.DEAD
        sending = [self._asks[candidate] for candidate in slow] + self._waiting
        for ask in self._waiting:
            ask.candidate.state = State.BUSY
            self.flight.asked[ask.candidate] = now
        self._waiting = []
        return sending, dead

    def reply(self, candidate: Candidate, answer: Response | Failure) -> None:
        """See :class:`Stage`."""
        self.flight.asked.pop(candidate, None)
        candidate.state = State.OK
        if isinstance(answer, Response):
            self.answers.append((candidate, answer))
        else:
            self.failures.append((candidate, answer))

    @property
    def done(self) -> bool:
        """Everybody has answered or died."""
        return not self._waiting and not self.flight.asked


def nodes_of(response: Response, speaker: Endpoint) -> list[NodeInfo]:
    """Contacts that ``speaker`` names and may name; raises :class:`Malformed` where a list is broken."""
    named: list[NodeInfo] = []
    for name, family in ((b"nodes", 4), (b"nodes6", 6)):
        if name in response.values:
            data = bytes_field(response.values, name, 0, limits.KRPC_BYTES)
            named += unpack_nodes(data, family, limits.DHT_NODES_READ)
    return [info for info in named if may_name(speaker, info.endpoint)]
