"""Who fetches which chunks over HTTP: asks to mirrors, their outcomes, and what each mirror is known to lack.

The *pool* says which chunks mirrors may fetch now: those that are missing, not under way over HTTP, and not left to the
swarm. The board hands out runs of it as :class:`Ask`; what an ask does not bring returns to the pool. A mirror that
never failed takes runs from one end. One that sent something wrong, or lacks something, is asked for what lies beside
chunks that it gave, then for one chunk in the middle of the largest stretch that is not known of it: so a damaged
copy shows its good parts for few wasted bytes. Once ``limits.MIRROR_WASTE_SHARE`` of the release was wasted, such a
mirror is asked only for what nobody better has.

Invariants: a chunk is in one ask at a time; a mirror is asked for no chunk twice that it gave wrongly or lacks. One
task owns it; no IO; time is an argument. ``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from libreseed import limits
from libreseed.resolve.journal import Kind
from libreseed.resolve.mirror_score import MirrorScore

__all__ = ["ANYBODY", "LATER", "MIRRORS_ONLY", "TAKEN", "Ask", "MirrorBoard"]

# Values of a pool, per chunk. LATER is for mirrors only, too, and will cost fewer bytes once the session has finished
# what lies beside it.
TAKEN, MIRRORS_ONLY, ANYBODY, LATER = range(4)
_CLEARLY = 0.2  # by how much the share of right chunks must be larger


@dataclass(slots=True, eq=False)
class Ask:
    """Neighbouring ``chunks`` that one mirror is asked for; ``done`` of them have arrived, in order.

    ``tier`` is what the pool said of them. ``head`` bytes of the first one and ``tail`` bytes of the last one are here,
    and not asked for. ``robbed`` tells whoever carries it out to stop: somebody else takes the rest over. A
    ``sample`` asks for a few bytes that are here, next to those that are not: where they are wrong, so is the rest most
    likely.
    """

    mirror: MirrorScore
    kind: Kind
    chunks: range
    began_at: float
    tier: int = MIRRORS_ONLY
    done: int = 0
    good: int = 0
    bad: int = 0
    robbed: bool = False
    head: int = 0
    tail: int = 0
    sample: bool = False
    _bad_run: int = field(default=0, repr=False)

    @property
    def left(self) -> range:
        """What has not arrived."""
        return self.chunks[self.done :]

    def seconds_left(self, now: float) -> float:
        """How much longer it will take at its pace so far."""
        return len(self.left) * max(now - self.began_at, 1e-3) / max(self.done, 0.5)


class MirrorBoard:
    """``sizes`` are the numbers of data and parity chunks."""

    def __init__(self, urls: Sequence[str], sizes: tuple[int, int]) -> None:
        self.mirrors = [MirrorScore(url) for url in urls]
        self.asks: list[Ask] = []
        self.pools = {Kind.DATA: bytearray(sizes[0]), Kind.PARITY: bytearray(sizes[1])}
        self.wasted = 0  # bytes that did not verify, or that were here already
        self._most = min(max(2 * limits.MIRROR_FIRST_CHUNKS, sizes[0] // 128), limits.MIRROR_ASK_CHUNKS)
        self._most_alone = max(limits.MIRROR_ASK_CHUNKS, min(sizes[0] // 16, limits.MIRROR_ASK_ALONE_CHUNKS))
        self._budget = int(sizes[0] * limits.CHUNK_BYTES * limits.MIRROR_WASTE_SHARE)
        self._alike: set[tuple[str, int]] = set()  # data chunks of which a mirror's sample was right
        self._lacks: dict[tuple[str, Kind], bytearray] = {}
        self.stalled = False  # peers offer, and deliver nothing
        self.cheapest: list[int] = []  # data chunks of which a part is here, for mirrors that often give junk
        self.tried: MirrorScore | None = None  # a patchy mirror that may show that it has come to better parts
        self.backward = False  # data from its end, because the swarm works from its start

    # --- asking ------------------------------------------------------------------------------------------------------
    def next(self, mirror: MirrorScore, now: float) -> Ask | None:
        """The next run for ``mirror`` to fetch; None when there is nothing for it now."""
        if not mirror.alive or mirror.ready_at > now or self.asks_of(mirror) >= self._connections(mirror):
            return None
        for kind in Kind:
            chunks = self._choose(mirror, kind)
            if chunks:
                ask = Ask(mirror, kind, chunks, now, self.pools[kind][chunks.start])
                self.asks.append(ask)
                self.pools[kind][chunks.start : chunks.stop] = bytes(len(chunks))
                return ask
        return None

    def able(self, now: float) -> bool:
        """Whether a mirror is at work, or may yet give something of the pool."""
        return bool(self.asks) or any(self._has_use(mirror, now) for mirror in self.mirrors)

    def wake_at(self, now: float) -> float | None:
        """When the next mirror has rested."""
        return min((one.ready_at for one in self.mirrors if one.alive and one.ready_at > now), default=None)

    def may_hold(self, kind: Kind, chunk: int) -> bool:
        """Whether a mirror is not known to lack ``chunk``."""
        return any(mirror.alive and not self._lacking(mirror, kind)[chunk] for mirror in self.mirrors)

    def hopes(self, kind: Kind, here: bytearray) -> bytes:
        """1 for each chunk that is ``here``, or that a mirror may hold, else 0."""
        size = len(here)
        lacking = ones = int.from_bytes(b"\1" * size, "little")
        for mirror in self.mirrors:
            if mirror.alive:
                lacking &= int.from_bytes(self._lacking(mirror, kind), "little")
        return (ones & ~lacking | int.from_bytes(here, "little")).to_bytes(size, "little")

    def asks_of(self, mirror: MirrorScore) -> int:
        """How many requests ``mirror`` is at work on."""
        return sum(ask.mirror is mirror for ask in self.asks)

    # --- outcomes ----------------------------------------------------------------------------------------------------
    def arrived(self, ask: Ask, flags: bytes | bytearray) -> bool:
        """The next ``len(flags)`` chunks of ``ask`` came; 1 is as signed. False: it is not worth reading on."""
        chunks = ask.left[: len(flags)]
        bad = flags.count(0)
        ask.done += len(flags)
        ask.bad += bad
        ask.good += len(flags) - bad
        self.wasted += bad * limits.CHUNK_BYTES
        if bad:
            lacks = self._lacking(ask.mirror, ask.kind)
            for chunk, flag in zip(chunks, flags, strict=True):
                if not flag:
                    lacks[chunk] = 1
        before = b"\0" if ask._bad_run or ask.mirror.misses else b"\1"
        ask.mirror.took(ask.kind, len(flags) - bad, bad, (before + flags).count(b"\1\0"))
        ask._bad_run = len(flags) - 1 - flags.rfind(1) + (ask._bad_run if bad == len(flags) else 0) if bad else 0
        return ask.mirror.alive and ask._bad_run < limits.MIRROR_BAD_RUN

    def compared(self, ask: Ask, same: bool) -> None:
        """What a sample brought: the bytes that are here already, or others, and then the chunk is not asked for."""
        if same:
            self._alike.add((ask.mirror.url, ask.chunks.start))
        else:
            self._lacking(ask.mirror, ask.kind)[ask.chunks.start] = 1
            ask.mirror.took(ask.kind, 0, 1, gaps=not ask.mirror.misses)

    def worth_a_sample(self, ask: Ask) -> bool:
        """Whether to ask a mirror that often sends junk for a few known bytes of a chunk first."""
        known = max(ask.head, ask.tail) >= limits.MIRROR_SAMPLE_BYTES
        doubtful = ask.mirror.bad > 0 and ask.mirror.patchy and len(ask.chunks) == 1
        return known and doubtful and (ask.mirror.url, ask.chunks.start) not in self._alike

    def ended(self, ask: Ask, now: float) -> None:
        """The ask is over, whole or not; what it did not bring is for others."""
        self.asks.remove(ask)
        if not ask.robbed:
            ask.mirror.finished(ask.good, ask.bad, now - ask.began_at, self._ask_most(ask.mirror))

    def withdrawn(self, ask: Ask) -> None:
        """The ask was not carried out, through no fault of the mirror's."""
        self.asks.remove(ask)

    def refused(self, ask: Ask, now: float, pause_s: float = 0.0) -> None:
        """The mirror says that it cannot give this run; a rest that it asks for is granted a few times."""
        self.asks.remove(ask)
        patient = pause_s > 0 and ask.mirror.refusals < limits.MIRROR_PAUSES
        if len(ask.chunks) == 1 and not patient:
            self._lacking(ask.mirror, ask.kind)[ask.chunks.start] = 1
        ask.mirror.lacked(ask.kind, len(ask.chunks), now, pause_s if patient else 0.0)

    def failed(self, ask: Ask, reason: str, message: str, now: float) -> None:
        """The request failed (``http.*``); what came before counts."""
        self.asks.remove(ask)
        ask.mirror.failed(reason, message, now)

    def rob(self, mirror: MirrorScore, now: float) -> Ask | None:
        """A slow ask that ``mirror``, which has nothing to do, shall take over; it is marked, and ends soon."""
        others = (ask for ask in self.asks if ask.mirror is not mirror and not ask.robbed)
        slow = max(others, key=lambda ask: ask.seconds_left(now), default=None)
        if slow is None or not mirror.alive or not mirror.proven or mirror.ready_at > now:
            return None
        mine = mirror.seconds_for(len(slow.left))
        if now - slow.began_at < limits.MIRROR_ROB_SECONDS or slow.seconds_left(now) < 2 * mine:
            return None
        lacks = self._lacking(mirror, slow.kind)
        if lacks.find(0, slow.left.start, slow.left.stop) < 0:
            return None
        slow.robbed = True
        slow.mirror.robbed(now)
        return slow

    # --- choosing ----------------------------------------------------------------------------------------------------
    def _choose(self, mirror: MirrorScore, kind: Kind) -> range:
        """What ``mirror`` shall fetch; a poor one leaves it to a better one that has a use for it, too."""
        chunks = self._candidate(mirror, kind)
        poor = not mirror.clean and (mirror.misses >= limits.MIRROR_BAD_RUN or self.wasted > self._budget)
        if chunks and poor and any(self._candidate(other, kind) for other in self._better(mirror)):
            return range(0)
        return chunks

    def _better(self, mirror: MirrorScore) -> Iterator[MirrorScore]:
        for other in self.mirrors:
            if other is not mirror and other.alive and other.proven and other.trust > mirror.trust + _CLEARLY:
                yield other

    def _candidate(self, mirror: MirrorScore, kind: Kind) -> range:
        pool = self.pools[kind]
        for tier in self._tiers(mirror):
            length = self._length(mirror, pool.count(tier))
            chunks = self._run(pool, tier, length) if mirror.clean else self._probe(mirror, kind, tier, length)
            if chunks:
                return chunks
        return range(0)

    def _tiers(self, mirror: MirrorScore) -> tuple[int, ...]:
        """What ``mirror`` may be asked for, the best use of it first."""
        if not self.stalled and not mirror.clean and (mirror.patchy or self.wasted > self._budget):
            return (MIRRORS_ONLY, ANYBODY) if mirror is self.tried else (MIRRORS_ONLY,)
        if mirror.good < limits.MIRROR_BAD_CHUNKS:  # what it is worth shows where nobody else can help
            return MIRRORS_ONLY, LATER, ANYBODY
        return MIRRORS_ONLY, ANYBODY, LATER

    def _run(self, pool: bytearray, tier: int, length: int) -> range:
        """The first run, or the last one where the swarm works from the other end."""
        value = bytes([tier])
        if self.backward and tier == ANYBODY:
            end = pool.rfind(value) + 1
            portion = pool[max(0, end - length) : end]
            return range(end - (len(portion) - len(portion.rstrip(value))), end)
        start = max(pool.find(value), 0)
        portion = pool[start : start + length]
        return range(start, start + len(portion) - len(portion.lstrip(value)))

    def _probe(self, mirror: MirrorScore, kind: Kind, tier: int, length: int) -> range:
        """A run beside what the mirror is not known to lack; else one chunk amid the largest stretch."""
        lacks, widest = self._lacking(mirror, kind), range(0)
        for chunk in self.cheapest if kind is Kind.DATA else ():
            if self.pools[kind][chunk] == tier and not lacks[chunk]:
                return range(chunk, chunk + 1)
        for stretch in _stretches(self.pools[kind], tier, lacks):
            if not (stretch.start and lacks[stretch.start - 1]):
                return stretch[:length]
            if len(stretch) > len(widest):
                widest = stretch
        return widest[len(widest) // 2 :][:1]

    def _length(self, mirror: MirrorScore, waiting: int) -> int:
        """Chunks to ask for: no more than a fair share of what waits, so that all end at about the same time.

        But not so few that asking takes longer than fetching.
        """
        places = sum(self._connections(one) for one in self.mirrors if one.alive)
        fair = -(-waiting // (2 * max(1, places)))
        quick = int(mirror.rate * limits.MIRROR_QUICK_SECONDS) // limits.CHUNK_BYTES
        return max(1, min(mirror.window, max(limits.MIRROR_FIRST_CHUNKS, quick, fair)))

    def _ask_most(self, mirror: MirrorScore) -> int:
        half_second = int(mirror.rate / 2) // limits.CHUNK_BYTES
        most = self._most_alone if self._alone else self._most
        return min(most, max(2 * limits.MIRROR_FIRST_CHUNKS, half_second))

    def _connections(self, mirror: MirrorScore) -> int:
        """One until it has proven itself, that a liar does not lie many times at once; few where others help, or where
        few bring what this machine can take."""
        if not mirror.proven or not mirror.clean:
            return 1
        return limits.MIRROR_CONNECTIONS if self._alone and not mirror.fast else limits.MIRROR_CONNECTIONS // 2

    @property
    def wasteful(self) -> bool:
        """Whether every mirror that is left sends junk for a good part of what it is asked for."""
        left = [mirror for mirror in self.mirrors if mirror.alive]
        return bool(left) and all(mirror.bad and mirror.patchy for mirror in left)

    @property
    def _alone(self) -> bool:
        """Whether there is nobody but one mirror."""
        return not self.backward and sum(one.alive for one in self.mirrors) == 1

    def _has_use(self, mirror: MirrorScore, now: float) -> bool:
        return mirror.alive and any(self._choose(mirror, kind) for kind in Kind)

    def _lacking(self, mirror: MirrorScore, kind: Kind) -> bytearray:
        return self._lacks.setdefault((mirror.url, kind), bytearray(len(self.pools[kind])))


def _stretches(pool: bytearray, tier: int, lacks: bytearray) -> Iterator[range]:
    """The first ``limits.MIRROR_STRETCHES`` maximal runs of chunks that wait in ``tier`` and are not known to lack."""
    others = [value for value in (TAKEN, MIRRORS_ONLY, ANYBODY, LATER) if value != tier]
    at = pool.find(tier)
    for _ in range(limits.MIRROR_STRETCHES):
        while at >= 0 and lacks[at]:
            known = lacks.find(0, at)
            at = pool.find(tier, known) if known >= 0 else -1
        if at < 0:
            return
        ends = (*(pool.find(value, at) for value in others), lacks.find(1, at))
        end = min((end for end in ends if end >= 0), default=len(pool))
        yield range(at, end)
        at = pool.find(tier, end)
