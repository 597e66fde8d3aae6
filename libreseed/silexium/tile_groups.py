"""Nodes of a log out of stored tiles, for a few hashes each: a tile is kept with the roots of its groups of 16.

A proof needs nodes of every height within a tile, and computing them from its 256 hashes alone takes 255. With the 16
roots beside them, each sibling is folded from at most 8 hashes or 8 roots: some 22 for a whole proof's way through a
tile. The roots follow from the tile; whoever stores them vouches for them as for the tile. Specification:
``silexium-log.md``, 1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.merkle import BLAKE3_TREE
from libreseed.silexium.tiles import HASH_BYTES, Tile

__all__ = ["GroupedNodes", "group_roots"]

_HEIGHT = 4  # of a group: 16 hashes
_GROUP_BYTES = HASH_BYTES << _HEIGHT

# A tile's hashes, and the roots of its complete groups.
ReadGrouped = Callable[[Tile], tuple[bytes, bytes]]


def group_roots(hashes: bytes) -> bytes:
    """The roots of the complete groups of 16 of a tile's hashes."""
    whole = len(hashes) // _GROUP_BYTES * _GROUP_BYTES
    return b"".join(_fold(hashes[at : at + _GROUP_BYTES]) for at in range(0, whole, _GROUP_BYTES))


class GroupedNodes:
    """Any complete subtree of a log of ``size`` entries; a bounded cache of tiles. For one task."""

    __slots__ = ("_cache", "_read", "_tiles", "size")

    def __init__(self, read: ReadGrouped, size: int, cached_tiles: int) -> None:
        self.size = size
        self._read = read
        self._tiles = cached_tiles
        self._cache: OrderedDict[tuple[int, int], tuple[bytes, bytes]] = OrderedDict()

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree; raises ``silexium.tile`` when the log does not have it."""
        if index < 0 or (index + 1) << level > self.size:
            raise ProofRejected("silexium.tile", f"a log of {self.size} entries has no node {level}/{index}")
        height = level & 7
        position = index << height
        hashes, groups = self._row(level >> 3, position >> 8)
        if height < _HEIGHT:
            at = HASH_BYTES * (position & 255)
            return _fold(hashes[at : at + (HASH_BYTES << height)])
        at = HASH_BYTES * ((position & 255) >> _HEIGHT)
        return _fold(groups[at : at + (HASH_BYTES << height - _HEIGHT)])

    def _row(self, level: int, index: int) -> tuple[bytes, bytes]:
        cache, key = self._cache, (level, index)
        row = cache.get(key)
        if row is not None:
            cache.move_to_end(key)
            return row
        width = min(limits.TILE_WIDTH, (self.size >> 8 * level) - index * limits.TILE_WIDTH)
        row = cache[key] = self._read(Tile(level, index, width))
        if len(cache) > self._tiles:
            cache.popitem(last=False)
        return row


def _fold(hashes: bytes) -> bytes:
    """The root above 2^n hashes."""
    digest = BLAKE3_TREE.digest
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([digest(b"\x01" + hashes[at : at + 2 * HASH_BYTES]) for at in pairs])
    return hashes
