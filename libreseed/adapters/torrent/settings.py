"""The settings of a libtorrent session, each with its reason. Figures: docs/specification/swarm.md, "Settings".

Does not start anything; :mod:`libreseed.adapters.torrent.session` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from libreseed import limits

if TYPE_CHECKING:
    from libreseed.adapters.torrent.events import Address

__all__ = ["SessionOptions", "SettingValue", "session_settings"]

SettingValue = bool | int | str

_KIB, _MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session listens and how much it may use. Rates are bytes per second, 0 meaning no limit.

    ``listen`` are the addresses to bind, or names of them (port 0: the system chooses). ``utp`` dials peers over uTP
    too: slow, but the only way between two hosts that are both behind a NAT. Without ``udp`` only TCP ports are kept:
    no uTP either way, and the UDP ports of the same numbers are free for others once the session runs.
    """

    listen: tuple[Address, ...] = (("127.0.0.1", 0),)
    utp: bool = False
    udp: bool = True
    upload_limit: int = 0
    download_limit: int = 0
    connections: int = 500
    overrides: Mapping[str, SettingValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.listen or not all(0 <= port <= 65535 for _, port in self.listen):
            raise ValueError("a session listens on at least one address, with a port of 0 to 65535")
        if min(self.upload_limit, self.download_limit, self.connections - 1) < 0:
            raise ValueError("a rate limit is not negative, and a session has connections")


def session_settings(options: SessionOptions) -> dict[str, SettingValue]:
    """The whole settings pack for ``options``."""
    return {
        "user_agent": "LibreSeed",
        "listen_interfaces": ",".join(_interface(host, port) for host, port in options.listen),
        "outgoing_interfaces": _outgoing(options.listen),
        # A second choice of port would be announced nowhere: an occupied port is an error, never a surprise.
        "listen_system_port_fallback": False,
        "max_retry_port_bind": 0,
        # Rendezvous is our own DHT node and --peer; everything else would leak who installs what.
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_ip_notifier": False,
        # Ordinary clients try uTP first and lose 3 s if nobody answers; ourselves, we dial TCP: 160 MB/s against 16.
        "enable_incoming_utp": options.udp,
        "enable_outgoing_utp": options.utp and options.udp,
        "upload_rate_limit": options.upload_limit,
        "download_rate_limit": options.download_limit,
        "ignore_limits_on_local_network": False,
        "connections_limit": options.connections,
        **_LATENCY,
        **_THROUGHPUT,
        **_SILENT_PEERS,
        **_MANY_TORRENTS,
        **_BOUNDS,
        **options.overrides,
    }


def _outgoing(listen: tuple[Address, ...]) -> str:
    """The one concrete address to dial from, so that peers see where this session listens; else the system chooses.

    libtorrent takes several in turn, whatever the family of the peer, and then every other dial fails.
    """
    hosts = {host for host, _ in listen}
    return "" if len(hosts) > 1 or ip_address(next(iter(hosts))).is_unspecified else next(iter(hosts))


def _interface(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_LATENCY: dict[str, SettingValue] = {
    "tick_interval": 100,  # ms; some decisions wait for a tick, 500 by default
    "connection_speed": 200,  # connection attempts per second
    "torrent_connect_boost": 50,  # attempts right after a torrent is added, not waiting for a tick
    "smooth_connects": False,
    "min_reconnect_time": 1,  # seconds, times the failures so far
    "peer_connect_timeout": 7,  # seconds
    "handshake_timeout": 7,
    "allow_multiple_connections_per_ip": True,  # several peers behind one NAT, or on loopback
    # Until want() nobody is interested in anybody, and libtorrent would close such connections as useless.
    "close_redundant_connections": False,
    "strict_end_game_mode": False,  # ask a second peer for the last blocks at once
    "unchoke_slots_limit": 64,
    "in_enc_policy": 1,
    "out_enc_policy": 2,  # plain TCP at once; contents are public and verified
    "prioritize_partial_pieces": True,
    "mixed_mode_algorithm": 0,  # uTP never slows TCP down
}

_THROUGHPUT: dict[str, SettingValue] = {
    "max_out_request_queue": 1000,  # 16 MiB under way from one peer: 160 MB/s at a round trip of 100 ms
    "max_allowed_in_request_queue": 4000,
    "request_queue_time": 3,
    "whole_pieces_threshold": 5,
    "send_buffer_watermark": 4 * _MIB,
    "send_buffer_low_watermark": 512 * _KIB,
    "send_buffer_watermark_factor": 150,
    "aio_threads": 4,
    "hashing_threads": 3,  # pieces that wait for their hash are held in memory
    "max_queued_disk_bytes": 8 * _MIB,  # larger ones are no faster, and memory follows them
}

_SILENT_PEERS: dict[str, SettingValue] = {
    "request_timeout": 10,  # seconds; then a peer counts as snubbed and others are asked for its blocks
    "piece_timeout": 5,
    "peer_timeout": 120,  # other clients send a sign of life every two minutes
}

_MANY_TORRENTS: dict[str, SettingValue] = {
    "active_downloads": -1,
    "active_seeds": -1,
    "active_limit": -1,
    "active_checking": 2,
    "alert_queue_size": 200_000,
}

_BOUNDS: dict[str, SettingValue] = {
    "max_metadata_size": limits.TORRENT_INFO_BYTES,
    "max_peerlist_size": 1000,
    "file_pool_size": 64,
}
