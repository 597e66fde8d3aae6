"""The log as tiles: rows of 256 hashes that never change once they are full (C2SP tlog-tiles layout, over BLAKE3).

Tile (level L, index n) holds the hashes of the nodes at tree level 8L with the indices [256n, 256n + 256). A log of a
given size has full tiles and at most one partial tile per level; a partial one is named with its width. Files:
``tile/<L>/<n>`` and ``tile/<L>/<n>.p/<width>``, n in groups of three digits, all but the last with an ``x`` before
them; ``tile/entries/<n>`` holds the entry hashes, each as 00 20 || 32 bytes.

Everything is a function of bytes: reading files or rows is the caller's. What a tile says is believed only once a proof
made from it leads to a signed root. Specification: ``silexium.md``, 5.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.merkle import BLAKE3_TREE, CompactRange, TreeHash

__all__ = [
    "HASH_BYTES",
    "ReadTile",
    "Tile",
    "TileNodes",
    "TileTail",
    "entries_path",
    "parse_entries",
    "parse_tile_path",
    "tiles_of_growth",
    "tiles_of_log",
    "write_entries",
]

HASH_BYTES = 32
_WIDTH = limits.TILE_WIDTH
_GROUP_LEVELS = 4  # between a tile's hashes and the roots of its groups
_ENTRY_PREFIX = b"\x00\x20"  # tlog-tiles: a u16 length before each entry
_PATH = re.compile(r"tile/(0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Address of a tile: ``level`` (0 is the leaves), ``index`` from the left, ``width`` in hashes (256 when full)."""

    level: int
    index: int
    width: int = _WIDTH

    def __post_init__(self) -> None:
        if not (0 <= self.level < 8 and 0 <= self.index < limits.LOG_ENTRIES and 1 <= self.width <= _WIDTH):
            raise ProofRejected("silexium.tile", f"no tile is at level {self.level}, {self.index}, width {self.width}")

    @property
    def full(self) -> bool:
        """Whether it can never change again."""
        return self.width == _WIDTH

    @property
    def path(self) -> str:
        """Where it is served, relative to the log's prefix."""
        suffix = "" if self.full else f".p/{self.width}"
        return f"tile/{self.level}/{_index_path(self.index)}{suffix}"


# The bytes of a tile, at least ``width`` hashes of 32 bytes; raises what its storage raises.
ReadTile = Callable[[Tile], bytes]


def parse_tile_path(path: str) -> Tile:
    """The tile that ``path`` names; raises ``silexium.tile`` for any other spelling."""
    match = _PATH.fullmatch(path)
    if match is None or len(path) > limits.TILE_PATH_CHARS:
        raise ProofRejected("silexium.tile", f"not the path of a tile: {path!r:.100}")
    tile = Tile(int(match[1]), int(match[2].replace("x", "").replace("/", "")), int(match[3] or _WIDTH))
    if tile.path != path:
        raise ProofRejected("silexium.tile", f"not the path of a tile: {path!r:.100}")
    return tile


def tiles_of_log(size: int) -> Iterator[Tile]:
    """Every tile of a log of ``size`` entries: full ones and the partial ones at the right edge."""
    return tiles_of_growth(0, size)


def tiles_of_growth(old: int, new: int) -> Iterator[Tile]:
    """The tiles that a log of ``new`` entries has and that of ``old`` did not, level by level."""
    if not 0 <= old <= new <= limits.LOG_ENTRIES:
        raise ProofRejected("silexium.tile", f"a log cannot go from {old} entries to {new}")
    level = 0
    while new:
        if new > old:
            for index in range(old // _WIDTH, new // _WIDTH):
                yield Tile(level, index)
            if new % _WIDTH:
                yield Tile(level, new // _WIDTH, new % _WIDTH)
        old, new, level = old // _WIDTH, new // _WIDTH, level + 1


class TileNodes:
    """Any node of a log of ``size`` entries, computed from tiles that ``read`` provides; a bounded cache of rows.

    For one log and one task. ``node`` is what the proof makers take as ``read``.
    """

    __slots__ = ("_cache", "_read", "_rows", "size", "tree")

    def __init__(self, read: ReadTile, size: int, tree: TreeHash = BLAKE3_TREE, cached_tiles: int = 512) -> None:
        self.size = size
        self.tree = tree
        self._read = read
        self._rows = cached_tiles
        self._cache: OrderedDict[Tile, list[list[bytes]]] = OrderedDict()

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree; raises ``silexium.tile`` when the log does not have it."""
        tile_level, height = divmod(level, 8)
        position = index << height
        tile_index, offset = divmod(position, _WIDTH)
        if index < 0 or (index + 1) << level > self.size:
            raise ProofRejected("silexium.tile", f"a log of {self.size} entries has no node {level}/{index}")
        width = min(_WIDTH, (self.size >> 8 * tile_level) - tile_index * _WIDTH)
        return self._heights(Tile(tile_level, tile_index, width))[height][offset >> height]

    def _heights(self, tile: Tile) -> list[list[bytes]]:
        """The tile's hashes and the complete nodes above them, height by height."""
        cached = self._cache.get(tile)
        if cached is not None:
            self._cache.move_to_end(tile)
            return cached
        data = self._read(tile)
        if len(data) < HASH_BYTES * tile.width or len(data) % HASH_BYTES or len(data) > HASH_BYTES * _WIDTH:
            raise ProofRejected("silexium.tile", f"{tile.path} has {len(data)} bytes")
        row = [data[at : at + HASH_BYTES] for at in range(0, HASH_BYTES * tile.width, HASH_BYTES)]
        heights, digest = [row], self.tree.digest
        while len(row) > 1:
            row = [digest(b"\x01" + left + right) for left, right in zip(row[::2], row[1::2], strict=False)]
            heights.append(row)
        self._cache[tile] = heights
        if len(self._cache) > self._rows:
            self._cache.popitem(last=False)
        return heights


class TileTail:
    """Appends entries to a log kept as tiles: the compact range, and of every level the partial tile and its groups.

    A tile's *groups* are the roots of its complete runs of 16 hashes. Owned by the one task that writes the log.
    ``append`` returns what to store, and changes nothing else.
    """

    __slots__ = ("_groups", "_rows", "range")

    def __init__(self, read: ReadTile, size: int, tree: TreeHash = BLAKE3_TREE) -> None:
        nodes = TileNodes(read, size, tree)
        self.range = CompactRange.from_nodes(nodes.node, size, tree)
        self._rows: dict[int, bytearray] = {}
        self._groups: dict[int, bytearray] = {}
        for level, index, width in _partial_tiles(size):
            self._rows[level] = bytearray(read(Tile(level, index, width))[: HASH_BYTES * width])
            first = index * _WIDTH >> _GROUP_LEVELS
            groups = [nodes.node(8 * level + _GROUP_LEVELS, first + at) for at in range(width >> _GROUP_LEVELS)]
            self._groups[level] = bytearray(b"".join(groups))

    def append(self, entry_hashes: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
        """Append entries; returns the new content of every changed tile by (level, index), in one batch."""
        return {key: row for key, (row, _) in self.append_grouped(entry_hashes).items()}

    def append_grouped(self, entry_hashes: Sequence[bytes]) -> dict[tuple[int, int], tuple[bytes, bytes]]:
        """As :meth:`append`, each tile with its groups: they are nodes that appending computes anyway."""
        changed: dict[tuple[int, int], bytes] = {}
        grouped: dict[tuple[int, int], bytes] = {}

        def emit(level: int, start: int, hashes: Sequence[bytes]) -> None:
            tile_level, height = level >> 3, level & 7
            if height == 0:
                row = self._rows.pop(tile_level, bytearray()) + b"".join(hashes)
                tiles, self._rows[tile_level] = _cut(row, HASH_BYTES * _WIDTH)
                changed.update(((tile_level, tile), data) for tile, data in enumerate(tiles, start // _WIDTH))
            elif height == _GROUP_LEVELS:
                row = self._groups.pop(tile_level, bytearray()) + b"".join(hashes)
                tiles, self._groups[tile_level] = _cut(row, HASH_BYTES * _WIDTH >> _GROUP_LEVELS)
                grouped.update(
                    ((tile_level, tile), data) for tile, data in enumerate(tiles, start >> 8 - _GROUP_LEVELS)
                )

        self.range.extend_rows(entry_hashes, emit)
        # A tile without a new group is the level's partial one, with the groups that it had.
        return {key: (row, grouped.get(key) or bytes(self._groups.get(key[0], b""))) for key, row in changed.items()}


def _cut(row: bytearray, whole: int) -> tuple[list[bytes], bytearray]:
    """The tiles that ``row`` fills from its beginning, ``whole`` bytes each but the last; and what begins the next."""
    return [bytes(row[at : at + whole]) for at in range(0, len(row), whole)], row[len(row) // whole * whole :]


def entries_path(index: int, width: int = _WIDTH) -> str:
    """Where the entry hashes [256 * index, 256 * index + width) are served."""
    suffix = "" if width == _WIDTH else f".p/{width}"
    return f"tile/entries/{_index_path(index)}{suffix}"


def write_entries(entry_hashes: Sequence[bytes]) -> bytes:
    """The bytes of an entry bundle (tlog-tiles): each hash with its length before it."""
    return b"".join(_ENTRY_PREFIX + entry_hash for entry_hash in entry_hashes)


def parse_entries(data: bytes, width: int) -> list[bytes]:
    """The ``width`` entry hashes of a bundle; raises ``silexium.tile`` unless it is exactly that."""
    step = len(_ENTRY_PREFIX) + HASH_BYTES
    hashes = [data[at + 2 : at + step] for at in range(0, len(data), step)]
    if len(data) != step * width or write_entries(hashes) != data:
        raise ProofRejected("silexium.tile", f"not a bundle of {width} entry hashes")
    return hashes


def _partial_tiles(size: int) -> Iterator[tuple[int, int, int]]:
    level = 0
    while size:
        if size % _WIDTH:
            yield level, size // _WIDTH, size % _WIDTH
        size, level = size // _WIDTH, level + 1


def _index_path(index: int) -> str:
    text = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        text = f"x{index % 1000:03d}/{text}"
    return text
