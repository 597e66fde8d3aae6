"""A libtorrent session as a trio service: one task pops alerts and turns them into frozen events per torrent.

Invariants: libtorrent wakes the loop through a file descriptor and never calls Python; only :meth:`TorrentSession.run`
pops alerts; nothing is announced or discovered here (our own DHT node does that). Does not verify packages.
Specification: docs/specification/swarm.md.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from libreseed import limits
from libreseed.adapters.command.listening import listen_addresses, settle_ports
from libreseed.adapters.torrent.events import Address
from libreseed.adapters.torrent.nodelay import set_nodelay
from libreseed.adapters.torrent.settings import SessionOptions, session_settings
from libreseed.adapters.torrent.status import SessionTotals, read_totals
from libreseed.adapters.torrent.torrent import Torrent, file_names
from libreseed.adapters.torrent.udp_ports import give_back
from libreseed.dht.addresses import family_of
from libreseed.errors import ContentRejected, LocalFault, NotFound
from libreseed.ids import ReleaseId, TorrentV2Hash
from libreseed.torrent.bitfield import unpack_bitfield

__all__ = ["TorrentSession"]

_INCONSISTENT_HASHES = 217  # libtorrent's torrent_inconsistent_hashes, which the binding does not name
_ABANDONED: list[object] = []  # sessions that would not end, and their descriptors: they stay until the process ends
_CLOSE_S = 5.0  # how long libtorrent may take to write what it holds and to let go of its files


class TorrentSession:
    """``await nursery.start(session.run)``, then :meth:`seed` and :meth:`fetch`; cancel the nursery to stop."""

    def __init__(self, options: SessionOptions | None = None) -> None:
        self.options = options or SessionOptions()
        self._session: Any = None
        self._torrents: dict[Any, Torrent] = {}
        self._leaving: dict[Any, trio.Event] = {}  # handles whose torrents are being taken out
        self._ports: dict[str, int] = {}
        self._udp: set[Address] = set()
        self._closing = False
        self._nursery: trio.Nursery | None = None
        self._listen_error = ""
        self._totals: list[tuple[trio.Event, list[SessionTotals]]] = []

    # --- life ------------------------------------------------------------------------------------------------------
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started once every listen address is bound; raises ``config.port`` if one is not."""
        self.options = replace(self.options, listen=settle_ports(await listen_addresses(self.options.listen)))
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)  # a blocking one would hang libtorrent's thread once it is full
        self._session = _make_session(self.options)
        self._session.set_alert_fd(writer.fileno())
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._pump, reader)
                await self._demand_listening()
                if not self.options.udp:
                    give_back(self._udp)
                set_nodelay()
                task_status.started()
                await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                if await self._close(reader):
                    reader.close()
                    writer.close()
                else:
                    _ABANDONED.append((reader, writer))

    @property
    def port(self) -> int:
        """The TCP port of the first listen address."""
        return self.addresses[0][1]

    @property
    def ports(self) -> dict[int, int]:
        """IP family (4, 6) -> the TCP port of its first listen address."""
        return {family_of(host): port for host, port in reversed(self.addresses)}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every listen address with the port that is bound."""
        return tuple((host, self._ports[host]) for host, _ in self.options.listen)

    async def totals(self) -> SessionTotals:
        """Payload in and out of all torrents since the session began."""
        done, box = trio.Event(), list[SessionTotals]()
        self._live().post_session_stats()
        self._totals.append((done, box))
        await done.wait()
        self._live()
        return box[0]

    def set_limits(self, *, upload: int = 0, download: int = 0) -> None:
        """Rate limits of the whole session in bytes per second, 0 meaning none."""
        self._live().apply_settings({"upload_rate_limit": upload, "download_rate_limit": download})

    def ban(self, host: str) -> None:
        """Drop every connection to the IP address ``host`` and take none from it until the session ends."""
        rules = self._live().get_ip_filter()
        rules.add_rule(host, host, 1)
        self._session.set_ip_filter(rules)

    # --- torrents ----------------------------------------------------------------------------------------------------
    def seed(self, metainfo: bytes, folder: Path, have: bytes | None = None) -> Torrent:
        """Offer the release whose files lie directly in ``folder``; no file is hashed.

        ``have`` is the BEP 3 bitfield of the pieces that the caller has verified; ``None`` means all of them, and then
        a missing file is ``notfound.file`` and one of another size ``torrent.files``.
        """
        params = _load(metainfo)
        count = params.ti.num_pieces()
        name = str(params.ti.name())
        if have is None:
            _check_sizes(params.ti, name, folder)
        flags = [True] * count if have is None else unpack_bitfield(have, count)
        torrent = Torrent(TorrentV2Hash(params.info_hashes.v2.to_bytes()), name, folder, self._readd)
        torrent._metainfo = metainfo
        torrent._priorities = [4] * count
        self._add(torrent, params, flags)
        return torrent

    def fetch(
        self,
        v2: TorrentV2Hash,
        release: ReleaseId,
        folder: Path,
        *,
        metainfo: bytes | None = None,
        have: bytes | None = None,
        peers: Iterable[Address] = (),
    ) -> Torrent:
        """Join the swarm of ``v2`` with its files directly in ``folder``; nothing is fetched before ``want``.

        ``metainfo`` may lack the piece layers; without it the info dictionary comes from the peers. ``have`` is the
        bitfield of the pieces in ``folder`` that the caller has verified (with ``metainfo`` only). Peers named here are
        connected at once.
        """
        import libtorrent as lt

        torrent = Torrent(v2, str(release), folder, self._readd)
        flags: list[bool] | None = None
        if metainfo is None:
            if not any(v2.raw):  # libtorrent's sign for "no hash"; only a publisher's own signature can lead here
                raise ContentRejected("torrent.info-hash", "a torrent whose info-hash is zero cannot exist")
            params: Any = lt.add_torrent_params()
            params.info_hashes = lt.info_hash_t(lt.sha256_hash(v2.raw))
        else:
            params = _load(metainfo)
            if params.info_hashes.v2.to_bytes() != v2.raw:
                raise ContentRejected("torrent.info-hash", "the torrent is not the one that was asked for")
            count = params.ti.num_pieces()
            flags = unpack_bitfield(have, count) if have is not None else [False] * count
            torrent._metainfo = metainfo
        self._add(torrent, params, flags, peers)
        return torrent

    async def remove(self, torrent: Torrent) -> None:
        """Take a torrent out; returns when libtorrent has written everything and let go of its files."""
        if not torrent._removed.is_set():
            torrent._on_removed()
            async with torrent._use:
                await self._take_out(torrent)

    async def _take_out(self, torrent: Torrent) -> None:
        """Returns once libtorrent has let go of it; the caller holds ``torrent._use``."""
        handle = torrent._detach()
        if handle is not None:
            self._torrents.pop(handle, None)
            torrent._gone = self._leaving[handle] = trio.Event()
            self._session.remove_torrent(handle)
        if torrent._gone is not None:
            await torrent._gone.wait()

    async def _readd(self, torrent: Torrent, have: list[bool] | None, peers: Iterable[Address]) -> None:
        again = set(peers)
        params = _load(await torrent.metainfo())
        async with torrent._use:
            torrent._check_alive()
            pieces = torrent._have if have is None else have
            await self._take_out(torrent)
            torrent._check_alive()
            self._add(torrent, params, pieces, again)

    def _add(self, torrent: Torrent, params: Any, have: list[bool] | None, peers: Iterable[Address] = ()) -> None:
        import libtorrent as lt

        kinds = lt.torrent_flags
        params.save_path = str(torrent.folder)
        params.flags = kinds.no_verify_files | kinds.duplicate_is_error | kinds.apply_ip_filter
        params.peers = list(peers)
        if have is not None:
            params.have_pieces = have
            params.renamed_files = file_names(params.ti, torrent.name)
        if torrent._priorities is None:
            params.flags |= kinds.upload_mode  # nothing is fetched yet
        else:
            params.piece_priorities = torrent._priorities
        if self._closing:
            raise trio.ClosedResourceError("the torrent session is closing")
        try:
            handle = self._live().add_torrent(params)
        except RuntimeError as error:
            raise LocalFault("storage.duplicate-torrent", f"{torrent.name}: {error}") from error

        torrent._attach(handle, have)
        self._torrents[handle] = torrent

    # --- alerts ------------------------------------------------------------------------------------------------------
    async def _pump(self, reader: socket.socket) -> None:
        while True:
            self._handle_alerts()
            await trio.lowlevel.wait_readable(reader)
            _drain(reader)

    def _handle_alerts(self) -> None:
        touched: set[Torrent] = set()
        dialled = False
        for alert in self._session.pop_alerts():
            kind = type(alert).__name__
            if kind == "torrent_error_alert":
                self._on_torrent_error(alert)
            elif kind in _TORRENT_ALERTS:
                torrent = self._torrents.get(alert.handle)
                if torrent is not None:
                    _TORRENT_ALERTS[kind](torrent, alert)
                    touched.add(torrent)
                    dialled |= kind == "peer_connect_alert"
            elif kind in _SESSION_ALERTS:
                _SESSION_ALERTS[kind](self, alert)
        for torrent in touched:
            torrent._flush()
        if dialled:
            set_nodelay()

    def _on_torrent_error(self, alert: Any) -> None:
        torrent = self._torrents.get(alert.handle)
        if torrent is None:
            return
        content_fault = _is_content_fault(alert.error)
        if content_fault and self._nursery is not None and torrent._on_contradiction():
            self._nursery.start_soon(self._try_again, torrent, set(torrent._met))
        else:
            torrent._on_error(alert.message(), content_fault)

    async def _try_again(self, torrent: Torrent, peers: set[Address]) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # removed meanwhile
            await self._readd(torrent, None, peers)

    def _live(self) -> Any:
        if self._session is None:
            raise trio.ClosedResourceError("the torrent session is not running")
        return self._session

    async def _demand_listening(self) -> None:
        """libtorrent says nothing of an address that no device has; its statistics come after all that it says."""
        await self.totals()
        for host, port in self.options.listen:
            if host not in self._ports:
                reason = self._listen_error or "the address is not this machine's"
                raise LocalFault("config.port", f"cannot listen on {host} port {port}: {reason}")

    def _on_listening(self, alert: Any) -> None:
        host, port = str(alert.address), int(alert.port)
        if str(alert.socket_type) == "tcp":
            self._ports.setdefault(host, port)
            # libtorrent binds "any address" as one socket for each address of the machine.
            self._ports.setdefault("::" if ":" in host else "0.0.0.0", port)  # noqa: S104
        elif str(alert.socket_type) == "udp":
            self._udp.add((host, port))

    def _on_listen_failed(self, alert: Any) -> None:
        self._listen_error = f"{alert.error.message()} ({alert.socket_type})"

    def _on_removed(self, alert: Any) -> None:
        gone = self._leaving.pop(alert.handle, None)
        if gone is not None:
            gone.set()

    def _on_totals(self, alert: Any) -> None:
        waiting, self._totals = self._totals, []
        for done, box in waiting:
            box.append(read_totals(alert.values))
            done.set()

    async def _close(self, reader: socket.socket) -> bool:
        """Whether libtorrent is gone; if not, what it uses has to stay, and it is never touched again.

        Destroying a session blocks the whole process, with the interpreter lock held, until libtorrent's thread is
        through. So that thread must need nothing of Python (``set_alert_notify`` would be a deadlock), and it is
        destroyed only after it has let go of all torrents and ports and answered, which is bounded.
        """
        self._closing = True
        with trio.move_on_after(_CLOSE_S) as bound:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, reader)
                async with trio.open_nursery() as leaving:
                    for torrent in list(self._torrents.values()):
                        leaving.start_soon(self.remove, torrent)
                for gone in list(self._leaving.values()):
                    await gone.wait()
                self._session.apply_settings({"listen_interfaces": ""})
                await self.totals()
                nursery.cancel_scope.cancel()
        if not bound.cancelled_caught:
            self._session.set_alert_fd(-1)  # unhooks the descriptor before it is closed and reused
        else:
            _ABANDONED.append(self._session)
        self._session = None
        for gone in [*self._leaving.values(), *(done for done, _ in self._totals)]:
            gone.set()
        return not bound.cancelled_caught


def _make_session(options: SessionOptions) -> Any:
    import libtorrent as lt

    params: Any = lt.session_params()
    params.settings = {**session_settings(options), "alert_mask": _alert_mask(lt)}
    params.disk_io_constructor = "pread_disk_io_constructor"
    return lt.session(params)


def _load(metainfo: bytes) -> Any:
    import libtorrent as lt

    if len(metainfo) > limits.METAINFO_BYTES:
        raise ContentRejected("torrent.too-large", f"a .torrent of {len(metainfo)} bytes")
    try:
        return lt.load_torrent_buffer(metainfo)
    except RuntimeError as error:
        raise ContentRejected("torrent.members", f"not a torrent: {error}") from error


def _check_sizes(info: Any, name: str, folder: Path) -> None:
    sizes = info.layout()
    for index, file_name in file_names(info, name).items():
        path = folder / file_name
        if not path.is_file():
            raise NotFound("notfound.file", f"{path} is missing")
        if path.stat().st_size != sizes.file_size(index):
            raise ContentRejected("torrent.files", f"{path} has another size than its torrent says")


def _drain(reader: socket.socket) -> None:
    """Empty the descriptor before alerts are popped again, else a wake-up could be missed."""
    try:
        while reader.recv(4096):
            pass
    except BlockingIOError:
        return


def _is_content_fault(error: Any) -> bool:
    return str(error.category().name()) == "libtorrent" and error.value() == _INCONSISTENT_HASHES


def _alert_mask(lt: Any) -> int:
    """Without the storage category, a ``cache_flushed_alert`` answers our own flush and nothing else."""
    kind = lt.alert.category_t
    wanted = (
        kind.error_notification,
        kind.status_notification,
        kind.connect_notification,
        kind.peer_notification,
        kind.piece_progress_notification,
    )
    return sum({int(category) for category in wanted})


_TORRENT_ALERTS: dict[str, Callable[[Torrent, Any], None]] = {
    "metadata_received_alert": lambda torrent, _: torrent._on_metadata(),
    "piece_finished_alert": lambda torrent, alert: torrent._on_piece_passed(alert.piece_index),
    "cache_flushed_alert": lambda torrent, _: torrent._on_flushed(),
    "hash_failed_alert": lambda torrent, alert: torrent._on_piece_failed(alert.piece_index),
    "torrent_checked_alert": lambda torrent, _: torrent._on_checked(),
    "peer_connect_alert": lambda torrent, alert: torrent._on_link(alert.endpoint, True),
    "peer_disconnected_alert": lambda torrent, alert: torrent._on_link(alert.endpoint, False),
    "peer_ban_alert": lambda torrent, alert: torrent._on_peer_banned(alert.endpoint),
    "file_error_alert": lambda torrent, alert: torrent._on_error(alert.message(), False),
}

_SESSION_ALERTS: dict[str, Callable[[TorrentSession, Any], None]] = {
    "listen_succeeded_alert": TorrentSession._on_listening,
    "listen_failed_alert": TorrentSession._on_listen_failed,
    "torrent_removed_alert": TorrentSession._on_removed,
    "session_stats_alert": TorrentSession._on_totals,
}
