"""Non-blocking UDP sockets for the DHT node: bound, sent on at once or not at all, errors of the network ignored.

What the network says about one datagram (refused, unreachable, forbidden, a full buffer) concerns that datagram only:
it is lost, as datagrams may be. Only a closed socket ends the reader.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import IPv6Address

import trio

from libreseed import limits
from libreseed.dht.addresses import Endpoint, family_of
from libreseed.errors import LocalFault

__all__ = ["Datagrams", "bind_all", "local_host_towards"]

_BATCH = 64  # datagrams read before other tasks have their turn
_BUFFER_BYTES = 1 << 20

Taker = Callable[[bytes, Endpoint, int], None]


class Datagrams:
    """One bound socket; ``number`` is its place among the node's sockets."""

    def __init__(self, address: Endpoint, number: int) -> None:
        self.family = family_of(address[0])
        self.number = number
        self._raw = socket.socket(socket.AF_INET if self.family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            if self.family == 6:
                self._raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._raw.setblocking(False)
            self._raw.bind(address)
        except BaseException:
            self._raw.close()
            raise
        self.address: Endpoint = self._raw.getsockname()[:2]

    def send(self, data: bytes, endpoint: Endpoint) -> None:
        """Send now; what cannot be sent is lost."""
        try:
            self._raw.sendto(data, endpoint)
        except OSError:
            return

    async def read(self, take: Taker) -> None:
        """Hand every datagram to ``take`` until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._raw)
            for _ in range(_BATCH):
                try:
                    data, source = self._raw.recvfrom(limits.KRPC_BYTES + 1)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno == errno.EBADF:
                        raise
                    continue  # an ICMP error about something that was sent earlier
                host = source[0] if self.family == 4 else _plain(source[0])
                take(data, (host, source[1]), self.number)
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Give the port back."""
        self._raw.close()


def bind_all(addresses: tuple[Endpoint, ...]) -> list[Datagrams]:
    """Bind every address; with none given, any port of all IPv4 addresses and, where there is IPv6, of all of these.

    Raises :class:`LocalFault` (``config.port``) and leaves nothing bound.
    """
    bound: list[Datagrams] = []
    wanted = addresses or (("0.0.0.0", 0), ("::", 0))  # noqa: S104  # a DHT node is reachable from everywhere
    for address in wanted:
        try:
            bound.append(Datagrams(address, len(bound)))
        except OSError as error:
            if not addresses and bound:
                continue  # a machine without IPv6
            for datagrams in bound:
                datagrams.close()
            text = f"the DHT cannot listen on {address[0]} port {address[1]}/udp: {error.strerror or error}"
            raise LocalFault("config.port", text) from error
    return bound


def local_host_towards(datagrams: Datagrams, peer: Endpoint) -> str | None:
    """The address under which ``peer`` reaches this socket: its own, or what the kernel would send from."""
    host = datagrams.address[0]
    if host not in ("0.0.0.0", "::"):  # noqa: S104
        return host
    family = socket.AF_INET if datagrams.family == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(peer)  # sends nothing
            found: str = probe.getsockname()[0]
        except OSError:
            return None
    return found


def _plain(host: str) -> str:
    """IPv6 text as the protocol core spells it, without a zone."""
    return str(IPv6Address(host.partition("%")[0]))
