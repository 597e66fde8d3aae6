"""How a command tells the servers that run on the same database that there is work: a datagram, content irrelevant.

The sockets lie beside the database, mode 0600: ``<database>.wake``, and ``<database>.1.wake`` and so on for servers
beside the first. None takes the place of one that lives. A datagram that finds nobody is no fault: a server looks at
the database when it starts, and from time to time.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.command.control import reachable_address
from libreseed.errors import LocalFault

__all__ = ["WakeBell", "wake_server"]

_KIND = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


def wake_server(database: Path) -> bool:
    """Wake the servers of ``database``; whether one was there."""
    return any([_ring(place) for place in _places(database)])  # a list: all of them


class WakeBell:
    """A server's end, at the first place that nobody living has; raises ``storage.locked`` for one server too many."""

    def __init__(self, database: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, _KIND)
        try:
            self._place = next(place for place in _places(database) if not _ring(place))
        except StopIteration:
            self._socket.close()
            raise LocalFault("storage.locked", f"{limits.SERVERS_OF_A_DATABASE} servers run on {database}") from None
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


def _ring(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX, _KIND) as channel, reachable_address(place) as address:
        try:
            channel.sendto(b"1", address)
        except OSError as error:
            return error.errno == errno.EAGAIN  # many have rung already
    return True


def _places(database: Path) -> Iterator[Path]:
    yield Path(f"{database}.wake")
    for number in range(1, limits.SERVERS_OF_A_DATABASE):
        yield Path(f"{database}.{number}.wake")
