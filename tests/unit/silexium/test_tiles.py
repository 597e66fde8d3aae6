"""Tiles: names as C2SP writes them, nodes out of tiles, growth in any rhythm, and tiles that a mirror damaged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed.errors import ProofRejected
from libreseed.silexium.log_proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from libreseed.silexium.merkle import SHA256_TREE, tree_root
from libreseed.silexium.tiles import (
    Tile,
    TileNodes,
    TileTail,
    entries_path,
    parse_entries,
    parse_tile_path,
    tiles_of_growth,
    tiles_of_log,
    write_entries,
)
from tests.unit.silexium.test_merkle import entry

SIZE = 70_000  # three levels of tiles
ENTRIES = [entry(index) for index in range(SIZE)]


class Store:
    """Tiles by address, always at their newest width, as a database row holds them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], bytes] = {}

    def read(self, tile: Tile) -> bytes:
        return self.rows[tile.level, tile.index]


def stored(entries: list[bytes], batch: int) -> Store:
    store = Store()
    tail = TileTail(store.read, 0)
    for at in range(0, len(entries), batch):
        store.rows |= tail.append(entries[at : at + batch])
    return store


LOG = stored(ENTRIES, 5000)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(1, 0, 5), "tile/1/000.p/5"),
        (Tile(0, 999, 255), "tile/0/999.p/255"),
        (Tile(2, 1000), "tile/2/x001/000"),
    ],
)
def test_tiles_are_named_as_tlog_tiles_says(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/00",
        "tile/0/x000/001",
        "tile/00/000",
        "tile/8/000",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/../../etc",
        "tile/0/000/",
        "tile/0/٠٠٠",
        "tile/0/" + "x001/" * 40 + "000",
    ],
)
def test_other_spellings_of_a_tile_are_refused(path: str) -> None:
    with pytest.raises(ProofRejected) as error:
        parse_tile_path(path)
    assert error.value.reason == "silexium.tile"


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=50)
def test_growth_adds_exactly_the_tiles_that_are_new(old: int, more: int) -> None:
    grown = set(tiles_of_growth(old, old + more))
    assert grown == set(tiles_of_log(old + more)) - set(tiles_of_log(old))


@pytest.mark.parametrize(("old", "new"), [(5, 4), (-1, 4), (0, 2**48 + 1)])
def test_no_log_shrinks_or_outgrows_its_bounds(old: int, new: int) -> None:
    with pytest.raises(ProofRejected):
        list(tiles_of_growth(old, new))


def test_the_tail_stores_the_tiles_of_the_log_whatever_the_rhythm() -> None:
    for batch in (1, 7, 256, 300):
        assert stored(ENTRIES[:1000], batch).rows == stored(ENTRIES[:1000], 1000).rows
    tiles = {(tile.level, tile.index): tile.width for tile in tiles_of_log(SIZE)}
    assert {address: len(row) // 32 for address, row in LOG.rows.items()} == tiles


def test_a_reloaded_tail_goes_on_where_it_stopped() -> None:
    store = Store()
    for start in range(0, 1100, 100):
        store.rows |= TileTail(store.read, start).append(ENTRIES[start : start + 100])
    assert store.rows == stored(ENTRIES[:1100], 1100).rows


def test_proofs_from_tiles_verify_at_old_and_new_sizes() -> None:
    for size in (1, 255, 256, 257, 65_535, 65_536, 65_537, SIZE):
        read = TileNodes(LOG.read, size).node
        root = tree_root(ENTRIES[:size])
        for index in {0, size // 3, size - 1}:
            verify_inclusion(index, size, ENTRIES[index], inclusion_proof(read, index, size), root)
        for old in {1, (size + 1) // 2, size}:
            verify_consistency(old, size, tree_root(ENTRIES[:old]), root, consistency_proof(read, old, size))


def test_a_proof_reads_few_tiles() -> None:
    asked: list[Tile] = []

    def read(tile: Tile) -> bytes:
        asked.append(tile)
        return LOG.read(tile)

    inclusion_proof(TileNodes(read, SIZE).node, 12_345, SIZE)
    assert len(asked) == len(set(asked)) <= 5


def test_the_cache_is_bounded() -> None:
    nodes = TileNodes(LOG.read, SIZE, cached_tiles=2)
    for index in range(0, SIZE - 256, 256):
        nodes.node(0, index)
    assert len(nodes._cache) == 2


def test_a_sha256_twin_keeps_tiles_too() -> None:
    store = Store()
    store.rows |= TileTail(store.read, 0, SHA256_TREE).append(ENTRIES[:600])
    nodes = TileNodes(store.read, 600, SHA256_TREE)
    root = tree_root(ENTRIES[:600], SHA256_TREE)
    proof = inclusion_proof(nodes.node, 599, 600, SHA256_TREE)
    verify_inclusion(599, 600, ENTRIES[599], proof, root, tree=SHA256_TREE)


@pytest.mark.parametrize("damage", [lambda row: row[:-32], lambda row: row[:-1], lambda row: row + b"x", lambda _: b""])
def test_a_truncated_or_odd_tile_is_refused(damage: object) -> None:
    def read(tile: Tile) -> bytes:
        return damage(LOG.read(tile))  # type: ignore[operator]  # parametrized

    with pytest.raises(ProofRejected) as error:
        inclusion_proof(TileNodes(read, SIZE).node, 5, SIZE)
    assert error.value.reason == "silexium.tile"


def test_a_forged_tile_makes_a_proof_that_does_not_hold() -> None:
    def read(tile: Tile) -> bytes:
        row = LOG.read(tile)
        return bytes([row[0] ^ 1]) + row[1:] if tile.level == 0 else row

    proof = inclusion_proof(TileNodes(read, SIZE).node, 5, SIZE)
    with pytest.raises(ProofRejected):
        verify_inclusion(5, SIZE, ENTRIES[5], proof, tree_root(ENTRIES))


@pytest.mark.parametrize(("level", "index"), [(0, SIZE), (0, -1), (16, 1), (17, 0), (40, 0)])
def test_a_node_that_the_log_does_not_have_is_refused(level: int, index: int) -> None:
    with pytest.raises(ProofRejected):
        TileNodes(LOG.read, SIZE).node(level, index)


def test_entry_bundles_round_trip_and_are_strict() -> None:
    bundle = write_entries(ENTRIES[:256])
    assert entries_path(1000) == "tile/entries/x001/000"
    assert entries_path(0, 3) == "tile/entries/000.p/3"
    assert parse_entries(bundle, 256) == ENTRIES[:256]
    for wrong in (bundle[:-1], bundle + b"\x00", bundle[:-34], b"\x01" + bundle[1:], b""):
        with pytest.raises(ProofRejected):
            parse_entries(wrong, 256)
