"""Resolving from HTTP mirrors, alone and beside the swarm; every part but the mirror is the real one."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.resolver.mirror_options import MirrorOptions
from services.resolver.outcome import Outcome
from tests.mirror_support import files_of, refusing, start, without_chunks
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


async def test_from_a_server_that_gives_no_byte_ranges(tmp_path: Path) -> None:
    """Python's own server sends whole files, whatever is asked for: a small release installs with one request."""
    sample = make_sample(tmp_path / "release")
    for path, data in files_of(sample).items():
        file = tmp_path / "site" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    line = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "--bind",
        "127.0.7.21",
        "--directory",
        str(tmp_path / "site"),
        "0",
    ]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().partition("(")[2].partition("/)")[0]
            async with scene(tmp_path, sample, publish=False) as it:
                outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((url,)))
        finally:
            server.terminate()
        assert_installed(sample, outcome.path)
        assert outcome.chunks["mirrored"] == sample.layout.grid.n
        assert outcome.sources["faults"] == []
        assert outcome.sources["mirrors"][url] == sample.minimal.size
        assert server.stderr is not None
        assert server.stderr.read().count('.tgz HTTP/1.1" 200') == 1


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


def parts(items: Sequence[int], share: float, first: float, draw: random.Random | None) -> set[int]:
    """A share of ``items``: drawn one by one, or a run from ``first`` on that goes around."""
    if draw is not None:
        return set(draw.sample(list(items), int(len(items) * share)))
    start = int(len(items) * first)
    return {items[(start + place) % len(items)] for place in range(int(len(items) * share))}


@pytest.mark.slow
@pytest.mark.parametrize("scattered", [False, True], ids=["runs", "scattered"])
@pytest.mark.parametrize("honest", [False, True], ids=["damaged", "refusing"])
async def test_five_partial_sources_of_which_one_lies(tmp_path: Path, scattered: bool, honest: bool) -> None:
    """Two peers and three mirrors, none with more than 60 % of the chunks; the third mirror has nothing but junk.

    What the other two lack they refuse, or give as junk that they do not know of.
    """
    sample = make_sample(tmp_path / "release", 6_000_000)
    layout, n, draw = sample.layout, sample.layout.grid.n, random.Random(5) if scattered else None
    pieces, files = list(layout.tgz.pieces), files_of(sample)
    async with scene(tmp_path, sample) as it:
        for first in (0.0, 0.3):
            mine = parts(pieces, 0.6, first, draw)
            await it.seed(pieces=[*layout.chunks.pieces, *layout.parity.pieces, *mine])
        urls = []
        for first in (0.6, 0.8):
            lost = set(range(n)) - parts(range(n), 0.6, first, draw)
            damaged = without_chunks(files, sample, lost)
            mirror = await (start(it.nursery, files, refusing(lost)) if honest else start(it.nursery, damaged))
            urls.append(mirror.url)
        liar = await start(it.nursery, without_chunks(files, sample, range(n)))
        outcome = await it.resolve(mirrors=MirrorOptions((*urls, liar.url)))
        assert_installed(sample, outcome.path)
        assert faults(outcome)[liar.url]["reason"] == "source.mirror-lies"
        total = outcome.sources["received"]["total"]
        print(outcome.sources, outcome.chunks, total / sample.minimal.size)
        assert total <= 1.1 * sample.minimal.size


def faults(outcome: Outcome) -> dict[str, dict[str, str]]:
    """What the report says against sources, by name."""
    return {fault["source"]: fault for fault in outcome.sources["faults"]}
