"""Looks at a few chunks of what peers are just being given: rot that they would ban us for is noticed at once.

The scrub reads everything, and may come days later. A disk that has lost half of a file, or a file that somebody
overwrote, shows in a handful of chunks: the release is then checked and healed at full speed. A single flipped byte is
the scrub's matter. Cost: ``limits.SPOT_CHUNKS`` chunks and the chunk map per release and turn, while it gives anything.
docs/operations.md, "What is checked, and when".
"""

from __future__ import annotations

import logging
import random

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.errors import LibreSeedError

from .health import Meter
from .library import Holding, Library
from .stored import Stored, open_stored

__all__ = ["SpotCheck"]

_LOG = logging.getLogger("libreseed.seeder")


class SpotCheck:
    """Watches what the holdings of ``library`` upload, once per ``interval`` seconds."""

    def __init__(
        self,
        library: Library,
        meter: Meter,
        *,
        interval: float = limits.SPOT_SECONDS,
        draw: random.Random | None = None,
    ) -> None:
        self._library = library
        self._meter = meter
        self._interval = interval
        self._draw = draw or random.Random()  # noqa: S311  # which chunks is no secret
        self._given: dict[str, int] = {}
        self._meetings: dict[str, int] = {}
        self._alarmed: dict[str, float] = {}  # when each release was last checked because of a look

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.sleep(self._interval)
            await self.turn()

    async def turn(self) -> None:
        """Look at every release that has given something since the last turn."""
        for holding in list(self._library.holdings.values()):
            if holding.state == "seeding" and not holding.busy.locked() and await self._has_given(holding):
                await self._look(holding)
        for memory in (self._given, self._meetings, self._alarmed):
            for key in memory.keys() - self._library.holdings.keys():
                del memory[key]

    async def _has_given(self, holding: Holding) -> bool:
        torrent = holding.torrent
        if torrent is None:
            return False
        before, self._meetings[holding.key] = self._meetings.get(holding.key, 0), torrent.meetings
        if before == torrent.meetings and not torrent.connected:
            return False  # nobody was there: thousands of idle releases cost nothing
        try:
            uploaded = (await torrent.status()).uploaded
        except trio.ClosedResourceError:
            return False
        given, self._given[holding.key] = self._given.get(holding.key, 0), uploaded
        return uploaded > given

    async def _look(self, holding: Holding) -> None:
        known, now = holding.stored, trio.current_time()
        if (
            known is None
            or now < self._alarmed.get(holding.key, -limits.SPOT_PAUSE_SECONDS) + limits.SPOT_PAUSE_SECONDS
        ):
            return
        async with holding.busy:
            holds = await trio.to_thread.run_sync(self._holds, known, limiter=self._meter.threads)
        if not holds:
            self._alarmed[holding.key] = now
            _LOG.warning("%s: changed or damaged while peers are given it, checking everything", holding.key)
            await self._library.check(holding)

    def _holds(self, known: Stored) -> bool:
        """Whether the files are as long as they were, and some chunks, drawn at random, as they are signed; blocks."""
        try:
            found = open_stored(self._library.store, known.folder)
        except (LibreSeedError, OSError):
            return False  # the check says what it is
        if not found.trusted or found.chunk_map is None:
            return False
        chunk_map = found.chunk_map
        n = chunk_map.grid.n
        drawn = self._draw.sample(range(n), min(n, limits.SPOT_CHUNKS))
        files = ChunkStore(chunk_map, found.file(".tgz"))
        self._meter.chunks_judged += len(drawn)
        self._meter.bytes_hashed += len(drawn) * limits.CHUNK_BYTES
        return all(all(flags) for flags in files.verify_data_runs([range(at, at + 1) for at in sorted(drawn)]))
