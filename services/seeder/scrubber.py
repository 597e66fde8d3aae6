"""The background scrub: every release is read anew once per interval, slowly, and healed.

The release that was read longest ago comes first. Its last time is in its note, so a restart does not begin over.
docs/operations.md, "What is checked, and when".
"""

from __future__ import annotations

import time

import trio

from .config import SeederConfig
from .library import Holding, Library

__all__ = ["Scrubber"]


_BROKEN_MS = 3600 * 1000


class Scrubber:
    """Checks the releases of ``library`` in turn."""

    def __init__(self, library: Library, config: SeederConfig) -> None:
        self._library = library
        self._interval_ms = int(config.scrub_interval * 1000)
        self._rate = config.scrub_rate

    async def run(self) -> None:
        """Scrub until cancelled."""
        while True:
            now_ms = time.time_ns() // 10**6
            holding = self._next(now_ms)
            if holding is None:
                await trio.sleep(self._pause(now_ms))
                continue
            await self._library.check(holding, rate=self._rate)

    def _next(self, now_ms: int) -> Holding | None:
        """The holding that is most overdue, if any is due."""
        due = [one for one in self._library.holdings.values() if self._due_ms(one) <= now_ms]
        return min(due, key=self._due_ms, default=None)

    def _pause(self, now_ms: int) -> float:
        """Seconds until one is due; at most a quarter of the interval, because releases come and go meanwhile."""
        waiting = [self._due_ms(one) - now_ms for one in self._library.holdings.values() if one.stored is not None]
        return max(0.05, min([self._interval_ms / 4, *waiting]) / 1000)

    def _due_ms(self, holding: Holding) -> int:
        """When a holding is to be scrubbed, in Unix milliseconds; a clock that was set back does not delay it.

        A broken one is looked at again after an hour at the latest: its disk may be back.
        """
        if holding.stored is None or holding.state == "checking" or holding.hurry:
            return 2**62  # nothing can be judged, or somebody else is at it
        note = holding.stored.note
        last = max(note.scrubbed_ms, note.added_ms, holding.checked_ms)
        pause = min(self._interval_ms, _BROKEN_MS) if holding.state == "broken" else self._interval_ms
        return min(last, time.time_ns() // 10**6) + pause
