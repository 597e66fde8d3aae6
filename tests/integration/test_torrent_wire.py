"""docs/specification/swarm.md, "Salvage": single chunks from real libtorrent seeds, damaged, lying and silent peers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from libreseed.adapters.torrent.events import PeerBanned, PieceFailed
from libreseed.adapters.torrent.wire import ChunkPeer, TorrentSpace
from libreseed.errors import TransportFault
from libreseed.torrent.bitfield import pack_bitfield
from tests.torrent_support import RELEASE, Sample, make_sample, session

pytestmark = pytest.mark.integration
CHUNK = 5120


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "seed", 200_000)


def space_of(sample: Sample, info_hash: bytes | None = None) -> TorrentSpace:
    return TorrentSpace(info_hash or sample.v1, sample.piece_length, sample.pieces)


def chunks_of(sample: Sample) -> dict[int, bytes]:
    """Every chunk of the .tgz by its offset in the torrent's linear space."""
    data = sample.file().read_bytes()
    start = sample.first_tgz_piece * sample.piece_length
    return {start + at: data[at : at + CHUNK] for at in range(0, len(data), CHUNK)}


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_every_good_chunk_of_a_seed_that_was_damaged_while_it_seeded(sample: Sample, version: str) -> None:
    good = chunks_of(sample)
    info_hash = sample.v1 if version == "v1" else sample.v2.truncated
    async with session("127.0.0.1") as a:
        a.seed(sample.metainfo, sample.folder)
        with sample.file().open("r+b") as file:
            for at in (3 * CHUNK + 7, 20 * CHUNK):
                file.seek(at)
                file.write(b"damage")
        async with ChunkPeer.connect(a.addresses[0], space_of(sample, info_hash)) as peer:
            got = {
                part.offset: part.data async for part in peer.fetch_all((at, len(data)) for at, data in good.items())
            }
            first = min(good)
            assert await peer.fetch(first, CHUNK) == good[first]
    assert {at for at in good if got[at] != good[at]} == {first + 3 * CHUNK, first + 20 * CHUNK}


async def test_salvage_from_the_peer_that_libtorrent_banned(sample: Sample, tmp_path: Path) -> None:
    bad = sample.first_tgz_piece + 2
    good = sample.piece(bad)
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        with sample.file().open("r+b") as file:
            file.seek(2 * sample.piece_length + 50)
            file.write(b"damage")
        (tmp_path / "b").mkdir()
        torrent = b.fetch(sample.v2, RELEASE, tmp_path / "b", metainfo=sample.metainfo, peers=a.addresses)
        await torrent.want([4 if index == bad else 0 for index in range(sample.pieces)])
        banned = None
        with trio.fail_after(20):
            async for event in torrent.events:
                if isinstance(event, PeerBanned):
                    banned = event.address
                if event == PieceFailed(bad):
                    break
        assert banned is not None
        async with ChunkPeer.connect(banned, space_of(sample)) as peer:
            start = bad * sample.piece_length
            second = await peer.fetch(start + CHUNK, CHUNK)
            third = await peer.fetch(start + 2 * CHUNK, sample.piece_length - 2 * CHUNK)
        assert second + third == good[CHUNK:]
        torrent.give(bad, good)
        with trio.fail_after(20):
            while torrent.have != pack_bitfield(index == bad for index in range(sample.pieces)):
                await torrent.events.receive()


async def test_range_across_pieces_and_what_the_peer_lacks(sample: Sample) -> None:
    async with session("127.0.0.1") as a:
        a.seed(sample.metainfo, sample.folder, pack_bitfield(index not in (2, 3) for index in range(sample.pieces)))
        size = sample.piece_length
        async with ChunkPeer.connect(a.addresses[0], space_of(sample)) as peer:
            assert peer.has(1)
            assert not peer.has(2)
            assert (
                await peer.fetch(5 * size - 100, 2 * size)
                == (sample.piece(4) + sample.piece(5) + sample.piece(6))[size - 100 : 3 * size - 100]
            )
            with pytest.raises(TransportFault) as refused:
                await peer.fetch(2 * size - 10, 20)
            assert refused.value.reason == "source.peer-refused"
            with pytest.raises(ValueError, match="not in the torrent"):
                await peer.fetch(sample.pieces * size - 5, 6)


async def with_peer(serve: Callable[[trio.SocketStream], Awaitable[None]], sample: Sample) -> str:
    """The reason with which a fetch from a scripted peer ends."""
    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.4"))[0]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        with pytest.raises(TransportFault) as failed:
            async with ChunkPeer.connect(listener.socket.getsockname(), space_of(sample), patience_s=0.2) as peer:
                await peer.fetch(0, CHUNK)
        nursery.cancel_scope.cancel()
    return failed.value.reason


def hello(sample: Sample) -> bytes:
    return b"\x13BitTorrent protocol" + bytes(7) + b"\x04" + sample.v1 + b"p" * 20


async def test_peer_that_accepts_and_says_nothing(sample: Sample) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    assert await with_peer(serve, sample) == "source.peer-silent"


async def test_peer_that_never_unchokes_but_keeps_talking(sample: Sample) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(hello(sample))
        while True:
            await stream.send_all(b"\0\0\0\x05\x04" + bytes(4) + bytes(4))
            await trio.sleep(0.02)

    assert await with_peer(serve, sample) == "source.peer-silent"


async def test_peer_that_unchokes_and_never_answers(sample: Sample) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(hello(sample) + b"\0\0\0\x01\x0e\0\0\0\x01\x01")
        while await stream.receive_some():
            pass

    assert await with_peer(serve, sample) == "source.peer-silent"


async def test_peer_that_closes(sample: Sample) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(hello(sample) + b"\0\0\0\x01\x0e\0\0\0\x01\x01")
        await stream.receive_some()
        await stream.aclose()

    assert await with_peer(serve, sample) == "source.peer-refused"


async def test_peer_that_sends_junk(sample: Sample) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(68))

    assert await with_peer(serve, sample) == "source.peer-protocol"


async def test_no_peer_there(sample: Sample) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.4"))[0]
    address = listener.socket.getsockname()
    await listener.aclose()
    with pytest.raises(TransportFault) as failed:
        async with ChunkPeer.connect(address, space_of(sample)):
            raise AssertionError
    assert failed.value.reason == "source.peer-refused"


async def test_choke_in_between_is_asked_again(sample: Sample) -> None:
    piece = sample.piece(0)

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(hello(sample) + b"\0\0\0\x01\x0e\0\0\0\x01\x01")
        rounds = 0
        async for data in stream:
            if b"\0\0\0\x0d\x06" in data:
                rounds += 1
                if rounds == 1:
                    await stream.send_all(b"\0\0\0\x01\0" + b"\0\0\0\x01\x01")
                else:
                    await stream.send_all((9 + CHUNK).to_bytes(4, "big") + b"\x07" + bytes(8) + piece[:CHUNK])

    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.4"))[0]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with ChunkPeer.connect(listener.socket.getsockname(), space_of(sample)) as peer:
            assert await peer.fetch(0, CHUNK) == piece[:CHUNK]
        nursery.cancel_scope.cancel()
