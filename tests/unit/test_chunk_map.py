"""Section 3.6: the grid, the chunk map and its strict reader, against the vectors and by property."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from libreseed.errors import ContentRejected
from libreseed.repair.chunkmap import parse_chunk_map
from libreseed.repair.grid import ChunkGrid
from libreseed.repair.plan import plan_repair
from tests.repair_support import content, make_package
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
        assert {str(stripe) for stripe in caught.value.evidence["stripes"]} == set(row["short"])  # type: ignore[attr-defined]


_KINDS = {"grid": _grid, "build": _build, "parse": _parse, "repair": _repair}


@pytest.mark.parametrize("row", rows("chunk-map.json"))
def test_chunk_map_vector(row: Row, tmp_path: Path) -> None:
    dispatch(row, {kind: lambda row, check=check: check(row, tmp_path) for kind, check in _KINDS.items()})
