"""Section 3.6: the grid, the chunk map and its strict reader, against the vectors and by property."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.repair.chunkmap import parse_chunk_map
from libreseed.repair.grid import ChunkGrid
from libreseed.repair.plan import plan_repair
from tests.repair_support import Package, content, make_package
from tests.vectors_support import Row, dispatch, document, rows


def _grid(row: Row, _: Path) -> None:
    grid = ChunkGrid(row["size"])
    assert (grid.n, grid.s, grid.k, grid.least_m) == (row["n"], row["s"], row["k"], row["m"])


def _build(row: Row, folder: Path) -> None:
    package = make_package(folder, content(row["label"], row["size"]), m=row["m"])
    parity = package.parity.read_bytes()
    assert package.chunk_map.data[:80].hex() == row["header"]
    assert hashlib.sha256(package.chunk_map.data).hexdigest() == row["chunks_sha256"]
    assert package.chunk_map.digest.hex == row["chunks"]
    assert hashlib.sha256(parity).hexdigest() == row["parity_sha256"]
    assert package.chunk_map.parity_digest(0).hex() == row["first_parity"]


def _parse(row: Row, _: Path) -> None:
    data = document(row)
    if row["expect"] == "accept":
        chunk_map = parse_chunk_map(data)
        grid = chunk_map.grid
        assert (grid.size, grid.n, grid.s, grid.k) == (row["size"], row["n"], row["s"], row["k"])
        assert chunk_map.m == row["m"]
    else:
        with pytest.raises(ContentRejected) as caught:
            parse_chunk_map(data)
        assert caught.value.reason.startswith("chunkmap.")


def _repair(row: Row, folder: Path) -> None:
    package = make_package(folder, content(row["label"], row["size"]))
    package.lose_data(row["lost_data"])
    package.lose_parity(row["lost_parity"])
    for i in row["rotten_data"]:
        package.flip_bit(i)
    found = plan_repair(package.store.verify())
    assert [found.coherence.verified, found.coherence.parts] == row["coherence"]
    assert {str(stripe): lacks for stripe, lacks in found.short.items()} == row["short"]
    report = package.store.repair()
    assert report.before == found.coherence
    if row["expect"] == "heal":
        report.require_complete()
        assert package.tgz.read_bytes() == package.data
    else:
        with pytest.raises(ContentRejected) as caught:
            report.require_complete()
        assert caught.value.reason == "repair.beyond"
        assert {str(stripe) for stripe in caught.value.evidence["stripes"]} == set(row["short"])


_KINDS = {"grid": _grid, "build": _build, "parse": _parse, "repair": _repair}


@pytest.mark.parametrize("row", rows("chunk-map.json"))
def test_chunk_map_vector(row: Row, tmp_path: Path) -> None:
    dispatch(row, {kind: lambda row, check=check: check(row, tmp_path) for kind, check in _KINDS.items()})


# --- the strict reader against what a publisher could sign --------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(tmp_path_factory.mktemp("map"), content("strict", 30_000))


def test_a_rotten_chunk_map_is_refused_before_it_is_read(package: Package) -> None:
    data = bytearray(package.chunk_map.data)
    data[-1] ^= 1
    with pytest.raises(ContentRejected) as caught:
        parse_chunk_map(bytes(data), expected=package.chunk_map.digest)
    assert caught.value.reason == "chunkmap.digest"


def test_a_chunk_map_of_another_size_than_the_manifests_is_refused(package: Package) -> None:
    with pytest.raises(ContentRejected) as caught:
        parse_chunk_map(package.chunk_map.data, expected=package.chunk_map.digest, size=30_001)
    assert caught.value.reason == "chunkmap.size"


def test_a_size_above_policy_is_refused_before_anything_is_allocated(package: Package) -> None:
    header = bytearray(package.chunk_map.data[:80])
    header[24:32] = (2**60).to_bytes(8, "little")
    with pytest.raises(ContentRejected) as caught:
        parse_chunk_map(bytes(header))
    assert caught.value.reason == "chunkmap.policy"
    with pytest.raises(ContentRejected) as caught:
        parse_chunk_map(package.chunk_map.data, max_size=29_999)
    assert caught.value.reason == "chunkmap.policy"


@pytest.mark.parametrize("size", [-1, 0, (2**32 - 1) * 5120 + 1])
def test_a_size_without_a_grid_is_refused(size: int) -> None:
    with pytest.raises(ContentRejected) as caught:
        ChunkGrid(size)
    assert caught.value.reason == "chunkmap.size"


@given(st.binary(max_size=200))
def test_only_content_rejected_escapes_the_reader(tail: bytes) -> None:
    for data in (tail, b"LSCHUNK1\0\x14\0\0" + tail):  # too short for any map: a header and two hashes
        with pytest.raises(ContentRejected) as caught:
            parse_chunk_map(data[:140])
        assert caught.value.reason.startswith("chunkmap.")


@given(at=st.integers(0, 79), byte=st.integers(0, 255))
@settings(deadline=None)
def test_every_changed_byte_of_the_header_is_refused_or_speaks_of_another_file(
    package: Package, at: int, byte: int
) -> None:
    data = bytearray(package.chunk_map.data)
    data[at] = byte
    try:
        chunk_map = parse_chunk_map(bytes(data))
    except ContentRejected as error:
        assert error.reason.startswith("chunkmap.")
        return
    if data == package.chunk_map.data:
        assert chunk_map == package.chunk_map
    else:  # the digest of the .tgz is not the map's to judge, nor which size within the last chunk
        assert chunk_map.tgz_sha256 != package.chunk_map.tgz_sha256 or chunk_map.grid.size != 30_000


# --- the grid by property --------------------------------------------------------------------------------------------


@given(st.integers(1, 40_000_000))
def test_the_grid_has_each_chunk_in_exactly_one_place(size: int) -> None:
    grid = ChunkGrid(size)
    assert sum(len(grid.chunks_of(stripe)) for stripe in range(grid.s)) == grid.n
    assert grid.k + grid.least_m <= limits.STRIPE_ROWS
    # With the least m, coherence 0.954 leaves k parts; with one less it would not always.
    parts = grid.k + grid.least_m
    assert 1000 * (grid.k - 1) < 954 * parts
    assert grid.least_m == 1 or 1000 * grid.k >= 954 * (parts - 1)
    for i in (0, grid.n // 3, grid.n - 1):
        assert grid.chunk_at(grid.stripe_of(i), grid.row_of(i)) == i
        assert i in grid.chunks_of(grid.stripe_of(i))
        offset, length = grid.chunk(i)
        assert offset + length <= size
        assert grid.chunks_in(offset, 1) == range(i, i + 1)
        assert grid.chunks_within(offset, length) == range(i, i + 1)
        assert grid.span(range(i, i + 1)) == (offset, length)
    assert sum(grid.virtual_rows(stripe) for stripe in range(grid.s)) == grid.k * grid.s - grid.n
    assert all(grid.virtual_rows(stripe) in (0, 1) for stripe in (0, grid.s - 1))


@given(size=st.integers(1, 3_000_000), offset=st.integers(0, 3_100_000), length=st.integers(1, 100_000))
def test_runs_of_bytes_and_runs_of_chunks_agree(size: int, offset: int, length: int) -> None:
    grid = ChunkGrid(size)
    touched, inside = grid.chunks_in(offset, length), grid.chunks_within(offset, length)
    end = min(size, offset + length)
    starts = [grid.chunk(i) for i in range(grid.n)]
    assert list(touched) == [i for i, (at, size) in enumerate(starts) if at < end and at + size > offset]
    assert list(inside) == [i for i, (at, size) in enumerate(starts) if at >= offset and at + size <= end]


@given(size=st.integers(1, 10**12), start=st.floats(0, 1))
def test_a_run_of_46_per_mille_of_the_chunks_never_takes_more_than_m_from_a_stripe(size: int, start: float) -> None:
    grid = ChunkGrid(size)
    length = grid.n * 46 // 1000
    first = int((grid.n - length) * start)
    # Neighbours go to the stripes in turn, so the fullest stripe gets this many of them, wherever the run begins.
    assert -(-length // grid.s) <= grid.least_m
    if grid.s <= 50:
        hit = [0] * grid.s
        for i in range(first, first + length):
            hit[grid.stripe_of(i)] += 1
        assert max(hit) == -(-length // grid.s)
