"""The swarm as a source of a sync: a DHT node that only asks, and a torrent session that only fetches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed import wire
from libreseed.adapters.command.settings import Endpoint
from libreseed.dht.items import SignedItem
from libreseed.dht.records import manifest_salt, minimal_from_item
from libreseed.errors import RecordRejected, TransportFault
from libreseed.ids import PublicKey, ReleaseId
from libreseed.package.minimal import MinimalManifest

if TYPE_CHECKING:
    from libreseed.adapters.dht.udp import DhtNode
    from libreseed.adapters.torrent.session import TorrentSession
    from libreseed.adapters.torrent.torrent import Torrent

__all__ = ["Swarm", "open_swarm", "record_file"]

_RELOOKUP_S = (1.0, 2.0, 4.0, 8.0, 15.0)


class Swarm:
    """A running node (None without bootstrap addresses) and session; ``peers`` are called besides those found."""

    def __init__(
        self, node: DhtNode | None, session: TorrentSession, peers: Sequence[Endpoint], patience_s: float
    ) -> None:
        self.patience_s = patience_s
        self._node = node
        self._session = session
        self._peers = peers

    async def record(self, release: ReleaseId, keys: Sequence[PublicKey]) -> SignedItem | None:
        """The newest sound record of the release by one of ``keys``."""
        if self._node is None:
            return None
        found = [item for key in keys if (item := await self._node.get_item(key, manifest_salt(release))) is not None]
        return max((item for item in found if _is_sound(item)), key=lambda item: item.seq, default=None)

    @asynccontextmanager
    async def joined(self, minimal: MinimalManifest, folder: Path) -> AsyncIterator[Torrent]:
        """The release's torrent with its files in ``folder``; left, with its files closed, at the end of the block."""
        named = [address for peer in self._peers for address in await _numeric(peer)]
        torrent = self._session.fetch(minimal.torrent, minimal.release, folder, peers=named)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._connect_found, torrent, minimal.torrent.truncated, set(named))
                yield torrent
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._session.remove(torrent)

    async def _connect_found(self, torrent: Torrent, info_hash: bytes, heard: set[tuple[str, int]]) -> None:
        if self._node is None:
            return
        for pause in (*_RELOOKUP_S, *[_RELOOKUP_S[-1]] * 10_000):
            async for peer in self._node.iter_peers(info_hash):
                if peer not in heard:
                    heard.add(peer)
                    torrent.connect([peer])
            await trio.sleep(pause)


@asynccontextmanager
async def open_swarm(
    bootstrap: Sequence[Endpoint], peers: Sequence[Endpoint], state: Path, *, host: str, patience_s: float
) -> AsyncIterator[Swarm]:
    """Node and session on any port of ``host``, until the block ends."""
    from libreseed.adapters.dht.udp import DhtNode, DhtOptions
    from libreseed.adapters.torrent.session import TorrentSession
    from libreseed.adapters.torrent.settings import SessionOptions

    async with trio.open_nursery() as nursery:
        session = TorrentSession(SessionOptions(listen=((host, 0),)))
        await nursery.start(session.run)
        node = None
        if bootstrap:
            contacts = tuple((at.host, at.port) for at in bootstrap)
            node = DhtNode(DhtOptions(((host, 0),), contacts, state / "dht-nodes.json", client=True))
            await nursery.start(node.run)
        yield Swarm(node, session, peers, patience_s)
        nursery.cancel_scope.cancel()


def record_file(item: SignedItem) -> bytes:
    """``name@version.dht.json`` of an item as the DHT holds it: the publisher's own signature, for others to keep."""
    return wire.canonical({"salt": item.salt.decode(), "seq": item.seq, "sig": str(item.signature)})


def _is_sound(item: SignedItem) -> bool:
    try:
        minimal_from_item(item)
    except RecordRejected:
        return False
    return True


async def _numeric(peer: Endpoint) -> list[tuple[str, int]]:
    try:
        answers = await trio.socket.getaddrinfo(peer.host, peer.port, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise TransportFault("source.none", f"--peer {peer}: {error.strerror}") from error
    return [(str(answer[4][0]), int(answer[4][1])) for answer in answers]
