"""G5: kill -9 at random moments, damage while nobody looks; the next run resumes, heals and downloads nothing twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from tests.kill_support import downloaded, kill_and_resume
from tests.resolver_support import Sample, Scene, assert_installed, make_sample, scene

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 4_000_000)


@pytest.mark.slow
async def test_kill_9_at_random_moments_downloads_no_verified_chunk_twice(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=700_000)
        ordeal = await kill_and_resume(it, random.Random(4), most_kills=5, longest_s=2.5)
        assert ordeal.kills >= 5
        assert not ordeal.seen_visible
        assert ordeal.downloads, "killed too early to show anything"
        assert set(ordeal.downloads.values()) == {1}
        chunks = ordeal.result["chunks"]
        assert chunks["reused"] >= len(ordeal.downloads)
        assert chunks["reused"] + chunks["downloaded"] == sample.layout.grid.n
        assert_installed(sample, str(ordeal.result["path"]))
        assert not list((it.store / "staging").iterdir())


async def half_a_download(it: Scene) -> Path:
    """A download that was cancelled halfway; returns its .tgz."""
    seeder = it.seeders[0]
    seeder.session.set_limits(upload=1_500_000)
    with trio.move_on_after(1.5):
        await it.resolve()
    seeder.session.set_limits()
    [tgz] = (it.store / "staging").glob("*/swarm/*.tgz")
    assert 0 < len(downloaded(it.sample, it.store)) < it.sample.layout.grid.n
    return tgz


async def test_damage_to_the_unfinished_download_is_found_and_healed(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        tgz = await half_a_download(it)
        before = downloaded(sample, it.store)
        victims = sorted(before)[5:200:60]
        data = bytearray(tgz.read_bytes())
        for chunk in victims:
            data[chunk * 5120 + 9] ^= 0x40
        tgz.write_bytes(data)
        outcome = await it.resolve()
        assert_installed(sample, outcome.path)
        assert outcome.chunks["healed"] == len(victims)
        assert outcome.chunks["reused"] >= len(before) - len(victims)  # pieces finished but not journaled count too
        assert outcome.chunks["downloaded"] == sample.layout.grid.n - outcome.chunks["reused"]


async def test_garbage_in_every_file_of_the_workspace_is_survived(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        tgz = await half_a_download(it)
        draw = random.Random(8)
        for path in [*tgz.parent.iterdir(), *tgz.parent.parent.iterdir()]:
            if path.is_file():
                path.write_bytes(draw.randbytes(path.stat().st_size or 100))
        outcome = await it.resolve()
        assert_installed(sample, outcome.path)
        assert outcome.chunks["reused"] == 0
