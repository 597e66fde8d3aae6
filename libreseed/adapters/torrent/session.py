"""A libtorrent session as a trio service: one task pops alerts and turns them into frozen events per torrent.

Invariants: libtorrent wakes the loop through a file descriptor and never calls Python; only :meth:`TorrentSession.run`
pops alerts; nothing is announced or discovered here (our own DHT node does that). Does not verify packages.
Specification: docs/specification/swarm.md.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import trio

from libreseed.adapters.torrent.events import Address
from libreseed.adapters.torrent.settings import SessionOptions, session_settings
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.errors import LocalFault
from libreseed.ids import ReleaseId, TorrentV2Hash
from libreseed.torrent.bitfield import unpack_bitfield

__all__ = ["TorrentSession"]

_SUFFIXES = (".chunks", ".parity", ".tgz")  # the torrent's files in its order; a pad file follows each (DESIGN 3.7)


class TorrentSession:
    """``await nursery.start(session.run)``, then :meth:`seed` and :meth:`fetch`; cancel the nursery to stop."""

    def __init__(self, options: SessionOptions | None = None) -> None:
        self.options = options or SessionOptions()
        self._session: Any = None
        self._torrents: dict[Any, Torrent] = {}
        self._listening: dict[Address, int] = {}
        self._listen_error = ""
        self._listen_changed = trio.Event()

    # --- life ------------------------------------------------------------------------------------------------------
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started once every listen address is bound; raises ``config.port`` if one is not."""
        import libtorrent as lt

        pack: Any = {**session_settings(self.options), "alert_mask": _alert_mask(lt)}
        self._session = lt.session(pack)
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)  # a blocking one would hang libtorrent's thread once it is full
        self._session.set_alert_fd(writer.fileno())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, reader)
                await self._wait_listening()
                task_status.started()
        finally:
            with trio.CancelScope(shield=True):
                await self._close()
            reader.close()
            writer.close()

    @property
    def port(self) -> int:
        """The TCP port of the first listen address."""
        return self.addresses[0][1]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every bound address with its true port."""
        return tuple((host, port) for (host, _), port in self._listening.items())

    async def _wait_listening(self) -> None:
        while len(self._listening) < len(self.options.listen):
            if self._listen_error:
                raise LocalFault("config.port", self._listen_error)
            await self._listen_changed.wait()
            self._listen_changed = trio.Event()

    async def _close(self) -> None:
        self._session.set_alert_notify(lambda: None)  # unhook the descriptor before it is closed and reused
        for torrent in self._torrents.values():
            torrent._on_removed()
        self._torrents.clear()
        self._session = None

    # --- torrents ----------------------------------------------------------------------------------------------------
    def seed(self, metainfo: bytes, folder: Path, have: bytes | None = None) -> Torrent:
        """Offer the release whose files lie in ``folder``; no file is hashed.

        ``have`` is the BEP 3 bitfield of the pieces that the caller has verified; ``None`` means all of them.
        """
        import libtorrent as lt

        params: Any = lt.load_torrent_buffer(metainfo)
        count = params.ti.num_pieces()
        params.have_pieces = unpack_bitfield(have, count) if have is not None else [True] * count
        return self._add(params, TorrentV2Hash(params.info_hashes.v2.to_bytes()), str(params.ti.name()), folder)

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
        """Join the swarm of ``v2`` with its files in ``folder``; nothing is fetched before :meth:`Torrent.want`."""
        import libtorrent as lt

        params: Any
        if metainfo is None:
            params = lt.add_torrent_params()
            params.info_hashes = lt.info_hash_t(lt.sha256_hash(v2.raw))
        else:
            params = lt.load_torrent_buffer(metainfo)
            if have is not None:
                params.have_pieces = unpack_bitfield(have, params.ti.num_pieces())
        params.peers = list(peers)
        return self._add(params, v2, str(release), folder, lt.torrent_flags.upload_mode)

    async def remove(self, torrent: Torrent) -> None:
        """Take a torrent out; returns when libtorrent has let go of its files."""
        if not torrent._removed.is_set():
            self._session.remove_torrent(torrent._handle)
            await torrent._removed.wait()

    def _add(self, params: Any, v2: TorrentV2Hash, name: str, folder: Path, flags: Any = None) -> Torrent:
        import libtorrent as lt

        params.save_path = str(folder)
        params.renamed_files = {2 * index: name + suffix for index, suffix in enumerate(_SUFFIXES)}
        wanted = (
            lt.torrent_flags.update_subscribe | lt.torrent_flags.no_verify_files | lt.torrent_flags.duplicate_is_error
        )
        params.flags = wanted | flags if flags is not None else wanted
        handle = self._session.add_torrent(params)
        torrent = Torrent(handle, v2, folder)
        if params.ti is not None:
            torrent._on_metadata()
        self._torrents[handle] = torrent
        return torrent

    # --- alerts ------------------------------------------------------------------------------------------------------
    async def _pump(self, reader: socket.socket) -> None:
        while True:
            for alert in self._session.pop_alerts():
                handler = _HANDLERS.get(type(alert).__name__)
                if handler is not None:
                    handler(self, alert)
            await trio.lowlevel.wait_readable(reader)
            _drain(reader)

    def _torrent_of(self, alert: Any) -> Torrent | None:
        return self._torrents.get(alert.handle)

    def _on_listening(self, alert: Any) -> None:
        if "tcp" in str(alert.socket_type).lower():
            wanted = next((pair for pair in self.options.listen if pair[0] == alert.address), None)
            if wanted is not None:
                self._listening[wanted] = alert.port
                self._listen_changed.set()

    def _on_listen_failed(self, alert: Any) -> None:
        self._listen_error = alert.message()
        self._listen_changed.set()

    def _on_torrent_alert(self, alert: Any) -> None:
        torrent = self._torrent_of(alert)
        if torrent is not None:
            _TORRENT_HANDLERS[type(alert).__name__](torrent, alert)

    def _on_removed(self, alert: Any) -> None:
        torrent = self._torrents.pop(alert.handle, None)
        if torrent is not None:
            torrent._on_removed()


def _drain(reader: socket.socket) -> None:
    """Empty the descriptor before alerts are popped again, else a wake-up could be missed."""
    try:
        while reader.recv(4096):
            pass
    except BlockingIOError:
        return


def _alert_mask(lt: Any) -> int:
    kind = lt.alert.category_t
    wanted = (
        kind.error_notification,
        kind.status_notification,
        kind.storage_notification,
        kind.peer_notification,
        kind.connect_notification,
        kind.piece_progress_notification,
        kind.ip_block_notification,
        kind.performance_warning,
    )
    return sum({int(category) for category in wanted})


_TORRENT_HANDLERS: dict[str, Callable[[Torrent, Any], None]] = {
    "metadata_received_alert": lambda torrent, alert: torrent._on_metadata(),
    "piece_finished_alert": lambda torrent, alert: torrent._on_piece(alert.piece_index),
    "hash_failed_alert": lambda torrent, alert: torrent._on_piece_failed(alert.piece_index),
    "peer_connect_alert": lambda torrent, alert: torrent._on_peer(alert.endpoint, True),
    "peer_disconnected_alert": lambda torrent, alert: torrent._on_peer(alert.endpoint, False),
    "peer_ban_alert": lambda torrent, alert: torrent._on_peer_banned(alert.endpoint),
    "file_error_alert": lambda torrent, alert: torrent._on_error(alert.message()),
    "torrent_error_alert": lambda torrent, alert: torrent._on_error(alert.message()),
}

_HANDLERS: dict[str, Callable[[TorrentSession, Any], None]] = {
    **dict.fromkeys(_TORRENT_HANDLERS, TorrentSession._on_torrent_alert),
    "listen_succeeded_alert": TorrentSession._on_listening,
    "listen_failed_alert": TorrentSession._on_listen_failed,
    "torrent_removed_alert": TorrentSession._on_removed,
}
