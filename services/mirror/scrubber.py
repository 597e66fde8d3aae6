"""The background scrub: every copy is read anew once per interval, slowly; what is found wrong is healed at once.

This is what finds bytes that changed on the disk without the file system noticing. The copy that was read longest ago
comes first; its last time is in its note, so a restart does not begin over. docs/specification/mirror.md, 2.
"""

from __future__ import annotations

import time

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LibreSeedError

from .copies import Copy, stamps_of
from .library import Holding, Library

__all__ = ["Scrubber"]

_RUN = 1024  # chunks judged at a time: 5 MiB


class Scrubber:
    """Reads the copies of ``library`` in turn; ``interval`` in seconds, ``rate`` in bytes per second."""

    def __init__(self, library: Library, *, interval: float, rate: int) -> None:
        self._library = library
        self._interval_ms = int(interval * 1000)
        self._rate = rate
        self.scrubs = 0

    async def run(self) -> None:
        """Scrub until cancelled."""
        while True:
            now_ms = time.time_ns() // 10**6
            due = {
                one.release: (self._due_ms(one.copy, now_ms), one) for one in self._settled() if one.copy is not None
            }
            first = min(due.values(), key=lambda pair: pair[0], default=None)
            if first is None or first[0] > now_ms:
                # Copies come and go meanwhile: look again in time.
                await trio.sleep(min(self._interval_ms / 4, (first[0] - now_ms) if first else 2**31) / 1000 + 0.05)
                continue
            await self._scrub(first[1])

    def _settled(self) -> list[Holding]:
        return [one for one in self._library.holdings.values() if one.settled.is_set()]

    def _due_ms(self, copy: Copy, now_ms: int) -> int:
        """A clock that was set back does not delay a scrub."""
        return min(copy.note.judged_ms, now_ms) + self._interval_ms

    async def _scrub(self, holding: Holding) -> None:
        copy = holding.copy
        assert copy is not None
        try:
            good = await self._is_good(copy)
        except LibreSeedError:
            good = False
        except OSError as error:
            self._library.complain(holding, from_oserror(error, "scrubbing").message)
            good = False
        self.scrubs += 1
        if good and holding.copy is copy:
            await self._library.confirm(holding, copy, time.time_ns() // 10**6)
        else:
            self._library.suspect(holding)
            await holding.settled.wait()

    async def _is_good(self, copy: Copy) -> bool:
        """Whether nothing but what is known to be bad is bad."""
        if await trio.to_thread.run_sync(stamps_of, copy.files) != dict(copy.note.stamps):
            return False
        chunk_map = await self._library.chunk_map(copy)
        files = ChunkStore(chunk_map, copy.files.tgz, copy.files.path(".parity"))
        counts = (
            (files.verify_data, chunk_map.grid.n),
            (files.verify_parity, chunk_map.grid.parity_chunks(chunk_map.m)),
        )
        wrong = 0
        for verify, count in counts:
            began = trio.current_time()
            for start in range(0, count, _RUN):
                run = range(start, min(start + _RUN, count))
                wrong += (await trio.to_thread.run_sync(verify, run, limiter=self._library.judges)).count(0)
                await trio.sleep_until(began + run.stop * limits.CHUNK_BYTES / self._rate)
        return wrong == sum(map(len, (*copy.note.bad_data, *copy.note.bad_parity)))
