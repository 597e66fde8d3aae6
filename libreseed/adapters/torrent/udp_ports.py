"""Gives the UDP ports back that libtorrent binds, so that one number can serve the swarm (TCP) and the DHT (UDP).

libtorrent 2.1 binds TCP and UDP of one number or neither, whatever its settings; it needs UDP for uTP only. So it may
bind both, and then each of its UDP sockets is replaced, under the same descriptor, by one that is bound to nothing.

Invariant: only sockets bound to exactly an address and port that libtorrent has reported as its own are touched, and
nobody else in this process can hold those. On systems without ``/proc/self/fd`` it does nothing, and whoever wants the
port learns that it is in use. Specification: docs/specification/swarm.md, "Settings".
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from pathlib import Path

from libreseed.adapters.torrent.events import Address

__all__ = ["give_back"]

_DESCRIPTORS = Path("/proc/self/fd")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def give_back(bound: Collection[Address]) -> int:
    """Free the UDP addresses ``bound``; returns how many sockets were replaced. Call it before binding them anew."""
    if not bound or not _DESCRIPTORS.is_dir():
        return 0
    plain = {(host.partition("%")[0], port) for host, port in bound}  # a socket names no zone
    return sum(_replace(int(name), plain) for name in os.listdir(_DESCRIPTORS))  # noqa: PTH208 - names are all needed


def _replace(descriptor: int, bound: Collection[Address]) -> bool:
    try:
        borrowed = socket.socket(fileno=descriptor)
    except OSError:  # no socket, or closed meanwhile
        return False
    try:
        if borrowed.family not in _FAMILIES or borrowed.type != socket.SOCK_DGRAM:
            return False
        if borrowed.getsockname()[:2] not in bound:
            return False
        with socket.socket(borrowed.family, socket.SOCK_DGRAM) as unbound:
            os.dup2(unbound.fileno(), descriptor, inheritable=False)
    except OSError:  # closed meanwhile
        return False
    else:
        return True
    finally:
        borrowed.detach()
