"""One torrent of a session: what it has, who gives it, what is wanted, and repaired pieces back to the swarm.

Invariants: nothing is downloaded before :meth:`Torrent.want`; every piece reported as done passed libtorrent's hash
check against the metadata, which hashes to the info-hash that was asked for. Does not know what the files mean
(:mod:`libreseed.torrent.layout`), and never decides which peer or piece is worth its time: the resolver does.
Specification: docs/specification/swarm.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from libreseed.adapters.torrent.events import (
    Address,
    EventChannel,
    MetadataReceived,
    PeerBanned,
    PeerCount,
    PieceDone,
    PieceFailed,
    TorrentError,
)
from libreseed.ids import TorrentV2Hash
from libreseed.torrent.bitfield import pack_bitfield

__all__ = ["PeerStatus", "Torrent", "TorrentStatus"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One connected peer. Rates are payload bytes per second; ``have`` is its BEP 3 bitfield (empty: not said yet)."""

    address: Address
    client: str
    have: bytes
    down_rate: int
    up_rate: int
    downloaded: int
    uploaded: int
    requests: int
    hash_failures: int
    choking_us: bool
    snubbed: bool
    outgoing: bool


@dataclass(frozen=True, slots=True)
class TorrentStatus:
    """A snapshot. Rates are payload bytes per second, totals payload bytes since the torrent was added.

    ``have`` is a BEP 3 bitfield; ``availability[i]`` counts the connected peers that have piece ``i``. Both are empty
    until the metadata is known.
    """

    state: str
    pieces: int
    have: bytes
    availability: tuple[int, ...]
    peers: tuple[PeerStatus, ...]
    down_rate: int
    up_rate: int
    downloaded: int
    uploaded: int
    failed: int
    redundant: int
    error: str


class Torrent:
    """Made by :meth:`TorrentSession.seed` and :meth:`TorrentSession.fetch`; owned by that session's task."""

    def __init__(self, handle: Any, v2: TorrentV2Hash, folder: Path) -> None:
        self.v2 = v2
        self.folder = folder
        self.events = EventChannel()
        self._handle = handle
        self._metadata = trio.Event()
        self._removed = trio.Event()
        self._connected: set[Address] = set()

    # --- metadata ------------------------------------------------------------------------------------------------
    async def metainfo(self) -> bytes:
        """The .torrent file's bytes, as soon as the metadata is known; piece layers are left out while incomplete.

        Raises ``trio.ClosedResourceError`` when the torrent is removed first.
        """
        await self._metadata.wait()
        self._check_alive()
        return _metainfo_bytes(self._handle)

    # --- download --------------------------------------------------------------------------------------------------
    async def want(self, priorities: Sequence[int]) -> None:
        """Set every piece's priority (0 = do not fetch, 1..7) and let the download run; needs the metadata."""
        import libtorrent as lt

        await self._metadata.wait()
        self._check_alive()
        self._handle.prioritize_pieces(list(priorities))
        self._handle.unset_flags(lt.torrent_flags.upload_mode)

    def connect(self, peers: Iterable[Address]) -> None:
        """Connect to these peers (numeric addresses) without waiting for a tick."""
        self._check_alive()
        for peer in peers:
            self._handle.connect_peer(peer)

    def give(self, index: int, data: bytes) -> None:
        """Hand in a whole piece from elsewhere (repair, a mirror); PieceDone or PieceFailed follows."""
        import libtorrent as lt

        self._check_alive()
        self._handle.add_piece(index, data, lt.add_piece_flags_t.overwrite_existing)

    async def status(self) -> TorrentStatus:
        """A snapshot of this torrent; never blocks the event loop."""
        self._check_alive()
        try:
            # Three round trips to libtorrent's thread; the binding lets the GIL go while it waits.
            return await trio.to_thread.run_sync(_snapshot, self._handle)
        except RuntimeError as error:  # "invalid torrent handle used"
            raise trio.ClosedResourceError("the torrent was removed from its session") from error

    # --- called by the session's alert task --------------------------------------------------------------------------
    def _check_alive(self) -> None:
        if self._removed.is_set():
            raise trio.ClosedResourceError("the torrent was removed from its session")

    def _on_metadata(self) -> None:
        if not self._metadata.is_set():
            self._metadata.set()
            self.events.put(MetadataReceived())

    def _on_piece(self, index: int) -> None:
        self.events.put(PieceDone(index))

    def _on_piece_failed(self, index: int) -> None:
        self.events.put(PieceFailed(index))

    def _on_peer(self, address: Address, connected: bool) -> None:
        if connected:
            self._connected.add(address)
        else:
            self._connected.discard(address)
        self.events.put(PeerCount(len(self._connected)))

    def _on_peer_banned(self, address: Address) -> None:
        self.events.put(PeerBanned(address))

    def _on_error(self, message: str, path: str = "") -> None:
        self.events.put(TorrentError(message, path))

    def _on_removed(self) -> None:
        self._removed.set()
        self._metadata.set()
        self.events.end()


def _snapshot(handle: Any) -> TorrentStatus:
    status, peers = handle.status(), handle.get_peer_info()
    have = list(status.pieces)
    return TorrentStatus(
        state=str(status.state),
        pieces=len(have),
        have=pack_bitfield(have),
        availability=tuple(handle.piece_availability()),
        peers=tuple(_peer_status(peer) for peer in peers),
        down_rate=status.download_payload_rate,
        up_rate=status.upload_payload_rate,
        downloaded=status.total_payload_download,
        uploaded=status.total_payload_upload,
        failed=status.total_failed_bytes,
        redundant=status.total_redundant_bytes,
        error=status.errc.message() if status.errc.value() else "",
    )


def _peer_status(peer: Any) -> PeerStatus:
    flags = int(peer.flags)
    return PeerStatus(
        address=(str(peer.ip[0]), int(peer.ip[1])),
        client=bytes(peer.client).decode("utf-8", "replace"),
        have=pack_bitfield(peer.pieces),
        down_rate=peer.payload_down_speed,
        up_rate=peer.payload_up_speed,
        downloaded=peer.total_download,
        uploaded=peer.total_upload,
        requests=peer.download_queue_length,
        hash_failures=peer.num_hashfails,
        choking_us=bool(flags & peer.remote_choked),
        snubbed=bool(flags & peer.snubbed),
        outgoing=bool(flags & peer.outgoing_connection),
    )


def _metainfo_bytes(handle: Any) -> bytes:
    info = bytes(handle.torrent_file().info_section())
    return b"d4:info" + info + b"e"
