"""A torrent session's life: where it listens, what it refuses, and what is left when it has ended."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
import trio

from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions
from libreseed.errors import ContentRejected, LocalFault, NotFound
from libreseed.ids import TorrentV2Hash
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


async def test_session_that_ended_is_a_closed_resource(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a:
        torrent = a.seed(sample.metainfo, sample.folder)
    await a.remove(torrent)
    with pytest.raises(trio.ClosedResourceError):
        await a.totals()
    with pytest.raises(trio.ClosedResourceError):
        a.fetch(sample.v2, RELEASE, target)
    with pytest.raises(trio.ClosedResourceError):
        await torrent.metainfo()


async def test_occupied_port_is_a_configuration_error() -> None:
    async with session("127.0.0.1") as a:
        with pytest.RaisesGroup(pytest.RaisesExc(LocalFault, check=lambda error: error.reason == "config.port")):
            await TorrentSession(SessionOptions(listen=(("127.0.0.1", a.port),))).run()


@pytest.mark.parametrize(
    "listen",
    [("no.such.invalid", 0), ("203.0.113.9", 0), ("2001:db8::9", 0), ("x" * 64, 0)],
    ids=["name", "ipv4-of-another-machine", "ipv6-of-another-machine", "no-name"],
)
async def test_what_cannot_be_listened_on_is_a_configuration_error_at_once(listen: tuple[str, int]) -> None:
    with (
        trio.fail_after(30),
        pytest.RaisesGroup(
            pytest.RaisesExc(LocalFault, check=lambda error: error.reason == "config.port"), allow_unwrapped=True
        ),
    ):
        await TorrentSession(SessionOptions(listen=(("127.0.0.1", 0), listen))).run()


async def test_a_name_is_resolved_and_an_address_may_be_spelled_in_any_way() -> None:
    require_ipv6()
    async with trio.open_nursery() as nursery:
        a = TorrentSession(SessionOptions(listen=(("localhost", 0), ("0:0::1", 0))))
        await nursery.start(a.run)
        assert {host for host, _ in a.addresses} == {"127.0.0.1", "::1"}
        assert a.ports == {6 if ":" in host else 4: port for host, port in a.addresses}
        for address in a.addresses:
            await (await trio.open_tcp_stream(*address)).aclose()
        nursery.cancel_scope.cancel()


def own_addresses() -> list[str]:
    """The addresses that this machine would send from, if it has any beyond loopback; nothing is sent."""
    found = []
    for kind, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(kind, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((far, 9))
            found.append(str(probe.getsockname()[0]))
    return found


async def test_any_address_has_one_port_that_the_system_chose() -> None:
    """libtorrent opens one socket for each address of the machine, each with another port if it is asked for 0."""
    require_ipv6()
    async with trio.open_nursery() as nursery:
        a = TorrentSession(SessionOptions(listen=(("0.0.0.0", 0), ("::", 0))))
        await nursery.start(a.run)
        assert a.ports == {4: a.port, 6: a.port}
        for host in ("127.0.0.1", "::1", *own_addresses()):
            await (await trio.open_tcp_stream(host, a.port)).aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_udp_ports_are_given_back_and_tcp_goes_on(sample: Sample, target: Path, host: str) -> None:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    if ":" in host:
        require_ipv6()
    async with trio.open_nursery() as nursery:
        a = TorrentSession(SessionOptions(listen=((host, 0),), udp=False))
        await nursery.start(a.run)
        with socket.socket(kind, socket.SOCK_DGRAM) as mine:
            if kind == socket.AF_INET6:
                mine.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            mine.bind((host, a.port))
            mine.settimeout(10)
            loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            with socket.socket(kind, socket.SOCK_DGRAM) as other:
                other.sendto(b"for the DHT", (loopback, a.port))
            assert mine.recv(100) == b"for the DHT"
            a.seed(sample.metainfo, sample.folder)
            async with session(loopback) as b:
                got = b.fetch(sample.v2, RELEASE, target, peers=[(loopback, a.port)])
                with trio.fail_after(30):
                    await got.metainfo()
        nursery.cancel_scope.cancel()


async def test_seed_refuses_missing_and_cut_files(sample: Sample) -> None:
    async with session("127.0.0.1") as a:
        sample.file().write_bytes(b"short")
        with pytest.raises(ContentRejected) as cut:
            a.seed(sample.metainfo, sample.folder)
        assert cut.value.reason == "torrent.files"
        sample.file().unlink()
        with pytest.raises(NotFound) as missing:
            a.seed(sample.metainfo, sample.folder)
        assert missing.value.reason == "notfound.file"


async def test_fetch_refuses_a_torrent_that_was_not_asked_for(sample: Sample, target: Path) -> None:
    async with session("127.0.0.1") as a:
        with pytest.raises(ContentRejected) as refused:
            a.fetch(TorrentV2Hash(bytes(32)), RELEASE, target, metainfo=sample.metainfo)
        assert refused.value.reason == "torrent.info-hash"


async def test_same_torrent_twice_is_refused(sample: Sample) -> None:
    async with session("127.0.0.1") as a:
        a.seed(sample.metainfo, sample.folder)
        with pytest.raises(LocalFault) as refused:
            a.seed(sample.metainfo, sample.folder)
        assert refused.value.reason == "storage.duplicate-torrent"
