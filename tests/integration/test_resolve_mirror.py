"""Resolving from HTTP mirrors, alone and beside the swarm; every part but the mirror is the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.resolver.mirror_options import MirrorOptions
from tests.mirror_support import files_of, start, without_chunks
from tests.resolver_support import assert_installed, make_sample, scene

pytestmark = pytest.mark.integration


async def test_from_one_mirror_alone_without_dht_or_swarm(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "release")
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)))
        assert_installed(sample, outcome.path)
        assert outcome.chunks["mirrored"] == sample.layout.grid.n
        assert outcome.sources["record"] == mirror.url
        assert outcome.sources["faults"] == []


async def test_two_damaged_mirrors_and_a_dead_swarm(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "release", 2_000_000)
    n = sample.layout.grid.n
    async with scene(tmp_path, sample) as it:
        front = await start(it.nursery, without_chunks(files_of(sample), sample, range(n * 6 // 10, n)))
        back = await start(it.nursery, without_chunks(files_of(sample), sample, range(n * 45 // 100)))
        outcome = await it.resolve(mirrors=MirrorOptions((front.url, back.url)))
        assert_installed(sample, outcome.path)
        assert outcome.chunks["mirrored"] == n
        assert {fault["source"] for fault in outcome.sources["faults"]} == {front.url, back.url}
        print(outcome.sources, outcome.chunks, sample.minimal.size)
