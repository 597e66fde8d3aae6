"""An iterative lookup: which nodes to ask next on the way to a target, and when to stop.

Candidates belong to *paths*. A path asks only what it heard of itself, keeps its own window of nearest candidates and
has its own share of the bounds, so a lying node spoils one path, not the lookup (S/Kademlia, disjoint paths). A
candidate that is slow gives its place in flight to another and may still answer. At most one node per /24 or /64 is
asked, except on loopback, as long as that one may still answer.

State only: no messages, no clock, no transactions; see :mod:`libreseed.dht.operations`.
Specification: ``docs/specification/dht.md``, "Lookup".
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from libreseed import limits
from libreseed.dht.addresses import Endpoint, NodeInfo, family_of, prefix_of
from libreseed.dht.nodeid import follows_address

__all__ = ["PATHS", "PATH_WIDTH", "WINDOW", "Candidate", "Lookup", "State"]

PATHS = 3  # per address family
PATH_WIDTH = 3  # queries in flight per path
WINDOW = 8  # nearest candidates that a path must have asked
K = 20  # nearest candidates of all paths that must have been asked before a miss is a miss


class State(Enum):
    """What became of a candidate."""

    NEW = "new"
    BUSY = "busy"  # asked
    SLOW = "slow"  # asked, late, may still answer
    OK = "ok"
    DEAD = "dead"


class Candidate:
    """A node that may be asked; ``node_id`` is None for a bootstrap address until it answers."""

    __slots__ = (
        "distance",
        "endpoint",
        "family",
        "follows",
        "node_id",
        "path",
        "prefix",
        "retried",
        "sent_at",
        "state",
    )

    def __init__(self, node_id: bytes | None, endpoint: Endpoint, target: int, path: int) -> None:
        self.node_id = node_id
        self.endpoint = endpoint
        self.family = family_of(endpoint[0])
        self.prefix = prefix_of(endpoint[0])
        self.path = path
        self.state = State.NEW
        self.retried = False
        self.place(target)

    def place(self, target: int) -> None:
        """Set what depends on the id; an unknown id counts as nearest, so that it is asked first."""
        self.distance = -1 if self.node_id is None else int.from_bytes(self.node_id, "big") ^ target
        self.follows = self.node_id is None or follows_address(self.node_id, self.endpoint[0])  # BEP 42

    def __lt__(self, other: Candidate) -> bool:
        return (self.distance, self.endpoint) < (other.distance, other.endpoint)


class _Path:
    __slots__ = ("candidates", "family", "in_flight", "queries")

    def __init__(self, family: int) -> None:
        self.family = family
        self.candidates: list[Candidate] = []  # nearest first
        self.in_flight = 0
        self.queries = 0


class Lookup:
    """One lookup for ``target`` (20 bytes) over the given address families, from ``seeds``."""

    def __init__(
        self,
        target: bytes,
        own_id: bytes,
        seeds: Iterable[tuple[bytes | None, Endpoint]],
        families: Sequence[int] = (4,),
        *,
        paths: int = PATHS,
        reserve: Iterable[Endpoint] = (),
    ) -> None:
        self.target = target
        self.hurried = False
        self.queries = 0
        self.answers = 0
        self._target = int.from_bytes(target, "big")
        self._own_id = own_id
        self._paths = [_Path(family) for family in families for _ in range(paths)]
        self._share = limits.DHT_SEARCH_QUERIES // len(self._paths)
        self._all: dict[int, list[Candidate]] = {family: [] for family in families}
        self._endpoints: set[Endpoint] = set()
        self._prefixes: dict[str, Candidate] = {}
        self._strange = False  # some id does not follow from its address
        self._reserve = list(reserve)  # addresses to fall back on if no seed answers
        self._sow(seeds)

    @property
    def candidates(self) -> int:
        """How many candidates have been taken."""
        return len(self._endpoints)

    def take(self) -> list[Candidate]:
        """Candidates to ask now; they count as asked from here on."""
        chosen: list[Candidate] = []
        for path in self._paths:
            width = WINDOW if self.hurried else PATH_WIDTH
            for candidate in self._window(path.candidates, WINDOW):
                if path.in_flight >= width or path.queries >= self._share:
                    break
                if candidate.state is State.NEW and self._occupy(candidate):
                    chosen.append(self._ask(path, candidate))
        if chosen or any(path.in_flight for path in self._paths):
            return chosen
        if self._reserve and not self.answers:
            self._sow((None, endpoint) for endpoint in self._reserve)
            self._reserve = []
            return self.take()
        return [] if self.hurried else self._take_rest()

    def answered(self, candidate: Candidate, node_id: bytes, named: Iterable[NodeInfo]) -> None:
        """Note an answer and take the contacts that it names, nearest first, within the path's share."""
        self._land(candidate)
        candidate.state = State.OK
        self.answers += 1
        if candidate.node_id is None:
            nearest = self._all[candidate.family]
            path = self._paths[candidate.path].candidates
            nearest.remove(candidate)
            path.remove(candidate)
            candidate.node_id = node_id
            candidate.place(self._target)
            insort(nearest, candidate)
            insort(path, candidate)
        homes: dict[int, list[int]] = {}
        for rank, info in enumerate(sorted(named, key=lambda info: self._distance(info.node_id))):
            family = family_of(info.endpoint[0])
            if family not in homes:
                homes[family] = self._homes(candidate.path, family)
            if homes[family]:
                self._add(info.node_id, info.endpoint, homes[family][rank % len(homes[family])])

    def slow(self, candidate: Candidate) -> None:
        """Note that an answer is late: its place in flight is free again."""
        if candidate.state is State.BUSY:
            self._paths[candidate.path].in_flight -= 1
            candidate.state = State.SLOW

    def failed(self, candidate: Candidate) -> None:
        """Note that no answer will come."""
        self._land(candidate)
        candidate.state = State.DEAD
        if candidate.prefix is not None and self._prefixes.get(candidate.prefix) is candidate:
            del self._prefixes[candidate.prefix]

    def converged(self, *, patient: bool = True, whole: bool = True) -> bool:
        """Whether nothing is left to ask or to wait for.

        An impatient asker does not wait for slow candidates; ``whole`` includes the nearest K of all paths together.
        """
        if self._reserve and not self.answers:
            return False
        for path in self._paths:
            for candidate in self._window(path.candidates, WINDOW):
                if self._is_open(candidate, patient):
                    return False
        for nearest in self._all.values() if whole else ():
            for candidate in self._window(nearest, K):
                if self._is_open(candidate, patient):
                    return False
        return True

    def answerers(self, family: int) -> list[Candidate]:
        """The nodes of a family that have answered, nearest first."""
        return [candidate for candidate in self._all.get(family, ()) if candidate.state is State.OK]

    def _sow(self, seeds: Iterable[tuple[bytes | None, Endpoint]]) -> None:
        """Deal seeds to the paths of their family in turn, the nearest first."""
        places = [Candidate(node_id, endpoint, self._target, 0) for node_id, endpoint in seeds]
        for rank, seed in enumerate(sorted(places)):
            ours = [number for number, path in enumerate(self._paths) if path.family == seed.family]
            if ours:
                self._add(seed.node_id, seed.endpoint, ours[rank % len(ours)])

    def _take_rest(self) -> list[Candidate]:
        """Every path is done: ask what is left of the nearest K of all, as the paths share these unevenly."""
        chosen = []
        for nearest in self._all.values():
            for candidate in self._window(nearest, K):
                path = self._paths[candidate.path]
                if candidate.state is State.NEW and path.queries < self._share and self._occupy(candidate):
                    chosen.append(self._ask(path, candidate))
        return chosen

    def _is_open(self, candidate: Candidate, patient: bool) -> bool:
        if candidate.state is State.NEW:
            return self._paths[candidate.path].queries < self._share
        return candidate.state is State.BUSY or (patient and candidate.state is State.SLOW)

    def _window(self, nearest: list[Candidate], size: int) -> Iterator[Candidate]:
        """The nearest ``size`` candidates, and the nearest ``size`` of those whose id follows from their address.

        Whoever takes all places near a target without owning the addresses for it is thus asked beside others.
        """
        yield from self._nearest(nearest, size, False)
        if self._strange:
            yield from self._nearest(nearest, size, True)

    def _nearest(self, nearest: list[Candidate], size: int, following: bool) -> Iterator[Candidate]:
        """The nearest ``size`` candidates that are neither dead nor shut out by another of their prefix."""
        for candidate in nearest:
            if candidate.state is State.DEAD or (candidate.state is State.NEW and self._shut_out(candidate)):
                continue
            if following and not candidate.follows:
                continue
            yield candidate
            size -= 1
            if not size:
                return

    def _shut_out(self, candidate: Candidate) -> bool:
        return candidate.prefix is not None and self._prefixes.get(candidate.prefix, candidate) is not candidate

    def _occupy(self, candidate: Candidate) -> bool:
        if self._shut_out(candidate):
            return False
        if candidate.prefix is not None:
            self._prefixes[candidate.prefix] = candidate
        return True

    def _ask(self, path: _Path, candidate: Candidate) -> Candidate:
        candidate.state = State.BUSY
        path.in_flight += 1
        path.queries += 1
        self.queries += 1
        return candidate

    def _land(self, candidate: Candidate) -> None:
        if candidate.state is State.BUSY:
            self._paths[candidate.path].in_flight -= 1

    def _homes(self, path: int, family: int) -> list[int]:
        """Where contacts of ``family`` go: to the path that heard of them, and to paths that know nobody yet."""
        return [
            number
            for number, other in enumerate(self._paths)
            if other.family == family and (number == path or not other.candidates)
        ] or [number for number, other in enumerate(self._paths) if other.family == family][:1]

    def _add(self, node_id: bytes | None, endpoint: Endpoint, path: int) -> None:
        home = self._paths[path]
        if len(home.candidates) >= limits.DHT_SEARCH_CANDIDATES // len(self._paths):
            return
        if endpoint in self._endpoints or node_id == self._own_id:
            return  # an id may come twice: whoever names a wrong address for it must not shut out the right one
        candidate = Candidate(node_id, endpoint, self._target, path)
        self._strange = self._strange or not candidate.follows
        self._endpoints.add(endpoint)
        insort(home.candidates, candidate)
        insort(self._all[candidate.family], candidate)

    def _distance(self, node_id: bytes) -> int:
        return int.from_bytes(node_id, "big") ^ self._target
