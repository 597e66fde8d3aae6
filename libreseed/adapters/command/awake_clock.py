"""A clock for ``trio.run`` that stands still while its process does.

Who stops a program (Ctrl-Z, a frozen container, a suspended or starved machine) and lets it go on would else find every
patience at an end at once: nobody is asked any more, although no source was silent. Only a run that has an end takes
this clock: what a daemon does by the hour is due by everybody's clock.

Times are seconds, as of any clock of trio's. The loop looks at the clock at least every ``_BEAT`` seconds, so a longer
gap was none of its own making. docs/specification/resolver.md, 4, fetch plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

__all__ = ["AwakeClock"]

_BEAT = 0.5  # seconds that the loop sleeps at most
_STANDSTILL = 1.5  # seconds without a look: this process did not run


class AwakeClock(trio.abc.Clock):
    """``monotonic`` counts all seconds; this one leaves out those of a standstill, but for one beat."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen = monotonic()
        self._missed = 0.0

    def start_clock(self) -> None:
        """See :class:`trio.abc.Clock`."""
        self._seen = self._monotonic()

    def current_time(self) -> float:
        """See :class:`trio.abc.Clock`."""
        now = self._monotonic()
        if (gap := now - self._seen) > _STANDSTILL:
            self._missed += gap - _BEAT
        self._seen = now
        return now - self._missed

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """See :class:`trio.abc.Clock`."""
        return min(deadline - self.current_time(), _BEAT)
