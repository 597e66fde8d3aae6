"""DESIGN 3.7, docs/specification/swarm.md: real sessions on loopback fetch, resume, repair and give back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from libreseed.adapters.torrent.events import PieceDone
from libreseed.adapters.torrent.torrent import Torrent
from tests.torrent_support import RELEASE, Sample, make_sample, session

pytestmark = pytest.mark.integration


async def pieces_done(torrent: Torrent, count: int) -> set[int]:
    done: set[int] = set()
    with trio.fail_after(30):
        while len(done) < count:
            for event in await torrent.events.receive_batch():
                if isinstance(event, PieceDone):
                    done.add(event.index)
    return done


def assert_equal_files(sample: Sample, folder: Path) -> None:
    for suffix in (".chunks", ".parity", ".tgz"):
        assert (folder / f"{RELEASE}{suffix}").read_bytes() == sample.file(suffix).read_bytes()


@pytest.mark.parametrize("with_metainfo", [False, True])
async def test_whole_release_from_one_seed(tmp_path: Path, with_metainfo: bool) -> None:
    sample = make_sample(tmp_path / "a")
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        target = tmp_path / "b"
        target.mkdir()
        torrent = b.fetch(
            sample.v2,
            RELEASE,
            target,
            metainfo=sample.metainfo if with_metainfo else None,
            peers=[("127.0.0.1", a.port)],
        )
        await torrent.metainfo()
        assert not list(target.iterdir())
        await torrent.want([4] * sample.pieces)
        await pieces_done(torrent, sample.pieces)
        status = await torrent.status()
        assert status.pieces == sample.pieces
        assert len(status.peers) == 1
        assert_equal_files(sample, target)
        await b.remove(torrent)
