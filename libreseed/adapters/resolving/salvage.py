"""Single chunks from single peers: what the torrent session refuses as a piece may still be good chunk by chunk.

Every chunk is verified against the chunk map before it counts, so a peer can waste time only: it is left when it keeps
silent, when it gives no good chunk for as long, and after ``limits.SALVAGE_BAD_CHUNKS`` bad chunks without a good one.
The caller asks a peer for no chunk again that it answered wrongly, so a liar costs at most one package's worth of
bytes. Memory is bounded by the number of chunks asked for in one call. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import trio

from libreseed import limits
from libreseed.adapters.torrent.events import Address
from libreseed.adapters.torrent.wire import ChunkPeer, TorrentSpace
from libreseed.errors import TransportFault
from libreseed.repair.chunkmap import ChunkMap, chunk_digests
from libreseed.resolve.journal import Kind
from libreseed.resolve.piece_map import Chunk, Salvaged
from libreseed.torrent.layout import TorrentLayout

__all__ = ["ChunkSalvage"]


class ChunkSalvage:
    """Asks peers of the torrent that ``info_hash`` (v1, 20 bytes) names."""

    def __init__(self, layout: TorrentLayout, info_hash: bytes, patience_s: float) -> None:
        self._layout = layout
        self._space = TorrentSpace(info_hash, layout.piece_bytes, layout.piece_count)
        self._patience_s = min(patience_s, limits.PEER_PATIENCE_S)

    async def __call__(
        self, chunk_map: ChunkMap, wants: Sequence[Chunk], peers: Mapping[Address, Collection[Chunk]]
    ) -> Salvaged:
        """Ask every one of ``peers`` for ``wants``, except for what it is mapped to, until all are found.

        ``limits.SALVAGE_DIALS`` are called and ``limits.SALVAGE_PEERS`` asked at once; who does not answer is
        ``silent`` and has refused nothing.
        """
        round_ = _Round(chunk_map, wants)
        async with trio.open_nursery() as nursery:
            for peer, refused in peers.items():
                todo = [wanted for wanted in wants if wanted not in refused]
                nursery.start_soon(self._ask, round_, peer, todo, nursery.cancel_scope)
        return round_.result

    async def _ask(self, round_: _Round, address: Address, todo: list[Chunk], everybody: trio.CancelScope) -> None:
        result, refused = round_.result, set[Chunk]()
        try:
            async with (
                round_.dials,
                ChunkPeer.connect(address, self._space, patience_s=self._patience_s) as peer,
                round_.places,
            ):
                await self._take(round_, address, peer, todo, refused)
        except TransportFault:
            pass  # what it gave so far counts; the plan knows what is still lacking
        if refused or address in round_.givers:
            result.by_peer[address] = refused
        elif not round_.complete:
            result.silent.add(address)
        result.refused.update(refused)
        result.refused.difference_update(result.found)
        if round_.complete:
            everybody.cancel()

    async def _take(
        self, round_: _Round, address: Address, peer: ChunkPeer, todo: list[Chunk], refused: set[Chunk]
    ) -> None:
        """Ask one peer for one batch after the other, first for what nobody else is being asked for."""
        bad = 0
        with trio.CancelScope() as scope:
            while batch := round_.next_batch([wanted for wanted in todo if wanted not in refused]):
                scope.deadline = trio.current_time() + 2 * self._patience_s
                places = {self._place(round_.chunk_map, wanted): wanted for wanted in batch}
                round_.under_way.update(batch)
                try:
                    async with aclosing(peer.fetch_all(list(places))) as parts:
                        async for part in parts:
                            wanted = places[part.offset, part.length]
                            if _holds(round_.chunk_map, wanted, part.data):
                                round_.take(address, wanted, part.data)
                                scope.deadline = trio.current_time() + 2 * self._patience_s
                            else:
                                refused.add(wanted)
                                bad += part.data is not None
                            if bad >= limits.SALVAGE_BAD_CHUNKS and address not in round_.givers:
                                return
                finally:
                    round_.under_way.difference_update(batch)

    def _place(self, chunk_map: ChunkMap, wanted: Chunk) -> tuple[int, int]:
        """Offset and length in the torrent's linear space."""
        kind, chunk = wanted
        if kind is Kind.PARITY:
            return self._layout.parity.offset + chunk * limits.CHUNK_BYTES, limits.CHUNK_BYTES
        offset, length = chunk_map.grid.chunk(chunk)
        return self._layout.tgz.offset + offset, length


@dataclass(slots=True)
class _Round:
    """What all peers of one call share; every task of the call changes it, none across an await."""

    chunk_map: ChunkMap
    wants: Sequence[Chunk]
    result: Salvaged = field(default_factory=lambda: Salvaged({}, set()))
    givers: set[Address] = field(default_factory=set)
    under_way: set[Chunk] = field(default_factory=set)
    dials: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(limits.SALVAGE_DIALS))
    places: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(limits.SALVAGE_PEERS))

    @property
    def complete(self) -> bool:
        return len(self.result.found) == len(self.wants)

    def next_batch(self, todo: Sequence[Chunk]) -> list[Chunk]:
        left = [wanted for wanted in todo if wanted not in self.result.found]
        free = [wanted for wanted in left if wanted not in self.under_way]
        return (free or left)[: limits.SALVAGE_BATCH_CHUNKS]

    def take(self, address: Address, wanted: Chunk, data: bytes | None) -> None:
        assert data is not None  # it has the signed digest
        self.result.found[wanted] = data
        self.givers.add(address)


def _holds(chunk_map: ChunkMap, wanted: Chunk, data: bytes | None) -> bool:
    return data is not None and chunk_digests(data) == _digest(chunk_map, wanted)


def _digest(chunk_map: ChunkMap, wanted: Chunk) -> bytes:
    kind, chunk = wanted
    return chunk_map.data_digest(chunk) if kind is Kind.DATA else chunk_map.parity_digest(chunk)
