"""A peer that claims to have everything and sends what it likes, and a swarm that is mostly made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from libreseed import limits
from libreseed.adapters.resolving.salvage import ChunkSalvage
from libreseed.resolve.journal import Kind
from libreseed.resolve.piece_map import Chunk
from libreseed.resolve.request import Request
from tests.archive_forge import Forge, gz
from tests.attacks.attack_support import LyingDht
from tests.repair_support import Package, content, make_package
from tests.resolver_support import forge_sample, scene

pytestmark = pytest.mark.integration

CHUNKS = 400
Answer = Callable[[int, int], bytes]  # offset in the torrent and length -> bytes


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(tmp_path_factory.mktemp("package"), content("lying peer", CHUNKS * 5120))


@dataclass
class Peer:
    """Answers the requests of one connection after another; ``answered`` counts them."""

    package: Package
    answer: Answer
    answered: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        hello = b"\x13BitTorrent protocol" + bytes(7) + b"\x04" + self.package.made.metainfo.v1 + b"p" * 20
        have_all, unchoke = b"\0\0\0\x01\x0e", b"\0\0\0\x01\x01"
        try:
            await stream.send_all(hello + have_all + unchoke)
            received = b""
            async for data in stream:
                received += data
                while (at := received.find(b"\0\0\0\x0d\x06")) >= 0 and len(received) >= at + 17:
                    await self._give(stream, received[at + 5 : at + 17])
                    received = received[at + 17 :]
        except trio.BrokenResourceError:
            return  # it was left, as a liar should be

    async def _give(self, stream: trio.SocketStream, request: bytes) -> None:
        piece, begin, length = (int.from_bytes(request[at : at + 4], "big") for at in (0, 4, 8))
        data = self.answer(piece * self.package.made.metainfo.layout.piece_bytes + begin, length)
        self.answered += 1
        await stream.send_all((9 + length).to_bytes(4, "big") + b"\x07" + request[:8] + data)


@asynccontextmanager
async def peers(*those: Peer) -> AsyncIterator[list[tuple[str, int]]]:
    async with trio.open_nursery() as nursery:
        addresses = []
        for peer in those:
            listener = (await trio.open_tcp_listeners(0, host="127.0.0.5"))[0]
            nursery.start_soon(trio.serve_listeners, peer.serve, [listener])
            addresses.append(listener.socket.getsockname()[:2])
        yield addresses
        nursery.cancel_scope.cancel()


def truth(package: Package) -> Answer:
    start = package.made.metainfo.layout.tgz.offset
    return lambda offset, length: package.data[offset - start : offset - start + length]


def lies_about(package: Package, bad: Callable[[int], bool]) -> Answer:
    """One flipped bit in every chunk that is ``bad``."""
    start, true = package.made.metainfo.layout.tgz.offset, truth(package)

    def answer(offset: int, length: int) -> bytes:
        data = true(offset, length)
        return bytes([data[0] ^ 1]) + data[1:] if bad((offset - start) // 5120) else data

    return answer


async def salvage(package: Package, *those: Peer) -> dict[Chunk, bytes]:
    metainfo = package.made.metainfo
    async with peers(*those) as addresses:
        wants = [(Kind.DATA, chunk) for chunk in range(CHUNKS)]
        asked = dict.fromkeys(addresses, ())
        return (await ChunkSalvage(metainfo.layout, metainfo.v1, 5.0)(package.chunk_map, wants, asked)).found


async def test_a_peer_that_only_lies_is_left_and_nothing_of_it_is_taken(package: Package) -> None:
    liar = Peer(package, lies_about(package, lambda _: True))
    assert await salvage(package, liar) == {}
    assert limits.SALVAGE_BAD_CHUNKS <= liar.answered < CHUNKS


async def test_the_good_chunks_of_a_peer_that_sometimes_lies_are_taken_and_no_others(package: Package) -> None:
    found = await salvage(package, Peer(package, lies_about(package, lambda chunk: chunk % 3 == 2)))
    assert {chunk for _, chunk in found} == {chunk for chunk in range(CHUNKS) if chunk % 3 != 2}
    assert all(data == package.data[chunk * 5120 :][:5120] for (_, chunk), data in found.items())


async def test_liars_beside_an_honest_peer_change_nothing(package: Package) -> None:
    liars = [Peer(package, lies_about(package, lambda _: True)) for _ in range(limits.SALVAGE_PEERS - 1)]
    found = await salvage(package, *liars, Peer(package, truth(package)))
    assert b"".join(found[Kind.DATA, chunk] for chunk in range(CHUNKS)) == package.data


@dataclass
class PollutedDht(LyingDht):
    """Knows the peers it was given, in this order."""

    peers: tuple[tuple[str, int], ...] = ()

    async def iter_peers(self, info_hash: bytes) -> AsyncIterator[tuple[str, int]]:
        for peer in self.peers:
            yield peer


async def test_a_hundred_made_up_peers_in_front_of_the_only_real_one(tmp_path: Path) -> None:
    """Index pollution: announcements cost nothing, so most of them can be fakes (closed ports here)."""
    forge = Forge(name="sample")
    sample = forge_sample(tmp_path / "made", gz(forge.tar), key=forge.key)
    async with scene(tmp_path, sample, publish=False) as it:
        real = (await it.seed()).endpoint
        fakes = tuple((f"127.0.{n // 200 + 1}.{n % 200 + 1}", 9) for n in range(100))
        dht = PollutedDht(sample.item, peers=(*fakes, (real.host, real.port)))
        request = Request(sample.minimal.release, publisher=forge.key.public, without_silexium=True)
        outcome = await it.resolve(request=request, make_dht=lambda *_: dht, peers=())
        assert (Path(outcome.path) / "a").read_bytes() == b"first"
