"""Open connections of a server: how many there may be, which one goes when there are too many, and streams that stall.

A connection that has no request under way is *idle*; that includes one that has not finished its first request's
head. When the house or one client's share of it is full, the connection that has been idle longest makes room, so idle
connections (a slowloris's above all) never keep others out. When none is idle in a full house, the slowest reader goes
of those whose client has more connections than the newcomer's. Only when there is none is the newcomer turned away.

Belongs to the server's task; nothing here waits but :class:`SteadyStream`.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict

import trio

from libreseed.adapters.http.rate_limit import client_of, is_local

__all__ = ["Connection", "Connections", "SteadyStream"]

_PORTION_BYTES = 64 * 2**10
_SLOW_S = 5.0  # a portion that takes its reader longer: below 13 kB/s


class SteadyStream(trio.abc.Stream):
    """A TCP stream whose reader must take every 64 KiB within ``stall`` seconds; else it breaks.

    The deadline lies within the send, where it holds although hypercorn shields its sends from cancellation.
    """

    def __init__(self, stream: trio.SocketStream, stall: float) -> None:
        self._stream = stream
        self._stall = stall
        self._since = math.inf  # when the portion that is being sent began
        self.socket = stream.socket

    @property
    def waiting(self) -> float:
        """For how many seconds the reader has kept us waiting, by now."""
        return max(0.0, trio.current_time() - self._since)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; raises :class:`trio.BrokenResourceError` when the reader stalls."""
        view = memoryview(data)
        for start in range(0, len(view), _PORTION_BYTES):
            self._since = trio.current_time()
            with trio.move_on_after(self._stall) as patience:
                await self._stream.send_all(view[start : start + _PORTION_BYTES])
            self._since = math.inf
            if patience.cancelled_caught:
                self.abort()
                raise trio.BrokenResourceError("the reader does not read")

    async def wait_send_all_might_not_block(self) -> None:
        """As trio says."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As trio says."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """As trio says."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As trio says."""
        await self._stream.aclose()

    def abort(self) -> None:
        """Close the socket now; whoever waits on it gets :class:`trio.ClosedResourceError`."""
        self.socket.close()


Address = tuple[str, int]


class Connection:
    """One open connection: whose it is, and whether a request is under way.

    ``local`` is this end of it: one address and port of a client can be connected to several of the server's.
    """

    def __init__(self, stream: SteadyStream, peer: Address, local: Address | None = None) -> None:
        self.stream = stream
        self.peer = peer
        self.ends = peer, local
        self.client = client_of(peer[0])
        self.gone = False

    def abort(self) -> None:
        """End it now."""
        self.gone = True
        self.stream.abort()


class Connections:
    """At most ``most`` connections, at most ``per_client`` of one client.

    None of ``trusted`` is counted by client. With ``local_free`` a loopback address may have half of the house: a proxy
    or a bench needs many, and yet one program that hangs keeps no other out.
    """

    def __init__(
        self, most: int, per_client: int, trusted: frozenset[str] = frozenset(), *, local_free: bool = False
    ) -> None:
        self._most = most
        self._per_client = per_client
        self._per_local = max(per_client, most // 2) if local_free else per_client
        self._trusted = trusted
        self._open: dict[tuple[Address, Address | None], Connection] = {}
        self._idle: OrderedDict[tuple[Address, Address | None], Connection] = OrderedDict()  # idle longest first
        self._by_client: Counter[str] = Counter()
        self.evicted = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many connections have no request under way."""
        return len(self._idle)

    def admit(self, connection: Connection) -> bool:
        """Take the connection in, at the cost of an idle or slow one if need be; False when there is no room for it."""
        crowded = self._by_client[connection.client] >= self._share(connection.peer[0])
        if crowded and not self._evict(connection.client):
            self.refused += 1
            return False
        if len(self._open) >= self._most and not self._evict(None) and not self._displace(connection.client):
            self.refused += 1
            return False
        self._open[connection.ends] = connection
        self._idle[connection.ends] = connection
        self._by_client[connection.client] += 1
        return True

    def leave(self, connection: Connection) -> None:
        """The connection has ended."""
        connection.gone = True
        if self._open.get(connection.ends) is not connection:
            return
        del self._open[connection.ends]
        self._idle.pop(connection.ends, None)
        self._by_client[connection.client] -= 1
        if not self._by_client[connection.client]:
            del self._by_client[connection.client]

    def set_idle(self, connection: Connection, idle: bool) -> None:
        """A request began, or the last one ended."""
        if self._open.get(connection.ends) is not connection:
            return
        if idle:
            self._idle.setdefault(connection.ends, connection)
        else:
            self._idle.pop(connection.ends, None)

    def find(self, peer: Address, local: Address | None = None) -> Connection | None:
        """The open connection between these ends."""
        return self._open.get((peer, local))

    def abort_all(self) -> None:
        """End all of them now."""
        for connection in list(self._open.values()):
            connection.abort()

    def make_room(self) -> bool:
        """End the connection that has been idle longest; False when none is idle."""
        return self._evict(None)

    def _share(self, address: str) -> int:
        if address in self._trusted:
            return self._most
        return self._per_local if is_local(address) else self._per_client

    def _evict(self, client: str | None) -> bool:
        for connection in self._idle.values():
            if client is None or connection.client == client:
                self._end(connection)
                return True
        return False

    def _displace(self, client: str) -> bool:
        """End the slowest reader of those whose client has more connections than ``client`` will have."""
        share = self._by_client[client] + 1
        slow = [
            (connection.stream.waiting, at)
            for at, connection in self._open.items()
            if self._by_client[connection.client] > share and connection.peer[0] not in self._trusted
        ]
        waited, at = max(slow, default=(0.0, None), key=lambda one: one[0])
        if at is None or waited < _SLOW_S:
            return False
        self._end(self._open[at])
        return True

    def _end(self, connection: Connection) -> None:
        self.evicted += 1
        self.leave(connection)
        connection.abort()
