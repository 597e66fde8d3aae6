"""The two ways out: a DHT node and a torrent session, started side by side and as late as possible.

All that the lookup does not need is imported in a thread while the DHT answers, libtorrent among it.
"""

from __future__ import annotations

import gc
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

__all__ = ["DhtClient", "DhtFactory", "Network", "default_dht", "load_without_swarm"]

Address = tuple[str, int]
_QUICK_S = 0.05  # loading takes that long, too: an answer that comes sooner shall not have to wait for the interpreter


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
    """Lives in ``nursery``: cancelling that ends it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        make_dht: DhtFactory,
        bootstrap: Sequence[Endpoint],
        listen: Sequence[Endpoint],
        root: Path,
        *,
        mixed: bool = False,
    ) -> None:
        self._nursery = nursery
        self._mixed = mixed
        self._listen = tuple((at.host, at.port) for at in listen)
        bootstraps = tuple((at.host, at.port) for at in bootstrap)
        any_port = tuple((host, 0) for host, _ in self._listen)
        self._dht = make_dht(bootstraps, any_port, root / "dht-nodes.json")
        self._session: TorrentSession | None = None
        self._load = trio.Event()
        self._loaded = trio.Event()
        self._ready = trio.Event()
        self._asking = False  # the DHT node runs
        nursery.start_soon(self._start_session)

    async def find(self, request: Request, basis: TrustBasis | None) -> FoundRecord:
        """Step 2, as :func:`libreseed.adapters.dht.finder.find_record`."""
        from libreseed.adapters.dht.finder import find_record

        await self._nursery.start(self._dht.run)
        self._asking = True
        return await find_record(self._dht, request, basis)

    def load(self) -> None:
        """Load what follows the lookup, if nothing that matters more is left to do meanwhile."""
        self._load.set()

    async def loaded(self) -> None:
        """Return once the modules for what follows the lookup are here."""
        self._load.set()
        await self._loaded.wait()

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
        self._nursery.start_soon(self._load_the_rest)
        await self._nursery.start(self._session.run)
        self._ready.set()

    async def _load_the_rest(self) -> None:
        """In threads, in the order of use: while a DHT takes its time, or the first bytes flow; then what installs."""
        with trio.move_on_after(_QUICK_S):
            await self._load.wait()
        await trio.to_thread.run_sync(_load_content)
        self._loaded.set()
        await trio.to_thread.run_sync(_load_install)


async def load_without_swarm(nursery: trio.Nursery) -> None:
    """What follows the lookup when neither DHT nor swarm are used; what installs, while bytes flow."""
    await trio.to_thread.run_sync(_load_content)
    nursery.start_soon(trio.to_thread.run_sync, _load_install)


def _load_content() -> None:
    from . import content  # noqa: F401


def _load_install() -> None:
    from . import install  # noqa: F401

    gc.freeze()  # what was imported stays; see cli.main
    gc.enable()
