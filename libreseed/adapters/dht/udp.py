"""The DHT node on real UDP sockets: what services use. The protocol itself is sans-IO, in :mod:`libreseed.dht`.

``run`` owns the machine and the sockets; the other methods may be called from any task once it has started.
Cancellation is the only stop, of a lookup and of the node. A *client* is ready at once and looks up from its bootstrap
addresses; a full node joins, stores, answers and saves its good nodes.

Specification: ``docs/specification/dht.md``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import trio

from libreseed import limits
from libreseed.adapters.command.listening import listen_addresses
from libreseed.adapters.dht.dht_state import NONE, SavedNodes, load_nodes, save_nodes
from libreseed.adapters.dht.sockets import Datagrams, bind_all, local_host_towards
from libreseed.dht import requests
from libreseed.dht.addresses import ID_BYTES, Endpoint, Scope, family_of, scope_of
from libreseed.dht.items import SignedItem, item_target
from libreseed.dht.node import Finished, NodeConfig, NodeMachine
from libreseed.dht.operations import Operation
from libreseed.dht.records import check_belongs_to, name_discovery_target
from libreseed.errors import LibreSeedError, TransportFault
from libreseed.ids import PackageName, PublicKey

__all__ = ["DhtNode", "DhtOptions", "PutReport"]

RecordProvider = Callable[[PackageName], Sequence[SignedItem]]
_SAVE_SECONDS = 300.0
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class DhtOptions:
    """How a node runs. ``client`` neither stores nor joins: it looks up at once and asks others not to keep it.

    ``listen``: hosts and ports (0: the OS chooses); none means every address of this machine. ``bootstrap``: hosts and
    ports. Hosts may be names. ``upload``: bytes per second for answers to others.
    """

    listen: tuple[Endpoint, ...] = ()
    bootstrap: tuple[Endpoint, ...] = ()
    state_file: Path | None = None
    client: bool = False
    upload: int = limits.DHT_UPLOAD_BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class PutReport:
    """What became of a put: nodes asked, nodes that said yes, nodes that gave the item back, a newer item seen."""

    asked: int
    accepted: int
    confirmed: int
    newer: SignedItem | None = None


@dataclass(slots=True, eq=False)
class _Waiter:
    """Who waits for one operation; owned by the task that started it, filled by ``_flush``."""

    done: trio.Event = field(default_factory=trio.Event)
    result: object = None
    peers: trio.MemorySendChannel[Endpoint] | None = None


class DhtNode:
    """One DHT node over UDP."""

    def __init__(self, options: DhtOptions) -> None:
        self._options = options
        self._sockets: list[Datagrams] = []
        self._by_family: dict[int, Datagrams] = {}
        self._machine: NodeMachine | None = None
        self._waiters: dict[int, _Waiter] = {}
        self._wake = trio.Event()
        self._resolved = trio.Event()
        self._slots = trio.Semaphore(limits.DHT_OPERATIONS // 2)
        self._provider: RecordProvider = lambda _name: ()
        self._expects_others = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; ``started()`` once the sockets are bound.

        Raises :class:`LocalFault` (``config.port``) where an address cannot be had.
        """
        saved = NONE
        if self._options.state_file is not None:
            saved = await trio.to_thread.run_sync(load_nodes, self._options.state_file)
        self._sockets = bind_all(await listen_addresses(self._options.listen))
        try:
            self._set_up(saved)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._resolve_names)
                for datagrams in self._sockets:
                    nursery.start_soon(datagrams.read, self._take)
                if self._options.state_file is not None:
                    nursery.start_soon(self._keep_saved, self._options.state_file)
                task_status.started()
        finally:
            self._machine = None
            for datagrams in self._sockets:
                datagrams.close()

    @property
    def addresses(self) -> tuple[Endpoint, ...]:
        """Where the sockets are bound, ports included."""
        return tuple(datagrams.address for datagrams in self._sockets)

    @property
    def node_count(self) -> int:
        """How many nodes that have answered are known."""
        return self._running.node_count

    @property
    def alone(self) -> bool:
        """Whether this may be the first node of its network: it was told of no other, and knows none."""
        return not self._expects_others and self._machine is not None and not self._machine.node_count

    def set_records(self, provider: RecordProvider) -> None:
        """What ``ls_records`` answers with: the provider is called for each query and must be quick."""
        self._provider = provider

    async def get_item(self, pubkey: PublicKey, salt: bytes, *, min_seq: int = 0) -> SignedItem | None:
        """The item with the highest valid sequence number (at least ``min_seq``), or None where none was found.

        Raises :class:`TransportFault` (``source.no-bootstrap``) where no node answers at all; so do all lookups.
        """
        await self._resolved.wait()
        machine = self._running
        held = None
        if machine.responder is not None:
            held = machine.responder.held(item_target(pubkey, salt), trio.current_time())
        found = await self._perform(requests.get_item(machine, pubkey, salt, min_seq, held), requests.Found)
        if found.item is None:
            self._demand_answers(found.answers)
        return found.item

    async def put_item(self, item: SignedItem) -> PutReport:
        """Put a signed item on the closest nodes and read it back; a full node answers for it itself as well."""
        await self._resolved.wait()
        machine = self._running
        if machine.responder is not None:
            machine.responder.own.put(item, trio.current_time())
        families = machine.config.families
        outcome = await self._perform(requests.put_item(machine, item, families), requests.PutOutcome)
        self._demand_answers(outcome.answers)
        return PutReport(outcome.asked, outcome.accepted, outcome.confirmed, outcome.newer)

    async def get_peers(self, info_hash: bytes) -> list[Endpoint]:
        """All peers announced under the 20 bytes ``info_hash``: hints, nothing more."""
        await self._resolved.wait()
        found = await self._perform(requests.find_peers(self._running, info_hash), requests.Peers)
        if not found.peers:
            self._demand_answers(found.answers)
        return list(found.peers)

    async def iter_peers(self, info_hash: bytes) -> AsyncGenerator[Endpoint, None]:
        """The same, each as soon as it is heard of. Close it (``aclosing``) to stop the search."""
        await self._resolved.wait()
        send, receive = trio.open_memory_channel[Endpoint](limits.DHT_PEERS_PER_SEARCH)
        waiter = _Waiter(peers=send)
        async with self._slots:
            number = self._start(requests.find_peers(self._running, info_hash), waiter)
            try:
                async for peer in receive:
                    yield peer
            finally:
                self._stop(number)
        if isinstance(waiter.result, requests.Peers) and not waiter.result.peers:
            self._demand_answers(waiter.result.answers)

    async def announce_peer(self, info_hash: bytes, port: int | Mapping[int, int] | None) -> int:
        """Announce this address under ``info_hash``; returns how many nodes took it.

        ``port`` None is the DHT port; a mapping has one for each family (4, 6), and others are not told.
        """
        await self._resolved.wait()
        machine = self._running
        if isinstance(port, Mapping):
            ports = {family: port[family] for family in machine.config.families if family in port}
        else:
            ports = dict.fromkeys(machine.config.families, port or 0)
        if machine.responder is not None:
            machine.responder.own.announce(info_hash, ports, trio.current_time())
        if port is None:
            ports = {family: self._by_family[family].address[1] for family in ports}
        operation = requests.announce(machine, info_hash, ports, implied=port is None)
        outcome = await self._perform(operation, requests.Announced)
        self._demand_answers(outcome.answers)
        return outcome.accepted

    async def announce_name(self, name: PackageName) -> int:
        """Announce that this node answers ``ls_records`` for ``name``. Returns how many nodes took it."""
        return await self.announce_peer(name_discovery_target(name), None)

    async def find_records(self, name: PackageName) -> list[SignedItem]:
        """Signed records for ``name`` from all nodes that announced it: manifests and indexes, of any publisher."""
        await self._resolved.wait()
        listed = await self._perform(requests.list_records(self._running, name), requests.Listed)
        records = []
        for item in [*self._provider(name), *listed.items]:
            with suppress(LibreSeedError):
                check_belongs_to(item, name)
                records.append(item)
        if not records:
            self._demand_answers(listed.answers)
        return list(dict.fromkeys(records))

    # --- the machine ------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> NodeMachine:
        if self._machine is None:
            raise AssertionError("the DHT node is not running")
        return self._machine

    def _set_up(self, saved: SavedNodes) -> None:
        self._by_family = {datagrams.family: datagrams for datagrams in reversed(self._sockets)}
        families = tuple(sorted(self._by_family))
        config = NodeConfig(
            node_id=saved.node_id if saved.node_id and not self._options.client else os.urandom(ID_BYTES),
            families=families,
            client=self._options.client,
            bootstrap=tuple(one for one in self._options.bootstrap if _is_numeric(one[0]) and not self._is_own(one)),
            known=tuple(info for info in saved.nodes if family_of(info.endpoint[0]) in families),
            upload=self._options.upload,
        )
        self._machine = NodeMachine(config, os.urandom, trio.current_time())
        if self._machine.responder is not None:
            self._machine.responder.own_endpoint = self._own_endpoint
            self._machine.responder.records = self._list_records
        named = any(not _is_numeric(host) for host, _ in self._options.bootstrap)
        self._expects_others = self._options.client or bool(named or config.bootstrap or config.known)
        if not named:
            self._resolved.set()

    def _is_own(self, endpoint: Endpoint) -> bool:
        """Whether a bootstrap address is this node's: one list of addresses may serve all nodes of a network."""
        return not self._options.client and self._own_endpoint(endpoint) == endpoint

    def _list_records(self, name: PackageName) -> Sequence[SignedItem]:
        return self._provider(name)  # whichever is set now

    def _own_endpoint(self, peer: Endpoint) -> Endpoint | None:
        datagrams = self._by_family.get(family_of(peer[0]))
        host = local_host_towards(datagrams, peer) if datagrams is not None else None
        return (host, datagrams.address[1]) if datagrams is not None and host is not None else None

    def _take(self, data: bytes, source: Endpoint, number: int) -> None:
        self._running.handle_datagram(data, source, trio.current_time(), number)
        self._flush()

    def _flush(self) -> None:
        """Send what is to be sent, hand out what has come, and let the timer look again."""
        machine = self._running
        for send in machine.outbox:
            if send.via is not None:
                self._sockets[send.via].send(send.data, send.endpoint)
            elif (datagrams := self._by_family.get(family_of(send.endpoint[0]))) is not None:
                datagrams.send(send.data, send.endpoint)
        machine.outbox.clear()
        for outcome in machine.outcomes:
            waiter = self._waiters.get(outcome.number)
            if waiter is None:
                continue
            if isinstance(outcome, Finished):
                waiter.result = outcome.result
                waiter.done.set()
                if waiter.peers is not None:
                    waiter.peers.close()
            elif waiter.peers is not None:
                for peer in outcome.peers:
                    waiter.peers.send_nowait(peer)  # room for all that one search may find
        machine.outcomes.clear()
        self._wake.set()

    async def _keep_time(self) -> None:
        machine = self._running
        while True:
            self._wake = trio.Event()
            due = machine.next_timeout()
            with trio.move_on_at(float("inf") if due is None else due):
                await self._wake.wait()
                continue
            await trio.lowlevel.checkpoint()  # after a standstill of this machine the answers are there, not yet read
            machine.handle_timeout(trio.current_time())
            self._flush()

    def _start(self, operation: Operation, waiter: _Waiter) -> int:
        number = self._running.start(operation, trio.current_time())
        self._waiters[number] = waiter
        self._flush()
        return number

    def _stop(self, number: int) -> None:
        self._waiters.pop(number, None)
        if self._machine is not None:
            self._machine.cancel(number)

    async def _perform(self, operation: Operation, kind: type[_R]) -> _R:
        async with self._slots:
            waiter = _Waiter()
            number = self._start(operation, waiter)
            try:
                await waiter.done.wait()
            finally:
                self._stop(number)
            if not isinstance(waiter.result, kind):
                raise AssertionError(f"a DHT operation returned {waiter.result!r}")
            return waiter.result

    def _demand_answers(self, answers: int) -> None:
        """A full node without bootstrap addresses may be the first of its network; everyone else needs somebody."""
        if answers or not self._expects_others:
            return
        named = ", ".join(_text(*endpoint) for endpoint in self._options.bootstrap) or "none given"
        raise TransportFault("source.no-bootstrap", f"no DHT node answers (bootstrap: {named})")

    # --- names and saved nodes --------------------------------------------------------------------------------------

    async def _resolve_names(self) -> None:
        """The user's own bootstrap names, and no others, are ever resolved; trio does so in a thread."""
        machine = self._running
        only_own = not (self._options.client or machine.bootstrap or machine.config.known)
        for host, port in self._options.bootstrap:
            if _is_numeric(host):
                continue
            found = await _resolve(host, port)
            only_own = only_own and bool(found)
            for endpoint in found:
                if self._is_own(endpoint):
                    continue
                only_own = False
                if family_of(endpoint[0]) in self._by_family and endpoint not in machine.bootstrap:
                    machine.bootstrap.append(endpoint)
        self._expects_others = not only_own
        self._resolved.set()

    async def _keep_saved(self, path: Path) -> None:
        try:
            while True:
                await trio.sleep(_SAVE_SECONDS)
                await self._save(path)
        finally:
            with trio.CancelScope(shield=True):
                await self._save(path)

    async def _save(self, path: Path) -> None:
        machine = self._running
        nodes = tuple(machine.good_nodes(limits.DHT_STATE_NODES))
        if nodes:  # an empty table is no reason to forget who was there before
            with suppress(OSError):  # the next start is slower, nothing else
                await trio.to_thread.run_sync(save_nodes, path, SavedNodes(machine.node_id, nodes))


async def _resolve(host: str, port: int) -> list[Endpoint]:
    with suppress(OSError, UnicodeError):
        infos = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
        return [cast("Endpoint", address[:2]) for *_, address in infos]
    return []


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_numeric(host: str) -> bool:
    return scope_of(host) is not Scope.UNUSABLE
