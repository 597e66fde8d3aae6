"""From a signed root down to every tile and entry: what a mirror believes of a log that it copies.

:class:`LogWalk` takes tiles from whoever offers them and believes them in this order: the right edge, because it leads
to the root; each full tile of level 1 and up, because the tile above it holds its root; each bundle of 256 entries,
because a tile of level 1 holds the root of their leaves. So a forged entry is known by its bundle, before anything that
comes behind it is asked for. Nothing is stored here. Specification: ``silexium-log.md``, 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.log_path import BodyBundle, bundles_of_growth, parse_bodies
from libreseed.silexium.log_proofs import prefix_proof
from libreseed.silexium.merkle import BLAKE3_TREE, CompactRange
from libreseed.silexium.tiles import HASH_BYTES, ReadTile, Tile, TileNodes, tiles_of_growth
from libreseed.silexium.tree_head import TreeHead

__all__ = ["LogWalk", "VerifiedBundle"]

_WIDTH = limits.TILE_WIDTH


class VerifiedBundle:
    """Entries that the signed root vouches for: ``entries``, their ``hashes``, and the ``leaves`` as a tile's bytes."""

    __slots__ = ("entries", "hashes", "leaves", "place")

    def __init__(self, place: BodyBundle, data: bytes) -> None:
        self.place = place
        self.entries = parse_bodies(data, place.width)
        self.hashes = [blake3(entry).digest() for entry in self.entries]
        self.leaves = b"".join(map(BLAKE3_TREE.leaf, self.hashes))


class LogWalk:
    """One walk over the growth from ``old`` entries to ``head``, whose signature its maker has verified.

    ``read`` gives a tile exactly as it was offered, and the same each time: what was verified once and is read again
    must not have changed. An old size of 0 walks the whole log. For one task.
    """

    def __init__(self, read: ReadTile, old: int, head: TreeHead) -> None:
        self.old = old
        self.head = head
        self._read = read
        self._nodes = TileNodes(self._checked, head.size)
        self._offered: dict[Tile, bytes] = {}  # what each tile was at first, by its digest

    def edge(self) -> None:
        """Demand that the right edge leads to the root; raises ``silexium.tile``. First of all."""
        root = CompactRange.from_nodes(self._nodes.node, self.head.size).root
        if root != self.head.root.raw:
            evidence = {"expected_root": self.head.root.hex, "actual_root": root.hex(), "size": self.head.size}
            message = f"the tiles of {self.head.size} entries do not lead to the signed root"
            raise ProofRejected("silexium.tile", message, evidence=evidence)

    def tiles(self) -> Iterator[tuple[Tile, bytes]]:
        """Every tile above level 0 that is new, with its hashes; raises ``silexium.tile``. After :meth:`edge`."""
        for tile in sorted(tiles_of_growth(self.old, self.head.size), reverse=True):
            if tile.level == 0:
                return
            data = self._checked(tile)
            if tile.full:
                self._require_root(tile, data)
            yield tile, data

    def prefix(self) -> tuple[bytes, ...]:
        """The hashes that show which root this log had at the old size (:func:`prefix_root` verifies them)."""
        return tuple(prefix_proof(self._nodes.node, self.old, self.head.size))

    def bundles(self) -> list[BodyBundle]:
        """The bundles of entries that are new, or fuller than before."""
        return [BodyBundle(index, width) for index, width in bundles_of_growth(self.old, self.head.size)]

    def entries(self, place: BodyBundle, data: bytes) -> VerifiedBundle:
        """Believe a bundle; raises ``silexium.tile`` for what is none, ``silexium.entry`` for a forged entry, with its
        index. After :meth:`edge` and all of :meth:`tiles`."""
        bundle = VerifiedBundle(place, data)
        if place.width == _WIDTH:
            if _row_root(bundle.leaves) != self._nodes.node(8, place.index):
                raise self._forged(bundle)
        elif bundle.leaves != self._checked(Tile(0, place.index, place.width)):
            raise self._forged(bundle)
        return bundle

    def _checked(self, tile: Tile) -> bytes:
        data = self._read(tile)
        if len(data) != HASH_BYTES * tile.width:
            message = f"{tile.path} has {len(data)} bytes where {HASH_BYTES * tile.width} belong"
            raise ProofRejected("silexium.tile", message, evidence={"tile": tile.path})
        digest = blake3(data).digest()
        if self._offered.setdefault(tile, digest) != digest:
            message = f"{tile.path} is another one than when it was asked for before"
            raise ProofRejected("silexium.tile", message, evidence={"tile": tile.path})
        return data

    def _require_root(self, tile: Tile, data: bytes) -> None:
        if _row_root(data) != self._nodes.node(8 * tile.level + 8, tile.index):
            message = f"{tile.path} is not the tile that the signed root vouches for"
            raise ProofRejected("silexium.tile", message, evidence={"tile": tile.path})

    def _forged(self, bundle: VerifiedBundle) -> ProofRejected:
        """Which entry it is, as far as the true leaves are offered."""
        place = bundle.place
        leaves = self._checked(Tile(0, place.index, place.width))
        if place.width == _WIDTH and _row_root(leaves) != self._nodes.node(8, place.index):
            message = f"tile {place.index} of level 0 and the entries in it are not those that the log signed"
            return ProofRejected("silexium.entry", message, evidence={"bundle": place.path})
        at = next(at for at in range(0, len(leaves), HASH_BYTES) if _hash(leaves, at) != _hash(bundle.leaves, at))
        index = place.start + at // HASH_BYTES
        evidence = {"index": index, "expected_leaf": _hash(leaves, at).hex()}
        evidence["actual_leaf"] = _hash(bundle.leaves, at).hex()
        return ProofRejected("silexium.entry", f"entry {index} is not the one that the log signed", evidence=evidence)


def _hash(row: bytes, at: int) -> bytes:
    return row[at : at + HASH_BYTES]


def _row_root(data: bytes) -> bytes:
    """The root above the 256 hashes of a full tile."""
    row: Sequence[bytes] = [_hash(data, at) for at in range(0, len(data), HASH_BYTES)]
    while len(row) > 1:
        row = [BLAKE3_TREE.node(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
