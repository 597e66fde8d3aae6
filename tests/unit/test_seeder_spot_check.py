"""The look at what peers are being given: what it notices, what it leaves alone, and that it does not nag."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from libreseed import limits
from libreseed.adapters.release.seed_store import SeedStore
from services.seeder.health import Meter
from services.seeder.library import Holding, Library
from services.seeder.spot_check import SpotCheck
from tests.seeder_support import make_release
from tests.unit.test_seeder_health import _hold


@dataclass
class Giving:
    """A torrent that has uploaded so much, to a peer that came and left."""

    uploaded: int = 0
    meetings: int = 0
    connected: int = 0
    asked: int = 0

    async def status(self) -> Giving:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        return self


@dataclass
class Shelf:
    """A library of one holding that only counts its checks."""

    store: SeedStore
    holdings: dict[str, Holding] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)

    async def check(self, holding: Holding) -> None:
        await trio.lowlevel.checkpoint()
        self.checked.append(holding.key)


@dataclass
class Scene:
    shelf: Shelf
    holding: Holding
    torrent: Giving
    check: SpotCheck

    async def give(self) -> list[str]:
        """Peers are given something, then it looks; returns what was checked so far."""
        self.torrent.uploaded += 1000
        self.torrent.meetings += 1
        await self.check.turn()
        return self.shelf.checked


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("publisher"), size=600_000)


@pytest.fixture
def scene(tmp_path: Path, release: Path) -> Iterator[Scene]:
    with SeedStore.open(tmp_path / "state") as store:
        stored, torrent = _hold(store, release), Giving()
        holding = Holding(stored.folder.name, stored.folder, stored.light(), "seeding", torrent=cast("Any", torrent))
        shelf = Shelf(store, {holding.key: holding})
        check = SpotCheck(cast("Library", shelf), Meter(), draw=random.Random(3))
        yield Scene(shelf, holding, torrent, check)


def rot(scene: Scene, share: float) -> None:
    """Overwrite this share of the .tgz from its start, as a bad disk does: size and times stay."""
    path = scene.holding.stored.file(".tgz") if scene.holding.stored else Path()
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"Q" * int(before.st_size * share))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_good_files_are_left_alone_and_little_is_read(scene: Scene) -> None:
    assert await scene.give() == []
    assert scene.check._meter.chunks_judged == limits.SPOT_CHUNKS


async def test_half_a_file_overwritten_is_noticed_at_once(scene: Scene) -> None:
    rot(scene, 0.5)
    assert await scene.give() == [scene.holding.key]


async def test_file_that_was_cut_is_noticed(scene: Scene) -> None:
    assert scene.holding.stored is not None
    os.truncate(scene.holding.stored.file(".tgz"), 100)
    assert await scene.give() == [scene.holding.key]


async def test_what_nobody_is_given_is_the_scrubs_matter(scene: Scene) -> None:
    rot(scene, 0.5)
    await scene.check.turn()
    assert scene.shelf.checked == []
    await scene.give()
    scene.shelf.checked.clear()
    await scene.check.turn()  # nothing was given since
    assert scene.shelf.checked == []


async def test_idle_releases_are_not_even_asked(scene: Scene) -> None:
    for _ in range(3):
        await scene.check.turn()
    assert scene.torrent.asked == 0
    scene.torrent.connected = 1
    await scene.check.turn()
    assert scene.torrent.asked == 1


async def test_release_that_cannot_be_healed_is_not_checked_again_and_again(scene: Scene) -> None:
    rot(scene, 0.5)
    for _ in range(5):
        await scene.give()
    assert len(scene.shelf.checked) == 1


async def test_release_that_is_being_read_or_not_whole_is_left_alone(scene: Scene) -> None:
    rot(scene, 0.5)
    async with scene.holding.busy:
        assert await scene.give() == []
    scene.holding.state = "damaged"
    assert await scene.give() == []


async def test_memory_of_a_removed_release_goes(scene: Scene) -> None:
    rot(scene, 0.5)
    await scene.give()
    scene.shelf.holdings.clear()
    await scene.check.turn()
    assert not scene.check._given
    assert not scene.check._alarmed


async def test_the_operator_says_how_often_it_looks(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    class Counting(SpotCheck):
        turns = 0

        async def turn(self) -> None:
            self.turns += 1

    check = Counting(cast("Library", scene.shelf), Meter(), interval=3600)
    with trio.move_on_after(3 * 3600 + 1):
        await check.run()
    assert check.turns == 3
