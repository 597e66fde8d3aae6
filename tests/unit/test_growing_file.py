"""Reading a file that still grows: never past what may be believed, and never without an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed.adapters.files.growing_file import GrowingFile, Stopped

DATA = bytes(range(200))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (file := tmp_path / "growing").write_bytes(DATA)
    return file


@pytest.fixture
def growing(path: Path) -> Iterator[GrowingFile]:
    with GrowingFile(path, len(DATA)) as file:
        yield file


def test_a_read_gives_no_byte_that_may_not_be_believed_yet(growing: GrowingFile) -> None:
    growing.grow(70)
    assert growing.read(64) == DATA[:64]
    assert growing.read(64) == DATA[64:70]
    growing.grow(50)  # never shorter
    growing.grow(71)
    assert growing.read(64) == DATA[70:71]


def test_a_read_waits_for_its_first_byte(growing: GrowingFile) -> None:
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append(growing.read(64)))
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()
    assert not taken
    growing.grow(3)
    reader.join(10)
    assert taken == [DATA[:3]]


def test_it_ends_at_its_size_whatever_it_is_told(growing: GrowingFile) -> None:
    growing.grow(10**9)
    assert b"".join(iter(lambda: growing.read(64), b"")) == DATA


def test_it_ends_where_the_disk_has_no_more(path: Path) -> None:
    with GrowingFile(path, 1000) as growing:
        growing.grow(1000)
        assert growing.read(500) == DATA
        assert growing.read(500) == b""


def test_who_waits_is_stopped_and_who_comes_later_too(growing: GrowingFile) -> None:
    caught: list[bool] = []

    def wait() -> None:
        with pytest.raises(Stopped):
            growing.read(1)
        caught.append(True)

    reader = threading.Thread(target=wait)
    reader.start()
    growing.stop()
    reader.join(10)
    assert caught == [True]
    growing.grow(5)
    with pytest.raises(Stopped):
        growing.read(1)
