"""docs/specification/swarm.md, "Session": torrents that leave and come back under use, and sessions that end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from libreseed.adapters.torrent import session as session_module
from libreseed.adapters.torrent.events import PieceDone
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions
from tests.tools import require_ipv6
from tests.torrent_support import RELEASE, Sample, make_sample, session

pytestmark = pytest.mark.integration


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "seed")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


async def test_torrent_that_is_out_for_a_moment_is_asked_for_nothing(sample: Sample, target: Path) -> None:
    """What comes while the handle is gone waits for the next one; on the old one it could crash libtorrent."""
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        torrent = b.fetch(sample.v2, RELEASE, target, metainfo=sample.metainfo)
        await torrent.want([0] * sample.pieces)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(torrent.readmit, [])
                while torrent._handle is not None:
                    await trio.lowlevel.checkpoint()
                torrent.give(5, sample.piece(5))  # not taken, and not a crash
                torrent.set_limits(download=50_000_000)
                torrent.connect(a.addresses)
                nursery.start_soon(torrent.want, [4] * sample.pieces)
                assert (await torrent.status()).pieces == sample.pieces
            done: set[int] = set()
            while len(done) < sample.pieces:
                done |= {event.index for event in await torrent.events.receive_batch() if isinstance(event, PieceDone)}
        assert torrent._handle.download_limit() == 50_000_000


async def test_torrent_leaves_while_everybody_uses_it(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a:
        torrent = a.fetch(sample.v2, RELEASE, target, metainfo=sample.metainfo)

        async def use(call: Any) -> None:
            with pytest.raises(trio.ClosedResourceError):
                while True:
                    await call()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, torrent.status)
                nursery.start_soon(use, lambda: torrent.readmit([("127.0.0.9", 1)]))
                nursery.start_soon(use, lambda: torrent.want([4] * sample.pieces))
                for _ in range(30):
                    await torrent.status()
                await a.remove(torrent)
        assert not a._torrents
        a.fetch(sample.v2, RELEASE, target)  # it is really out: twice would be a fault


async def test_session_that_does_not_let_go_is_left_behind(
    sample: Sample, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Destroying it would block the process with the interpreter lock held."""
    monkeypatch.setattr(session_module, "_CLOSE_S", 0.05)
    monkeypatch.setattr(session_module, "_ABANDONED", kept := list[object]())
    monkeypatch.setitem(session_module._SESSION_ALERTS, "torrent_removed_alert", lambda _self, _alert: None)
    async with session("127.0.0.1") as a:
        a.fetch(sample.v2, RELEASE, target, metainfo=sample.metainfo)
        inner = a._session
    assert inner in kept
    with pytest.raises(trio.ClosedResourceError):
        await a.totals()
    descriptors = next(one for one in kept if isinstance(one, tuple))
    inner.set_alert_fd(-1)
    for descriptor in descriptors:
        descriptor.close()


@pytest.mark.parametrize("host", ["127.0.0.60", "::1"])
async def test_peers_see_a_session_where_it_listens(sample: Sample, target: Path, host: str) -> None:
    if ":" in host:
        require_ipv6()
    other = "::1" if ":" in host else "127.0.0.61"
    async with session(other) as a, session(host) as b:
        seeding = a.seed(sample.metainfo, sample.folder)
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        with trio.fail_after(30):
            await torrent.metainfo()
        assert [peer.address[0] for peer in (await seeding.status()).peers] == [host]


async def test_session_with_both_families_dials_both(sample: Sample, target: Path) -> None:
    require_ipv6()
    async with session("127.0.0.1") as a, session("::1") as b:
        for one in (a, b):
            one.seed(sample.metainfo, sample.folder)
        async with trio.open_nursery() as nursery:
            both = TorrentSession(SessionOptions(listen=(("127.0.0.62", 0), ("::1", 0))))
            await nursery.start(both.run)
            torrent = both.fetch(sample.v2, RELEASE, target, peers=[*a.addresses, *b.addresses])
            with trio.fail_after(30):
                await torrent.metainfo()
                while len((await torrent.status()).peers) < 2:
                    await torrent.events.receive()
            nursery.cancel_scope.cancel()
