"""The two ways out: a DHT node and a torrent session, started side by side and as late as possible.

libtorrent is imported in a thread while the DHT answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from libreseed.adapters.command.settings import Endpoint
from libreseed.dht.items import SignedItem
from libreseed.ids import PackageName, PublicKey
from libreseed.resolve.engine import FoundRecord
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis

if TYPE_CHECKING:
    from libreseed.adapters.torrent.session import TorrentSession

__all__ = ["DhtClient", "DhtFactory", "Network", "default_dht"]

Address = tuple[str, int]


class DhtClient(Protocol):
    """What the resolver needs of a DHT node."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...  # noqa: D102
    async def get_item(self, pubkey: PublicKey, salt: bytes) -> SignedItem | None: ...  # noqa: D102
    async def find_records(self, name: PackageName) -> Sequence[SignedItem]: ...  # noqa: D102
    def iter_peers(self, info_hash: bytes) -> AsyncIterator[Address]: ...  # noqa: D102


DhtFactory = Callable[[tuple[Address, ...], tuple[Address, ...], Path], DhtClient]


def default_dht(bootstrap: tuple[Address, ...], listen: tuple[Address, ...], state_file: Path) -> DhtClient:
    """Our own node, as a client: it looks up and leaves no trace in others' tables."""
    from libreseed.adapters.dht.udp import DhtNode, DhtOptions

    return DhtNode(DhtOptions(listen=listen, bootstrap=bootstrap, state_file=state_file, client=True))


class Network:
    """Lives in ``nursery``: cancelling that ends it. ``on_session`` is called once libtorrent is loaded."""

    def __init__(
        self,
        nursery: trio.Nursery,
        make_dht: DhtFactory,
        bootstrap: Sequence[Endpoint],
        listen: Sequence[Endpoint],
        root: Path,
        *,
        on_session: Callable[[], None],
        mixed: bool = False,
    ) -> None:
        self._nursery = nursery
        self._on_session = on_session
        self._mixed = mixed
        self._listen = tuple((at.host, at.port) for at in listen)
        bootstraps = tuple((at.host, at.port) for at in bootstrap)
        any_port = tuple((host, 0) for host, _ in self._listen)
        self._dht = make_dht(bootstraps, any_port, root / "dht-nodes.json")
        self._session: TorrentSession | None = None
        self._ready = trio.Event()
        self._asking = False  # the DHT node runs
        nursery.start_soon(self._start_session)

    async def find(self, request: Request, basis: TrustBasis | None) -> FoundRecord:
        """Step 2, as :func:`libreseed.adapters.dht.finder.find_record`."""
        from libreseed.adapters.dht.finder import find_record

        await self._nursery.start(self._dht.run)
        self._asking = True
        return await find_record(self._dht, request, basis)

    async def session(self) -> TorrentSession:
        """The torrent session, once it listens."""
        await self._ready.wait()
        assert self._session is not None
        return self._session

    @property
    def has_dht(self) -> bool:
        """Whether :meth:`peers` may be asked."""
        return self._asking

    def peers(self, info_hash: bytes) -> AsyncIterator[Address]:
        """Peers announced under 20 bytes of info-hash, each as soon as it is heard of."""
        return self._dht.iter_peers(info_hash)

    async def _start_session(self) -> None:
        from libreseed.adapters.torrent.preload import load_libtorrent

        await trio.to_thread.run_sync(load_libtorrent)
        from libreseed.adapters.torrent.session import TorrentSession
        from libreseed.adapters.torrent.settings import SessionOptions

        # Beside mirrors no block is asked of two peers while others are left: mirrors stand in for a silent peer.
        overrides = {"strict_end_game_mode": True} if self._mixed else {}
        self._session = TorrentSession(SessionOptions(listen=self._listen, overrides=overrides))
        self._on_session()
        await self._nursery.start(self._session.run)
        self._ready.set()
