"""What one mirror is worth: how much of what it sent was right, how fast it is, and whether it is still asked.

A mirror is a claim until its bytes verify. It starts with small requests that grow while they verify and shrink
when they do not; it rests after a fault, and is *dropped*, with a reason for the report, when it proves useless.
Invariants: a dropped mirror never comes back; one that gave good chunks is never dropped for what it lacks. Time is an
argument (seconds). ``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libreseed import limits
from libreseed.resolve.journal import Kind

__all__ = ["MirrorScore"]

# Faults that no second try mends: the mirror's name, its certificate, or its manners.
_FOR_GOOD = frozenset({"http.certificate", "http.encoding", "http.redirect", "http.url"})


@dataclass(slots=True)
class MirrorScore:
    """``good`` and ``bad`` count chunks, ``received`` bytes of bodies, ``window`` is how many chunks to ask for.

    ``rate`` are bytes per second within one request (0: not known yet), ``fast`` says that another connection would
    bring no more than it costs, ``trust`` is the share of what came lately that was right, ``misses`` how many chunks
    in a row were not. ``reason`` is "" until the mirror is dropped; ``why`` is for people.
    """

    url: str
    good: int = 0
    bad: int = 0
    refused: int = 0
    received: int = 0
    window: int = limits.MIRROR_FIRST_CHUNKS
    rate: float = 0.0
    fast: bool = False
    trust: float = 0.5
    holds: float = 1.0
    misses: int = 0
    ready_at: float = 0.0
    try_at: float = 0.0
    reason: str = ""
    why: str = ""
    last_fault: str = field(default="", repr=False)
    _given: set[Kind] = field(default_factory=set, repr=False)
    _strikes: int = field(default=0, repr=False)
    _empty: int = field(default=0, repr=False)  # refusals since the last good chunk
    _robbed: int = field(default=0, repr=False)
    _tries: int = field(default=0, repr=False)

    @property
    def alive(self) -> bool:
        """Whether it may still be asked."""
        return not self.reason

    @property
    def clean(self) -> bool:
        """Whether everything that it ever sent was right, and it lacked nothing."""
        return not self.bad and not self.refused

    @property
    def patchy(self) -> bool:
        """Whether so much of what it was asked for lately was wrong, or not there, that peers are the better choice."""
        return self.holds < limits.MIRROR_HOLDS or self.misses >= limits.MIRROR_BAD_RUN

    @property
    def hopeful(self) -> bool:
        """Whether it is alive and not patchy, or only in a gap that may end soon."""
        gap = self.proven and self.holds >= limits.MIRROR_HOLDS and self._tries < limits.MIRROR_TRIES
        return self.alive and (not self.patchy or gap)

    @property
    def refusals(self) -> int:
        """How often in a row it could not give what it was asked for."""
        return self._empty

    @property
    def proven(self) -> bool:
        """Whether it has given anything good."""
        return self.good > 0

    def has_given(self, kind: Kind) -> bool:
        """Whether chunks of that file came, right or wrong."""
        return kind in self._given

    def took(self, kind: Kind, good: int, bad: int, gaps: int | None = None) -> None:
        """So many chunks arrived and were judged; the wrong ones in so many ``gaps`` (default: each is one).

        A long gap is no worse than a short one: beside it all may be good.
        """
        self._given.add(kind)
        self.good += good
        self.bad += bad
        self.trust += (good / (good + bad) - self.trust) * (1 - 0.8 ** (good + bad))
        self.misses = 0 if good else self.misses + bad
        if kind is Kind.DATA:
            self._estimate(good, bad if gaps is None else gaps)
        if good:
            self._strikes = self._empty = 0
        if self.bad >= limits.MIRROR_BAD_CHUNKS and not self.good:
            self.drop("source.mirror-lies", f"{self.bad} chunks came, none of them as signed")
        elif self.bad >= limits.MIRROR_BAD_CHUNKS_MOST and self.bad > 9 * self.good:
            self.drop("source.mirror-lies", f"{self.bad} of {self.bad + self.good} chunks were not as signed")

    def finished(self, good: int, bad: int, seconds: float, most: int) -> None:
        """A request of ``good + bad`` chunks ended in order; ``most`` bounds the next one."""
        if bad:
            self.window = max(1, self.window // 2 if good > bad else 1)
        elif good:
            self._measure(good * limits.CHUNK_BYTES, seconds)
            growth = 4 if seconds < limits.MIRROR_QUICK_SECONDS else 2
            self.window = max(1, min(self.window * growth, most))

    def lacked(self, kind: Kind, chunks: int, now: float, pause_s: float) -> None:
        """It answered that it cannot give these (404, 416, 503, ...), asking for ``pause_s`` of rest maybe."""
        self.refused += 1
        self._empty += 1
        if kind is Kind.DATA and not pause_s and self._empty == 1:
            self._estimate(0, 1)
        self.window = max(1, chunks // 2)
        self.ready_at = max(self.ready_at, now + min(pause_s, limits.MIRROR_PAUSE_SECONDS))
        if self._empty >= limits.MIRROR_REFUSALS and not self.good:
            self.drop("source.mirror-lacks", "it does not serve this release")

    def failed(self, reason: str, message: str, now: float) -> None:
        """A request failed: no connection, a broken rule, cut off, too slow."""
        self._strikes += 1
        self.last_fault = message
        self.window = max(1, self.window // 2)
        self.ready_at = max(self.ready_at, now + limits.MIRROR_REST_SECONDS * 2 ** (self._strikes - 1))
        if reason in _FOR_GOOD or self._strikes >= limits.MIRROR_STRIKES:
            self.drop(reason, message)

    def robbed(self, now: float) -> None:
        """Somebody else had to finish what it was asked for, because it was slow."""
        self._robbed += 1
        self.ready_at = max(self.ready_at, now + limits.MIRROR_ROB_SECONDS * 2**self._robbed)
        self.window = max(1, self.window // 4)
        if self._robbed >= limits.MIRROR_ROBBERIES:
            self.drop("source.mirror-slow", f"others had to finish {self._robbed} of its requests")

    def tried(self, now: float) -> None:
        """It was asked for something beyond what only mirrors have, though it is patchy."""
        self._tries += 1
        self.try_at = now + limits.MIRROR_ROB_SECONDS * 2**self._tries

    def drop(self, reason: str, why: str) -> None:
        """Ask it no more; the first reason counts."""
        if not self.reason:
            self.reason, self.why = reason, why

    def seconds_for(self, chunks: int) -> float:
        """How long it would take for ``chunks``, as far as is known."""
        return chunks * limits.CHUNK_BYTES / self.rate if self.rate else 0.0

    def _estimate(self, had: int, gaps: int) -> None:
        if had + gaps:
            self.holds += (had / (had + gaps) - self.holds) * (1 - 0.95 ** (had + gaps))
        if not self.patchy:
            self._tries, self.try_at = 0, 0.0

    def _measure(self, count: int, seconds: float) -> None:
        rate = count / max(seconds, 1e-6)
        self.rate = rate if not self.rate else 0.7 * self.rate + 0.3 * rate
        self.fast = count > (seconds - limits.MIRROR_QUICK_SECONDS) * limits.MIRROR_FAST_RATE
