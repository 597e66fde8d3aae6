"""The one task that moves releases into the log: whenever something is due, or a command rings.

A fault of this machine (a full disk, a clock set back) stops nothing else: it is logged, shows in /health and /metrics,
and is tried again. What the services and the releases do wrong is logged once each time it happens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from libreseed.adapters.silexium.releases.publication import Advanced, Publication
from libreseed.errors import LibreSeedError

from .office import wall_clock
from .wake import WakeBell

__all__ = ["Pump"]

_LOG = logging.getLogger("libreseed.silexium")
_RETRY_SECONDS = 30.0
_LONGEST_SECONDS = 300.0  # without looking: a ring may be lost, a clock may be set


@dataclass
class Pump:
    """``on_head`` is called after a head was signed; ``fault`` is the last step's, None when it went well; the counts
    are since the start."""

    publication: Publication
    bell: WakeBell
    on_head: Callable[[], None] = lambda: None
    fault: LibreSeedError | None = None
    logged: int = 0
    refused: int = 0
    stamp_refusals: int = 0

    async def run(self) -> None:
        """Advance until cancelled."""
        while True:
            wait = await self._step()
            with trio.move_on_after(wait):
                await self.bell.rung()

    async def _step(self) -> float:
        now = wall_clock()
        try:
            done = await self.publication.advance(now)
        except* LibreSeedError as faults:  # tasks that ask services for stamps may fail together
            self.fault = _first(faults)
            _LOG.error("publication stands still: %s [%s]", self.fault.message, self.fault.reason)
            done = None
        if done is None:
            return _RETRY_SECONDS
        self.fault = None
        self._tell(done)
        if done.signed:
            self.on_head()
        return min(max(0.0, done.next_due - now), _LONGEST_SECONDS)

    def _tell(self, done: Advanced) -> None:
        self.logged += len(done.logged)
        self.refused += len(done.refused)
        self.stamp_refusals += len(done.stamp_refusals)
        for release in done.logged:
            _LOG.info("logged %s", release)
        for release, error in done.refused:
            _LOG.warning("refused %s: %s [%s]", release, error.message, error.reason)
        for refusal in done.stamp_refusals:
            job, fault = refusal.job, refusal.error
            _LOG.warning("no %s stamp by %s: %s [%s]", job.kind, job.service, fault.message, fault.reason)


def _first(faults: BaseExceptionGroup[LibreSeedError]) -> LibreSeedError:
    """One of the faults, however deep it lies."""
    inner: BaseException = faults
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if not isinstance(inner, LibreSeedError):
        raise AssertionError("except* lets nothing else through")
    return inner
