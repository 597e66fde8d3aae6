"""Proofs that a log has grown, computed here out of the tiles that a source keeps: nobody need be asked for a proof.

At most some dozen files of 8 KiB, whatever the log's size. A source may keep a wider partial tile than the one that is
needed, because the log has grown since; its checkpoint says how wide, unverified, as a hint. Nothing here decides
whether a proof holds. Specification: ``silexium.md``, 5; ``resolver.md``, 8.
"""

from __future__ import annotations

import trio

from libreseed import limits
from libreseed.adapters.silexium.proofs.proof_source import ProofSource
from libreseed.errors import LibreSeedError
from libreseed.silexium.log_memory import ConsistencyProof
from libreseed.silexium.log_path import CHECKPOINT_PATH
from libreseed.silexium.log_proofs import consistency_proof, prefix_proof
from libreseed.silexium.signed_note import SignedNote
from libreseed.silexium.tiles import HASH_BYTES, Tile, TileNodes
from libreseed.silexium.tree_head import TreeHead

__all__ = ["NoSuchTile", "consistency_from"]

_TILE_BYTES = HASH_BYTES * limits.TILE_WIDTH


class NoSuchTile(Exception):
    """The source does not have a tile: an answer, no error."""


async def consistency_from(source: ProofSource, old: int, new: int) -> ConsistencyProof:
    """The proof from ``old`` to ``new`` entries; raises :class:`NoSuchTile`, ``silexium.tile``, TransportFault."""

    def read(tile: Tile) -> bytes:
        return trio.from_thread.run(_tile, source, tile)

    def make() -> ConsistencyProof:
        node = TileNodes(read, new).node
        hashes, prefix = consistency_proof(node, old, new), prefix_proof(node, old, new)
        return ConsistencyProof(old, new, tuple(hashes), tuple(prefix))

    return await trio.to_thread.run_sync(make, abandon_on_cancel=True)


async def _tile(source: ProofSource, tile: Tile) -> bytes:
    """A tile of at least the width that is needed: the log may have grown, and keep only the wider one."""
    for width in (tile.width, limits.TILE_WIDTH):
        data = await source.get(Tile(tile.level, tile.index, width).path, _TILE_BYTES)
        if data is not None:
            return data
    wider = await _kept_width(source, tile)
    data = None if wider <= tile.width else await source.get(Tile(tile.level, tile.index, wider).path, _TILE_BYTES)
    if data is None:
        raise NoSuchTile
    return data


async def _kept_width(source: ProofSource, tile: Tile) -> int:
    """The width of this tile in the tree that the source keeps now, as its checkpoint says (not verified: a hint)."""
    data = await source.get(CHECKPOINT_PATH, limits.NOTE_BYTES)
    if data is None:
        return 0
    try:
        size = TreeHead.parse(SignedNote.parse(data).text).size
    except LibreSeedError:
        return 0
    return min(limits.TILE_WIDTH, max(0, (size >> 8 * tile.level) - tile.index * limits.TILE_WIDTH))
