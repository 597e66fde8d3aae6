"""G5 with mirrors: kill -9 at random moments, and with or without a torrent; nothing verified is fetched twice."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
import trio

from services.resolver.mirror_options import MirrorOptions
from tests.kill_support import downloaded, kill_and_resume
from tests.mirror_support import files_of, slowed, start
from tests.resolver_support import Sample, assert_installed, make_sample, scene

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 2_000_000)


@pytest.mark.slow
async def test_kill_9_at_random_moments_beside_the_swarm(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=150_000)
        mirrors = [await start(it.nursery, files_of(sample), slowed(60_000)) for _ in range(2)]
        more = [flag for mirror in mirrors for flag in ("--mirror", mirror.url)]
        ordeal = await kill_and_resume(it, random.Random(4), most_kills=4, longest_s=4, more=more)
        assert ordeal.kills >= 4
        assert ordeal.downloads, "killed too early to show anything"
        assert set(ordeal.downloads.values()) == {1}
        chunks = ordeal.result["chunks"]
        assert chunks["reused"] >= len(ordeal.downloads)
        assert chunks["reused"] + chunks["downloaded"] == sample.layout.grid.n
        assert_installed(sample, str(ordeal.result["path"]))
        assert not list((it.store / "staging").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("torrent", [True, False], ids=["with-torrent", "chunk-map-alone"])
async def test_a_download_from_mirrors_goes_on_where_it_stopped(tmp_path: Path, sample: Sample, torrent: bool) -> None:
    files = {path: data for path, data in files_of(sample).items() if torrent or not path.endswith("/torrent")}
    async with scene(tmp_path, sample, publish=False) as it:
        slow = await start(it.nursery, files, slowed(300_000, enough=700_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(it.resolve, bootstrap=(), mirrors=MirrorOptions((slow.url,))))
            await slow.enough.wait()
            nursery.cancel_scope.cancel()
        before = downloaded(sample, it.store)
        assert 0 < len(before) < sample.layout.grid.n
        quick = await start(it.nursery, files)
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((quick.url,)))
        assert_installed(sample, outcome.path)
        assert outcome.chunks["reused"] >= len(before)
        assert outcome.chunks["mirrored"] == sample.layout.grid.n - outcome.chunks["reused"]
        asked = [
            chunk for one in quick.asked if one.span for chunk in range(one.span[0] // 5120, -(-one.span[1] // 5120))
        ]
        assert before.keys().isdisjoint(asked)
