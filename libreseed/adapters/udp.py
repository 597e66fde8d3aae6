"""The DHT node on real UDP sockets: what services use. The protocol itself is sans-IO, in :mod:`libreseed.dht`.

``run`` owns all state; the other methods may be called from any task once it has started. Cancellation is the only
stop, of a lookup and of the node.
Specification: ``docs/specification/dht.md``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from libreseed.dht.items import SignedItem
from libreseed.ids import PackageName, PublicKey

__all__ = ["DhtNode", "DhtOptions", "PutReport"]

Endpoint = tuple[str, int]
RecordProvider = Callable[[PackageName], Sequence[SignedItem]]


@dataclass(frozen=True, slots=True)
class DhtOptions:
    """How a node runs. ``client`` neither stores nor joins: it looks up at once and asks others not to keep it."""

    listen: tuple[Endpoint, ...] = (("0.0.0.0", 0),)  # noqa: S104  # a DHT node is reachable from everywhere
    bootstrap: tuple[Endpoint, ...] = ()
    state_file: Path | None = None
    client: bool = False


@dataclass(frozen=True, slots=True)
class PutReport:
    """What became of a put: nodes asked, nodes that said yes, nodes that gave the item back, a newer item seen."""

    asked: int
    accepted: int
    confirmed: int
    newer: SignedItem | None = None


class DhtNode:
    """One DHT node over UDP."""

    def __init__(self, options: DhtOptions) -> None:
        self._options = options

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; ``started()`` once the sockets are bound."""
        raise NotImplementedError

    @property
    def addresses(self) -> tuple[Endpoint, ...]:
        """Where the sockets are bound, ports included."""
        raise NotImplementedError

    @property
    def node_count(self) -> int:
        """How many nodes that have answered are known."""
        raise NotImplementedError

    def set_records(self, provider: RecordProvider) -> None:
        """What ``ls_records`` answers with: the provider is called for each query and must be quick."""
        raise NotImplementedError

    async def get_item(self, pubkey: PublicKey, salt: bytes, *, min_seq: int = 0) -> SignedItem | None:
        """The item with the highest valid sequence number (at least ``min_seq``), or None where none was found."""
        raise NotImplementedError

    async def put_item(self, item: SignedItem) -> PutReport:
        """Put a signed item on the closest nodes and read it back."""
        raise NotImplementedError

    async def get_peers(self, info_hash: bytes) -> list[Endpoint]:
        """All peers announced under the 20 bytes ``info_hash``: hints, nothing more."""
        raise NotImplementedError

    def iter_peers(self, info_hash: bytes) -> AsyncIterator[Endpoint]:
        """The same, each as soon as it is heard of."""
        raise NotImplementedError

    async def announce_peer(self, info_hash: bytes, port: int | None) -> int:
        """Announce this address under ``info_hash`` (port None: the DHT port); returns how many nodes took it."""
        raise NotImplementedError

    async def announce_name(self, name: PackageName) -> int:
        """Announce that this node answers ``ls_records`` for ``name``. Returns how many nodes took it."""
        raise NotImplementedError

    async def find_records(self, name: PackageName) -> list[SignedItem]:
        """Signed records for ``name`` from all nodes that announced it: manifests and indexes, of any publisher."""
        raise NotImplementedError
