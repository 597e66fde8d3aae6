"""docs/specification/swarm.md, "Events": merged while they wait, never lost, pieces only once they are on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from libreseed.adapters.torrent.events import EventChannel, PeerBanned, PeerCount, PieceDone, PieceFailed, TorrentError
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.errors import ContentRejected
from libreseed.ids import TorrentV2Hash
from libreseed.torrent.bitfield import pack_bitfield, unpack_bitfield


async def test_slow_reader_finds_every_piece_once_and_the_last_count() -> None:
    channel = EventChannel()
    for index in range(1000):
        channel.put(PieceDone(index % 10))
        channel.put(PeerCount(index))
    channel.put(PeerBanned(("127.0.0.1", 1)))
    channel.end()
    seen = [event async for event in channel]
    assert seen == [PieceDone(0), PeerCount(999), *map(PieceDone, range(1, 10)), PeerBanned(("127.0.0.1", 1))]


async def test_piece_that_is_done_again_after_it_was_read_is_reported_again() -> None:
    channel = EventChannel()
    channel.put(PieceDone(1))
    assert await channel.receive() == PieceDone(1)
    channel.put(PieceDone(1))
    assert await channel.receive_batch() == [PieceDone(1)]
    with pytest.raises(trio.WouldBlock):
        channel.receive_nowait()


async def test_reader_that_waits_is_woken(autojump_clock: trio.testing.MockClock) -> None:
    channel = EventChannel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_put_later, channel)
        assert await channel.receive_batch() == [TorrentError("disk")]
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


async def _put_later(channel: EventChannel) -> None:
    await trio.sleep(1)
    channel.put(TorrentError("disk"))
    await trio.sleep(1)
    channel.end()


async def test_nothing_is_kept_for_a_reader_that_left() -> None:
    channel = EventChannel()
    channel.put(PieceDone(1))
    await channel.aclose()
    channel.put(PieceDone(2))
    with pytest.raises(trio.WouldBlock):
        channel.receive_nowait()


class _Handle:
    """What a torrent needs of libtorrent here: it counts flushes."""

    flushes = 0

    def torrent_file(self) -> None:
        """No metadata yet."""

    def flush_cache(self) -> None:
        self.flushes += 1


async def _readd(torrent: Torrent, have: list[bool], peers: Iterable[tuple[str, int]]) -> None:
    raise AssertionError


async def test_pieces_are_reported_by_the_flush_that_covers_them() -> None:
    torrent, handle = Torrent(TorrentV2Hash(bytes(32)), "a@1.0.0", Path("/nowhere"), _readd), _Handle()
    torrent._attach(handle, [False] * 8)
    torrent._on_checked()
    torrent._on_piece_passed(1)
    torrent._on_piece_failed(5)
    torrent._flush()
    torrent._on_piece_passed(2)
    torrent._flush()
    assert handle.flushes == 1
    with pytest.raises(trio.WouldBlock):
        torrent.events.receive_nowait()
    torrent._on_flushed()
    assert await torrent.events.receive_batch() == [PieceDone(1), PieceFailed(5)]
    assert torrent.have == b"\x40"
    torrent._flush()
    assert handle.flushes == 2
    torrent._on_flushed()
    assert await torrent.events.receive() == PieceDone(2)
    torrent._on_piece_passed(2)
    torrent._flush()
    assert handle.flushes == 2


def test_bitfield_is_exact() -> None:
    flags = [True, False, True, False, False, False, False, False, True]
    assert pack_bitfield(flags) == b"\xa0\x80"
    assert unpack_bitfield(b"\xa0\x80", 9) == flags
    assert pack_bitfield([]) == b""
    for wrong in (b"\xa0", b"\xa0\x80\x00", b"\xa0\xc0"):
        with pytest.raises(ContentRejected) as refused:
            unpack_bitfield(wrong, 9)
        assert refused.value.reason == "torrent.bitfield"
