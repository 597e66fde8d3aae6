"""Single chunks on their way from peers to the disk: who is asked, what is written, what the plan hears of it.

The plan says which chunks, :class:`~libreseed.resolve.salvage_roster.SalvageRoster` which peers, the salvage verifies
every chunk; this writes them in place. One task owns it. ``docs/specification/resolver.md``, "Damaged peers".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.chunks.stripe_io import write_at
from libreseed.adapters.resolving.store import Workspace
from libreseed.adapters.torrent.events import Address
from libreseed.repair.chunkmap import ChunkMap
from libreseed.resolve.fetch_plan import FetchPlan
from libreseed.resolve.journal import Kind
from libreseed.resolve.piece_map import Chunk, Salvaged
from libreseed.resolve.salvage_roster import SalvageRoster
from libreseed.torrent.layout import TorrentLayout

__all__ = ["Salvage", "SingleChunks"]


class Salvage(Protocol):
    """Asks every peer for single chunks, except for those that it is mapped to; writes none of them."""

    async def __call__(  # noqa: D102
        self, chunk_map: ChunkMap, wants: Sequence[Chunk], peers: Mapping[Address, Collection[Chunk]]
    ) -> Salvaged: ...


class SingleChunks:
    """Call :meth:`ask`, count what it found, then :meth:`done`."""

    def __init__(self, plan: FetchPlan, space: Workspace, layout: TorrentLayout, salvage: Salvage | None) -> None:
        self._plan = plan
        self._space = space
        self._layout = layout
        self._salvage = salvage
        self._roster = SalvageRoster()
        self._result = Salvaged({}, set())
        self.received = 0  # bytes, at most: what was answered wrongly may have been refused in words

    async def ask(
        self, chunk_map: ChunkMap, store: ChunkStore, wants: Sequence[Chunk], known: Callable[[], Sequence[Address]]
    ) -> Collection[Chunk]:
        """The chunks of ``wants`` that were found and are on the disk now; ``known`` says who may answer."""
        self._result = Salvaged({}, set())
        asks = self._roster.to_ask(known(), wants)
        if self._salvage is not None and asks:
            self._result = await self._salvage(chunk_map, wants, asks)
            self._roster.note(self._result)
            answers = len(self._result.found) + sum(map(len, self._result.by_peer.values()))
            self.received += answers * limits.CHUNK_BYTES
        await trio.to_thread.run_sync(partial(self._write, store, self._result.found))
        return self._result.found.keys()

    def done(self, wants: Sequence[Chunk], known: Sequence[Address], now: float) -> None:
        """Tell the plan: what is not found is refused only if nobody is left to ask for it."""
        lacking = [wanted for wanted in wants if wanted not in self._result.found]
        self._plan.salvaging = False
        refused = self._roster.refused(known, lacking)
        self._plan.salvaged(wants, Salvaged(self._result.found, refused, self._result.by_peer), now)

    def _write(self, store: ChunkStore, found: Mapping[Chunk, bytes]) -> None:
        """Write verified chunks; in a thread. The parity file is only read by the repair, which verifies it again."""
        for (kind, chunk), data in found.items():
            if kind is Kind.DATA:
                store.write_chunk(chunk, data)
        parity = [(chunk, data) for (kind, chunk), data in found.items() if kind is Kind.PARITY]
        if len(parity) < len(found):
            store.sync()
        if parity:
            descriptor = os.open(self._space.swarm / self._layout.parity.name, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                for chunk, data in parity:
                    write_at(descriptor, data, chunk * limits.CHUNK_BYTES)
            finally:
                os.close(descriptor)
