"""A full house of readers that take just enough not to be closed: who has many of them makes room for who has few."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from libreseed.adapters.http.connections import Connection, Connections, SteadyStream

STALL_S = 30.0
SLOW_S = 6.0  # for 64 KiB: the server waits, but less than STALL_S


class Reader:
    """The far end of a connection with an answer under way; it reads only when told to."""

    def __init__(self, host: str, port: int) -> None:
        here, self._there = trio.socket.socketpair()
        self.connection = Connection(SteadyStream(trio.SocketStream(here), STALL_S), (host, port))

    async def send(self) -> None:
        """More than the kernel takes in."""
        try:
            await self.connection.stream.send_all(bytes(2**24))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def close(self) -> None:
        self.connection.abort()
        self._there.close()


@asynccontextmanager
async def full_house(
    *hosts: str, trusted: frozenset[str] = frozenset()
) -> AsyncIterator[tuple[Connections, list[Reader]]]:
    """As many connections as there may be, each with an answer that nobody reads."""
    connections = Connections(len(hosts), len(hosts), trusted)
    readers = [Reader(host, port) for port, host in enumerate(hosts)]
    async with trio.open_nursery() as nursery:
        for reader in readers:
            assert connections.admit(reader.connection)
            connections.set_idle(reader.connection, False)
            nursery.start_soon(reader.send)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.1)  # so that one of them has waited longest
        yield connections, readers
        nursery.cancel_scope.cancel()
    for reader in readers:
        await reader.close()


@pytest.mark.parametrize(
    ("hosts", "waited", "newcomer", "gone"),
    [
        (["192.0.2.1"] * 3, SLOW_S, "192.0.2.9", 0),
        (["192.0.2.1"] * 3, 1.0, "192.0.2.9", None),  # not slow
        (["192.0.2.1", "192.0.2.2", "192.0.2.3"], SLOW_S, "192.0.2.9", None),  # nobody has more than the newcomer will
        (["192.0.2.2", "192.0.2.1", "192.0.2.1"], SLOW_S, "192.0.2.9", 1),  # not the one who has one only
        (["192.0.2.1"] * 3, SLOW_S, "192.0.2.1", None),  # who fills the house makes no room for himself
    ],
)
async def test_who_makes_room(
    hosts: list[str], waited: float, newcomer: str, gone: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    async with full_house(*hosts) as (connections, readers):
        await trio.sleep(waited)
        other = Reader(newcomer, 99)
        assert connections.admit(other.connection) is (gone is not None)
        assert [reader.connection.gone for reader in readers] == [at == gone for at in range(3)]
        assert (connections.evicted, connections.refused) == ((1, 0) if gone is not None else (0, 1))
        assert len(connections) == 3
        await other.close()


async def test_a_proxy_that_speaks_for_many_makes_no_room(autojump_clock: trio.testing.MockClock) -> None:
    async with full_house(*["192.0.2.1"] * 3, trusted=frozenset({"192.0.2.1"})) as (connections, _):
        await trio.sleep(SLOW_S)
        other = Reader("192.0.2.9", 99)
        assert not connections.admit(other.connection)
        await other.close()


async def test_a_reader_that_reads_is_not_slow(autojump_clock: trio.testing.MockClock) -> None:
    here, there = trio.socket.socketpair()
    stream, sink = SteadyStream(trio.SocketStream(here), STALL_S), trio.SocketStream(there)
    async with stream, sink, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(2**22))
        for _ in range(2**22 // 2**16):
            left = 2**16
            while left:
                left -= len(await sink.receive_some(left))
            await trio.sleep(0.5)
            assert stream.waiting < 2  # one portion may take two of these rounds
    assert stream.waiting == 0
