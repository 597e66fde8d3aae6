"""DESIGN 3.7, docs/specification/swarm.md: real sessions on loopback fetch, resume, repair and give back."""

from __future__ import annotations

import gc
import hashlib
import threading
from pathlib import Path

import libtorrent as lt
import pytest
import trio

from libreseed.adapters.torrent.events import PeerBanned, PieceDone, PieceFailed, TorrentError, TorrentEvent
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.ids import TorrentV2Hash
from libreseed.torrent.bitfield import pack_bitfield, unpack_bitfield
from tests.tools import require_program
from tests.torrent_support import RELEASE, Sample, make_sample, session, tracker_for

pytestmark = pytest.mark.integration


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "seed")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


async def events_until(torrent: Torrent, last: type[TorrentEvent], count: int = 1) -> list[TorrentEvent]:
    """Read events until ``count`` different ones of type ``last`` were seen."""
    seen: list[TorrentEvent] = []
    with trio.fail_after(30):
        while len({event for event in seen if isinstance(event, last)}) < count:
            seen += await torrent.events.receive_batch()
    return seen


async def pieces_done(torrent: Torrent, count: int) -> set[int]:
    return {event.index for event in await events_until(torrent, PieceDone, count) if isinstance(event, PieceDone)}


def assert_equal_files(sample: Sample, folder: Path) -> None:
    for suffix in (".chunks", ".parity", ".tgz"):
        assert (folder / f"{RELEASE}{suffix}").read_bytes() == sample.file(suffix).read_bytes()


def only(sample: Sample, pieces: set[int]) -> bytes:
    return pack_bitfield(index in pieces for index in range(sample.pieces))


def damage(sample: Sample, piece: int) -> None:
    """Flip a byte in the middle of a piece of the .tgz."""
    first = sample.first_tgz_piece
    with sample.file().open("r+b") as file:
        file.seek((piece - first) * sample.piece_length + 100)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("with_metainfo", [False, True])
async def test_whole_release_from_one_seed(sample: Sample, target: Path, with_metainfo: bool) -> None:
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        metainfo = sample.metainfo if with_metainfo else None
        torrent = b.fetch(sample.v2, RELEASE, target, metainfo=metainfo, peers=a.addresses)
        assert TorrentV2Hash(info_hash(await torrent.metainfo())) == sample.v2
        assert not list(target.iterdir())
        await torrent.want([4] * sample.pieces)
        await pieces_done(torrent, sample.pieces)
        assert_equal_files(sample, target)
        assert unpack_bitfield(torrent.have, sample.pieces) == [True] * sample.pieces
        assert (await b.totals()).downloaded >= sum(sample.file(s).stat().st_size for s in (".chunks", ".tgz"))
        await b.remove(torrent)
        with pytest.raises(trio.EndOfChannel):
            while True:
                await torrent.events.receive()


def info_hash(metainfo: bytes) -> bytes:
    return hashlib.sha256(lt.bencode(lt.bdecode(metainfo)[b"info"])).digest()


@pytest.mark.slow
async def test_every_reported_piece_can_be_read_at_once(tmp_path: Path, target: Path) -> None:
    """libtorrent itself reports pieces that are not written yet: about one in twenty at full speed."""
    sample = make_sample(tmp_path / "big", 24 * 2**20, 2**14)
    whole = sample.linear()
    size, first = sample.piece_length, sample.first_tgz_piece
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([4 if index >= first else 0 for index in range(sample.pieces)])
        seen: set[int] = set()
        with trio.fail_after(60):
            while len(seen) < sample.pieces - first:
                for event in await torrent.events.receive_batch():
                    if isinstance(event, PieceDone):
                        seen.add(event.index)
                        with (target / f"{RELEASE}.tgz").open("rb") as file:
                            file.seek((event.index - first) * size)
                            data = file.read(size)
                        assert data.ljust(size, b"\0") == whole[event.index * size :][:size]


async def test_peers_found_later_are_connected(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        torrent = b.fetch(sample.v2, RELEASE, target)
        torrent.connect(a.addresses)
        await torrent.want([4] * sample.pieces)
        await pieces_done(torrent, sample.pieces)
        assert_equal_files(sample, target)


async def test_only_wanted_pieces_are_fetched(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([4 if index == 7 else 0 for index in range(sample.pieces)])
        assert await pieces_done(torrent, 1) == {7}
        assert torrent.have == only(sample, {7})
        assert (await torrent.status()).downloaded <= 2 * sample.piece_length


async def test_union_of_partial_seeds(sample: Sample, target: Path) -> None:
    half = set(range(0, sample.pieces, 2))
    async with session("127.0.0.1") as a, session("127.0.0.2") as b, session("127.0.0.3") as c:
        a.seed(sample.metainfo, sample.folder, only(sample, half))
        c.seed(sample.metainfo, sample.folder, only(sample, set(range(sample.pieces)) - half))
        torrent = b.fetch(sample.v2, RELEASE, target, peers=[*a.addresses, *c.addresses])
        await torrent.want([4] * sample.pieces)
        await pieces_done(torrent, sample.pieces)
        assert_equal_files(sample, target)


async def test_partial_seed_shows_what_it_has(sample: Sample, target: Path) -> None:
    have = {1, 3, 5}
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder, only(sample, have))
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([4] * sample.pieces)
        assert await pieces_done(torrent, 3) == have
        status = await torrent.status()
        assert [peer.have for peer in status.peers] == [only(sample, have)]
        assert {index for index, count in enumerate(status.availability) if count} == have
        assert status.peers[0].address == a.addresses[0]


async def test_resume_fetches_nothing_twice(sample: Sample, target: Path) -> None:
    first = set(range(sample.pieces // 2))
    async with session("127.0.0.1") as a:
        a.seed(sample.metainfo, sample.folder)
        async with session("127.0.0.2") as b:
            torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
            await torrent.want([4 if index in first else 0 for index in range(sample.pieces)])
            await pieces_done(torrent, len(first))
            metainfo, have = await torrent.metainfo(), torrent.have
        async with session("127.0.0.3") as b:
            torrent = b.fetch(sample.v2, RELEASE, target, metainfo=metainfo, have=have, peers=a.addresses)
            await torrent.want([4] * sample.pieces)
            assert not await pieces_done(torrent, sample.pieces - len(first)) & first
            assert_equal_files(sample, target)
            assert (await torrent.status()).downloaded <= (sample.pieces - len(first)) * sample.piece_length


async def test_repaired_piece_is_offered_to_others(sample: Sample, target: Path, tmp_path: Path) -> None:
    piece = sample.first_tgz_piece + 2
    other = tmp_path / "other"
    other.mkdir()
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        torrent = a.fetch(sample.v2, RELEASE, target, metainfo=sample.metainfo)
        await torrent.want([4] * sample.pieces)
        torrent.give(piece, sample.piece(piece))
        last = sample.pieces - 1
        torrent.give(last, sample.piece(last)[: sample.file().stat().st_size % sample.piece_length])
        assert await pieces_done(torrent, 2) == {piece, last}
        with pytest.raises(ValueError, match="bytes for piece"):
            torrent.give(piece, bytes(sample.piece_length + 1))
        fetching = b.fetch(sample.v2, RELEASE, other, peers=a.addresses)
        await fetching.want([4] * sample.pieces)
        assert await pieces_done(fetching, 2) == {piece, last}


async def test_wrong_piece_given_is_not_taken(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a:
        torrent = a.fetch(sample.v2, RELEASE, target, metainfo=sample.metainfo)
        await torrent.want([4] * sample.pieces)
        torrent.give(5, bytes(sample.piece_length))
        seen = await events_until(torrent, PieceFailed)
        assert PieceFailed(5) in seen
        assert not any(isinstance(event, PieceDone) for event in seen)
        torrent.give(5, sample.piece(5))
        assert await pieces_done(torrent, 1) == {5}


async def test_damaged_seed_is_banned_and_readmitted_for_the_rest(sample: Sample, target: Path) -> None:
    bad = sample.first_tgz_piece + 9
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        damage(sample, bad)
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([7 if index == bad else 0 for index in range(sample.pieces)])
        seen = await events_until(torrent, PieceFailed)
        assert PieceFailed(bad) in seen
        assert PeerBanned(a.addresses[0]) in seen
        assert not any(isinstance(event, PieceDone) for event in seen)
        await torrent.want([0 if index == bad else 4 for index in range(sample.pieces)])
        await torrent.readmit(a.addresses)
        assert await pieces_done(torrent, sample.pieces - 1) == set(range(sample.pieces)) - {bad}


async def test_good_chunks_of_a_failed_piece_lie_in_the_file(tmp_path: Path, target: Path) -> None:
    sample = make_sample(tmp_path / "big", 2**20, 2**18)
    bad = sample.first_tgz_piece + 1
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        good = sample.file().read_bytes()[2**18 : 2**19]
        damage(sample, bad)
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([4 if index == bad else 0 for index in range(sample.pieces)])
        await events_until(torrent, PieceFailed)
        there = (target / f"{RELEASE}.tgz").read_bytes()[2**18 : 2**19]
        chunks = range(0, 2**18, 5120)
        assert sum(there[at : at + 5120] == good[at : at + 5120] for at in chunks) == len(chunks) - 1


async def test_torrent_that_contradicts_itself_is_the_publishers_fault(sample: Sample, target: Path) -> None:
    torrent_file = lt.bdecode(sample.metainfo)
    wrong = sample.first_tgz_piece + 1
    hashes = torrent_file[b"info"][b"pieces"]
    torrent_file[b"info"][b"pieces"] = hashes[: 20 * wrong] + bytes(20) + hashes[20 * wrong + 20 :]
    metainfo = lt.bencode(torrent_file)
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(metainfo, sample.folder)
        # With the piece layers: a piece that is complete before they come is a plain failure of its v1 hash.
        torrent = b.fetch(TorrentV2Hash(info_hash(metainfo)), RELEASE, target, metainfo=metainfo, peers=a.addresses)
        await torrent.want([4] * sample.pieces)
        seen = await events_until(torrent, TorrentError)
        assert [event.content_fault for event in seen if isinstance(event, TorrentError)] == [True]
        assert not any(isinstance(event, PeerBanned) for event in seen)


async def test_lost_pieces_are_no_longer_offered(sample: Sample, target: Path) -> None:
    lost = {2, 11}
    keep = set(range(sample.pieces)) - lost
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        seeding = a.seed(sample.metainfo, sample.folder)
        seeding.set_limits(upload=50_000_000)
        await seeding.set_have(only(sample, keep))
        assert seeding._handle.upload_limit() == 50_000_000
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([4] * sample.pieces)
        assert await pieces_done(torrent, len(keep)) == keep
        assert (await torrent.status()).peers[0].have == only(sample, keep)


async def test_rescan_finds_the_damage(sample: Sample) -> None:
    bad = sample.first_tgz_piece + 4
    async with session("127.0.0.1") as a:
        seeding = a.seed(sample.metainfo, sample.folder)
        damage(sample, bad)
        with trio.fail_after(30):
            assert await seeding.rescan() == only(sample, set(range(sample.pieces)) - {bad})


async def test_silent_peer_does_not_stall_the_download(sample: Sample, target: Path) -> None:
    """It handshakes, claims to have everything, unchokes, and never sends a block."""
    async with session("127.0.0.1") as a, session("127.0.0.2") as b, trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.4"))[0]
        nursery.start_soon(trio.serve_listeners, _silent_peer(sample), [listener])
        a.seed(sample.metainfo, sample.folder)
        silent = listener.socket.getsockname()
        torrent = b.fetch(sample.v2, RELEASE, target, metainfo=sample.metainfo, peers=[silent])
        await torrent.want([4] * sample.pieces)
        while not any(peer.requests for peer in (await torrent.status()).peers):
            await trio.sleep(0.01)
        torrent.connect(a.addresses)
        await pieces_done(torrent, sample.pieces)
        assert_equal_files(sample, target)
        nursery.cancel_scope.cancel()


def _silent_peer(sample: Sample):  # type: ignore[no-untyped-def]
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\x13BitTorrent protocol" + bytes(8) + sample.v1 + b"-XX0000-" + b"x" * 12)
        have = only(sample, set(range(sample.pieces)))
        await stream.send_all((1 + len(have)).to_bytes(4, "big") + b"\x05" + have + b"\0\0\0\x01\x01")
        while await stream.receive_some():
            pass

    return serve


async def test_banned_host_is_cut_off(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a, session("127.0.0.2") as b:
        a.seed(sample.metainfo, sample.folder)
        torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
        await torrent.want([0] * sample.pieces)
        b.ban("127.0.0.1")
        with trio.fail_after(30):
            while (await torrent.status()).peers:
                await trio.sleep(0.01)
        torrent.connect(a.addresses)
        await torrent.want([4] * sample.pieces)
        with trio.move_on_after(0.3) as waiting:
            await pieces_done(torrent, 1)
        assert waiting.cancelled_caught


async def test_ordinary_client_is_the_only_seed(sample: Sample, target: Path) -> None:
    plain = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False})
    params = lt.load_torrent_buffer(sample.metainfo)
    params.save_path = str(sample.folder.parent)
    plain.add_torrent(params)
    async with session("127.0.0.2") as b:
        torrent = b.fetch(sample.v2, RELEASE, target, peers=[("127.0.0.1", plain.listen_port())])
        with trio.fail_after(30):
            await torrent.want([4] * sample.pieces)
            await pieces_done(torrent, sample.pieces)
        assert_equal_files(sample, target)


async def test_aria2_downloads_from_our_seed(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "it.torrent").write_bytes(sample.metainfo)
    shown = await trio.run_process([require_program("aria2c"), "-S", str(tmp_path / "it.torrent")], capture_stdout=True)
    if sample.v1.hex() not in shown.stdout.decode():
        pytest.skip("this aria2 (before 1.37) can't compute a hybrid info-hash: test_legacy_door.py covers it")
    async with session("127.0.0.1") as a, tracker_for(a.addresses) as announce:
        a.seed(sample.metainfo, sample.folder)
        command = [
            require_program("aria2c"),
            "--no-conf",
            "--seed-time=0",
            f"--dir={tmp_path / 'out'}",
            "--enable-dht=false",
        ]
        command += ["--bt-enable-lpd=false", f"--bt-tracker={announce}", str(tmp_path / "it.torrent")]
        with trio.fail_after(60):
            await trio.run_process(command, capture_stdout=True)
        assert_equal_files(sample, tmp_path / "out" / str(RELEASE))


async def test_cancelled_download_leaves_nothing_running(sample: Sample, target: Path) -> None:
    threads = threading.active_count()
    async with session("127.0.0.1") as a:
        a.seed(sample.metainfo, sample.folder)
        a.set_limits(upload=200_000)
        async with session("127.0.0.2") as b:
            torrent = b.fetch(sample.v2, RELEASE, target, peers=a.addresses)
            await torrent.want([4] * sample.pieces)
            await pieces_done(torrent, 1)
        with pytest.raises(trio.ClosedResourceError):
            await torrent.status()
    gc.collect()
    assert threading.active_count() <= threads + 1  # trio keeps a worker thread for a while
