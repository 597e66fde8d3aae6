"""How a command tells the server that runs on the same database that there is work: one datagram, content irrelevant.

The socket lies beside the database, ``<database>.wake``, mode 0600. A datagram that finds nobody is no fault: a server
looks at the database when it starts, and from time to time.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import trio

from libreseed.adapters.command.control import reachable_address

__all__ = ["WakeBell", "wake_server"]

_KIND = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


def wake_server(database: Path) -> bool:
    """Wake the server of ``database``; whether one was there."""
    with socket.socket(socket.AF_UNIX, _KIND) as channel, reachable_address(_place(database)) as address:
        try:
            channel.sendto(b"1", address)
        except OSError as error:
            return error.errno == errno.EAGAIN  # many have rung already
    return True


class WakeBell:
    """The server's end; one per database, that of the server which started last."""

    def __init__(self, database: Path) -> None:
        self._place = _place(database)
        self._socket = socket.socket(socket.AF_UNIX, _KIND)
        with reachable_address(self._place) as address:
            self._place.unlink(missing_ok=True)  # of a server that was killed
            self._socket.bind(address)
        self._place.chmod(0o600)

    async def rung(self) -> None:
        """Wait until somebody rings; all rings so far are one."""
        await trio.lowlevel.wait_readable(self._socket)
        while True:
            try:
                self._socket.recv(16)
            except BlockingIOError:
                return

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._place.unlink(missing_ok=True)


def _place(database: Path) -> Path:
    return Path(f"{database}.wake")
