"""G5: kill -9 at random moments, damage while nobody looks; the next run resumes, heals and downloads nothing twice."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from libreseed.adapters.files.prefix_hash import PrefixHash
from libreseed.adapters.resolving import verified_prefix
from libreseed.ids import Sha256Digest
from tests.kill_support import downloaded, kill_and_resume
from tests.resolver_support import Sample, Scene, assert_installed, make_sample, rejects, scene

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
    seeder.session.set_limits(upload=700_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.resolve)
        while len(downloaded(it.sample, it.store)) < 200:
            await trio.sleep(0.02)  # the journal is the resolver's own
        nursery.cancel_scope.cancel()
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


async def test_bytes_that_change_on_the_disk_after_their_check_are_not_installed(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk: the last look at the file finds it, the next run heals it, and the publisher is not blamed."""
    spoiled: list[Path] = []

    class Failing(PrefixHash):
        def __init__(self, path: Path, size: int) -> None:
            super().__init__(path, size)
            self._file, self._bytes = path, size

        def advance(self, end: int) -> None:
            if end >= self._bytes and not spoiled:
                with self._file.open("r+b") as file:
                    file.seek(self._bytes - 3)
                    file.write(b"\xff\xfe\xfd")
                spoiled.append(self._file)
            super().advance(end)

    monkeypatch.setattr(verified_prefix, "PrefixHash", Failing)
    async with scene(tmp_path, sample) as it:
        await it.seed()
        with rejects("storage.io"):
            await it.resolve()
        assert not list((it.store / "packages").iterdir())
        outcome = await it.resolve()
        assert_installed(sample, outcome.path)
        assert (outcome.chunks["healed"], outcome.chunks["reused"]) == (1, sample.layout.grid.n - 1)


async def test_wrong_running_hash_is_settled_by_the_file(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(PrefixHash):
        def digest(self) -> Sha256Digest | None:
            return Sha256Digest(bytes(32))

    monkeypatch.setattr(verified_prefix, "PrefixHash", Wrong)
    async with scene(tmp_path, sample) as it:
        await it.seed()
        assert_installed(sample, (await it.resolve()).path)


async def test_offline_completes_what_parity_on_this_disk_allows(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        request = replace(it.options().request, offline=True)
        await half_a_download(it)
        with rejects("notfound.offline"):
            await it.resolve(request=request)
        [tgz] = (it.store / "staging").glob("*/swarm/*.tgz")
        for suffix in (".tgz", ".parity"):
            shutil.copy(sample.files.path(suffix), tgz.parent)
        data = bytearray(tgz.read_bytes())
        data[17 * 5120] ^= 1
        tgz.write_bytes(data)
        outcome = await it.resolve(request=request)
        assert_installed(sample, outcome.path)
        assert outcome.chunks["repaired"] + outcome.chunks["downloaded"] == 1
