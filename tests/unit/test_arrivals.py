"""A mirror's chunk map is written over the swarm's without ever being shorter: somebody may be reading it."""

from __future__ import annotations

from pathlib import Path

from libreseed.adapters.resolving.arrivals import put_whole


def test_a_file_that_is_read_meanwhile_is_neither_cut_off_nor_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.chunks"
    path.write_bytes(b"s" * 5000)
    with path.open("rb") as reader:
        put_whole(path, b"m" * 4000)
        assert reader.read() == b"m" * 4000 + b"s" * 1000


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    put_whole(tmp_path / "x.chunks", b"abc")
    assert (tmp_path / "x.chunks").read_bytes() == b"abc"
