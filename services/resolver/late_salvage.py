"""Salvage that is loaded when it is first needed: a healthy swarm never asks for single chunks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from libreseed.adapters.torrent.events import Address
from libreseed.repair.chunkmap import ChunkMap
from libreseed.resolve.piece_map import Chunk, Salvaged
from libreseed.torrent.layout import TorrentLayout

__all__ = ["LateSalvage"]


@dataclass(frozen=True, slots=True)
class LateSalvage:
    """:class:`libreseed.adapters.resolving.salvage.ChunkSalvage` with the same arguments."""

    layout: TorrentLayout
    info_hash: bytes
    patience_s: float

    async def __call__(
        self, chunk_map: ChunkMap, wants: Sequence[Chunk], peers: Mapping[Address, Collection[Chunk]]
    ) -> Salvaged:
        """Ask ``peers`` for single chunks."""
        from libreseed.adapters.resolving.salvage import ChunkSalvage

        return await ChunkSalvage(self.layout, self.info_hash, self.patience_s)(chunk_map, wants, peers)
