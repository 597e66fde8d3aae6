"""The account of one fetch: a verified chunk is journaled, then known to the plan, then counted by where it came from.

Owned by the task of :class:`libreseed.adapters.resolving.fetch.ContentFetch`. An append to the journal writes some
bytes to the page cache and does not block noticeably.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from libreseed.adapters.chunks.recovery import runs_of
from libreseed.adapters.resolving.journal import Journal
from libreseed.resolve.fetch_plan import FetchPlan
from libreseed.resolve.journal import Kind, Origin, Run

__all__ = ["ChunkLedger", "FetchTotals"]


@dataclass(slots=True)
class FetchTotals:
    """Chunks by where they came from; ``parity`` are verified parity chunks fetched in this run."""

    downloaded: int = 0
    mirrored: int = 0
    salvaged: int = 0
    repaired: int = 0
    reused: int = 0
    healed: int = 0
    parity: int = 0


class ChunkLedger:
    """``journal`` is set once the chunk map is known, and closed by :meth:`close`."""

    def __init__(self, plan: FetchPlan) -> None:
        self.totals = FetchTotals()
        self.journal: Journal | None = None
        self._plan = plan
        self._runs: list[Run] = []  # what the journal has not been told yet
        self._together = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """One append to the journal for all that is counted in the block, which must not await."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._write()

    def count(self, kind: Kind, origin: Origin, chunks: Iterable[int], flags: Iterable[int], now: float) -> None:
        """``flags`` says which of ``chunks`` verified; those that were not known yet count."""
        known = self._plan.verified.data if kind is Kind.DATA else self._plan.verified.parity
        fresh: Sequence[int]
        if isinstance(chunks, range) and all(flags) and known.find(1, chunks.start, chunks.stop) < 0:
            fresh = chunks  # the usual case: a run of one piece
        else:
            fresh = [chunk for chunk, flag in zip(chunks, flags, strict=True) if flag and not known[chunk]]
        self._note(kind, origin, fresh)
        by_plan = origin in (Origin.SWARM, Origin.MIRROR)  # the plan shared these out: no wish changes
        self._plan.chunks_verified(kind, fresh, now, by_session=by_plan)
        if kind is Kind.PARITY:
            self.totals.parity += len(fresh)
        elif origin is Origin.SWARM:
            self.totals.downloaded += len(fresh)
        elif origin is Origin.MIRROR:
            self.totals.mirrored += len(fresh)
        elif origin is Origin.PEER:
            self.totals.salvaged += len(fresh)
        else:
            self.totals.repaired += len(fresh)

    def lost(self, kind: Kind, chunks: list[int]) -> None:
        """These were verified, and are found damaged on this disk."""
        self._note(kind, Origin.LOST, chunks)
        self._plan.chunks_lost(kind, chunks)

    def close(self) -> None:
        """Close the journal; the totals stay."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def _note(self, kind: Kind, origin: Origin, chunks: Sequence[int]) -> None:
        self._runs += runs_of(kind, origin, chunks)
        if not self._together:
            self._write()

    def _write(self) -> None:
        runs, self._runs = self._runs, []
        if runs and self.journal is not None:
            self.journal.append(runs)
