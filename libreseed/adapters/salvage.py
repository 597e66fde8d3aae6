"""Single chunks from single peers: what the torrent session refuses as a piece may still be good chunk by chunk.

Every chunk is verified against the chunk map before it counts, so a peer can waste time only: it is left when it keeps
silent, and after ``limits.SALVAGE_BAD_CHUNKS`` bad chunks without a good one. The caller asks for no chunk again that a
peer answered wrongly, so a liar costs at most one package's worth of bytes. Memory is bounded by the number of chunks
asked for in one call. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

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

    async def __call__(self, chunk_map: ChunkMap, wants: Sequence[Chunk], peers: Sequence[Address]) -> Salvaged:
        """Ask up to ``limits.SALVAGE_PEERS`` peers at once, each for all of ``wants``, until all are found."""
        result = Salvaged({}, set())
        async with trio.open_nursery() as nursery:
            for peer in peers[: limits.SALVAGE_PEERS]:
                nursery.start_soon(self._ask, peer, chunk_map, wants, result)
        result.refused.difference_update(result.found)
        return result

    async def _ask(self, address: Address, chunk_map: ChunkMap, wants: Sequence[Chunk], result: Salvaged) -> None:
        places = {self._place(chunk_map, wanted): wanted for wanted in wants}
        good = bad = 0
        try:
            async with (
                ChunkPeer.connect(address, self._space, patience_s=self._patience_s) as peer,
                aclosing(peer.fetch_all(list(places))) as parts,
            ):
                async for part in parts:
                    wanted = places[part.offset, part.length]
                    if part.data is not None and chunk_digests(part.data) == _digest(chunk_map, wanted):
                        result.found[wanted] = part.data
                        good += 1
                    else:
                        result.refused.add(wanted)
                        bad += part.data is not None
                    if len(result.found) == len(wants) or (bad >= limits.SALVAGE_BAD_CHUNKS and not good):
                        return
        except TransportFault:
            return  # what it gave so far counts; the plan knows what is still lacking

    def _place(self, chunk_map: ChunkMap, wanted: Chunk) -> tuple[int, int]:
        """Offset and length in the torrent's linear space."""
        kind, chunk = wanted
        if kind is Kind.PARITY:
            return self._layout.parity.offset + chunk * limits.CHUNK_BYTES, limits.CHUNK_BYTES
        offset, length = chunk_map.grid.chunk(chunk)
        return self._layout.tgz.offset + offset, length


def _digest(chunk_map: ChunkMap, wanted: Chunk) -> bytes:
    kind, chunk = wanted
    return chunk_map.data_digest(chunk) if kind is Kind.DATA else chunk_map.parity_digest(chunk)
