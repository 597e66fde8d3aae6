"""Limits per client, and whom a service may free of them: whoever is on the same machine."""

from __future__ import annotations

import pytest
import trio

from libreseed.adapters.http.connections import Connection, Connections, SteadyStream
from libreseed.adapters.http.rate_limit import Rate, RateLimiter, is_local


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_local_addresses(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.1", "fe80::1%eth0", "::2", "2001:db8::1", "", "localhost"])
def test_other_addresses(address: str) -> None:
    assert not is_local(address)


def test_only_local_clients_are_free_of_the_rate() -> None:
    limiter = RateLimiter(Rate(1.0, 2, local_free=True), clients=10)
    assert [limiter.wait("127.0.0.1", 0.0) for _ in range(5)] == [0.0] * 5
    assert [bool(limiter.wait("192.0.2.1", 0.0)) for _ in range(3)] == [False, False, True]
    strict = RateLimiter(Rate(1.0, 1), clients=10)
    assert [bool(strict.wait("127.0.0.1", 0.0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("peer", "admitted"), [("127.0.0.1", 5), ("192.0.2.1", 2)])
async def test_a_local_client_may_have_half_of_the_house(peer: str, admitted: int) -> None:
    connections = Connections(10, 2, local_free=True)
    count = 0
    for port in range(8):
        here, there = trio.socket.socketpair()
        there.close()
        connection = Connection(SteadyStream(trio.SocketStream(here), 1.0), (peer, port))
        if connections.admit(connection):
            connections.set_idle(connection, False)  # busy: none of them makes room
            count += 1
        connection.abort()
    assert count == admitted
