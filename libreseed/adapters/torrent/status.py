"""Snapshots of a torrent, its peers and the whole session, as frozen values. Reads libtorrent, changes nothing.

Specification: docs/specification/swarm.md, "Status".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libreseed.adapters.torrent.events import Address
from libreseed.torrent.bitfield import pack_bitfield

__all__ = ["PeerStatus", "SessionTotals", "TorrentStatus", "read_status", "read_totals"]


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

    ``have`` is a BEP 3 bitfield of what libtorrent has; ``availability[i]`` counts the connected peers that have piece
    ``i``. Both are empty until the metadata is known. ``failed`` are bytes of pieces that failed their hash,
    ``redundant`` bytes that arrived twice.
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


@dataclass(frozen=True, slots=True)
class SessionTotals:
    """Since the session began: payload bytes in and out, and what is open now."""

    downloaded: int
    uploaded: int
    peers: int


def read_status(handle: Any) -> TorrentStatus:
    """Three round trips to libtorrent's thread, which lets the GIL go meanwhile: call it in a thread."""
    status, peers = handle.status(), handle.get_peer_info()
    have = list(status.pieces)
    return TorrentStatus(
        state=str(status.state),
        pieces=len(have),
        have=pack_bitfield(have),
        availability=tuple(handle.piece_availability()),
        peers=tuple(_peer_status(peer) for peer in peers if not int(peer.flags) & (peer.connecting | peer.handshake)),
        down_rate=status.download_payload_rate,
        up_rate=status.upload_payload_rate,
        downloaded=status.total_payload_download,
        uploaded=status.total_payload_upload,
        failed=status.total_failed_bytes,
        redundant=status.total_redundant_bytes,
        error=status.errc.message() if status.errc.value() else "",
    )


def read_totals(values: Mapping[str, int]) -> SessionTotals:
    """The totals in the counters of a ``session_stats_alert``."""
    return SessionTotals(
        downloaded=values["net.recv_payload_bytes"],
        uploaded=values["net.sent_payload_bytes"],
        peers=values["peer.num_peers_connected"],
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
