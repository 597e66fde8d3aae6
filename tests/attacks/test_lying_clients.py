"""Attacks by clients of our HTTP servers: what one of them asks for must not cost the others, or the machine."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import h2.events
import pytest
import trio

from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.http.connections import Connections
from libreseed.adapters.http.server import HttpServerOptions, serve
from services.mirror import answers
from services.mirror.bodies import CopyFile
from tests.http_support import echo, raw_request, served
from tests.integration.http.test_hostile_clients import http2, secure
from tests.mirror_daemon_support import big_release, mirror

pytestmark = pytest.mark.integration


def _port(urls: list[str]) -> int:
    return int(urls[0].rpartition(":")[2])


async def test_one_client_port_on_two_listeners_is_two_connections_that_are_counted_and_end() -> None:
    """Else the first one counts no more while it is open, and its client's share is never given back."""
    with trio.fail_after(30):
        connections = Connections(100, 10)
        async with trio.open_nursery() as nursery:
            run = partial(serve, echo, HttpServerOptions(), connections=connections)
            first, second = _port(await nursery.start(run)), _port(await nursery.start(run))
            for _ in range(11):
                ends = [trio.socket.socket(), trio.socket.socket()]
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                await ends[0].bind(("127.0.0.1", 0))
                await ends[1].bind(ends[0].getsockname())
                for end, port in zip(ends, (first, second), strict=True):
                    await end.connect(("127.0.0.1", port))
                    await end.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                for end in ends:
                    assert (await end.recv(100)).startswith(b"HTTP/1.1 200")
                assert len(connections) == 2
                for end in ends:
                    end.close()
                while len(connections):
                    await trio.lowlevel.checkpoint()
            assert (connections.evicted, connections.refused) == (0, 0)
            nursery.cancel_scope.cancel()


_LEFT_BEHIND = {
    "a proxy is asked for": b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a proxy is asked for by 1.0": b"CONNECT a:1 HTTP/1.0\r\nHost: x\r\n\r\n",
    "many answers that nobody takes": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    "a body that is waited for": b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n" * 4,
    "a web socket": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", _LEFT_BEHIND.values(), ids=_LEFT_BEHIND)
async def test_no_request_keeps_a_connection_after_its_client_has_left(request_bytes: bytes) -> None:
    """One that is busy for ever makes no room: a thousand of them were the end of a server."""
    with trio.fail_after(30):
        async with served(echo) as server:
            for _ in range(20):
                stream = await trio.open_tcp_stream(server.host, server.port)
                await stream.send_all(request_bytes)
                await trio.aclose_forcefully(stream)
            while len(server.connections):
                await trio.lowlevel.checkpoint()


_NO_WEB_SOCKETS = {
    "no key": b"Sec-WebSocket-Version: 13\r\n",
    "a bad key": b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n",
    "a good key": b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
}


@pytest.mark.parametrize("fields", _NO_WEB_SOCKETS.values(), ids=_NO_WEB_SOCKETS)
async def test_who_asks_for_a_web_socket_fills_no_log(fields: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A traceback for each request fills the disk at the attacker's rate; the request is answered as any other."""
    head = b"GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" + fields
    with trio.fail_after(30):
        async with served(echo) as server:
            assert (await raw_request(server, head + b"\r\n", most=1)).startswith(b"HTTP/1.1 200")
            for _ in range(5):
                stream = await trio.open_tcp_stream(server.host, server.port)
                await stream.send_all(head + b"\r\n")
                await trio.aclose_forcefully(stream)
            while len(server.connections):
                await trio.lowlevel.checkpoint()
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("protocol", [(), ((b":protocol", b"websocket"), (b":path", b"/"), (b":scheme", b"https"))])
async def test_who_asks_for_a_tunnel_by_http2_is_sent_away_and_fills_no_log(
    tmp_path: Path, protocol: tuple[tuple[bytes, bytes], ...], caplog: pytest.LogCaptureFixture
) -> None:
    tls, options = secure(tmp_path)
    with trio.fail_after(30):
        async with served(echo, options) as server, http2(server, tls) as client:
            head = [(b":method", b"CONNECT"), (b":authority", b"x"), *protocol]
            client.connection.send_headers(1, head)
            await client.flush()
            while events := await client.events():
                if any(isinstance(event, h2.events.ConnectionTerminated) for event in events):
                    break
            assert events
            while len(server.connections):
                await trio.lowlevel.checkpoint()
    assert [record.getMessage() for record in caplog.records] == []


async def test_a_crowd_that_wants_parts_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A component is 1.2 MB and slow to cut: who waits for one must not hold it, and one is not cut for each."""
    held, most, cut = 0, 0, 0
    read, build = CopyFile.read, answers.part_files

    async def counted_read(self: CopyFile, start: int, stop: int) -> bytes:
        nonlocal held, most
        held, most = held + 1, max(most, held + 1)
        return await read(self, start, stop)

    def counted_build(parts: object) -> list[bytes]:
        nonlocal held, cut
        held, cut = held - 1, cut + 1
        return build(parts)  # type: ignore[arg-type]  # as it came

    big_release(tmp_path / "store")
    monkeypatch.setattr(CopyFile, "read", counted_read)
    monkeypatch.setattr(answers, "part_files", counted_build)
    with trio.fail_after(60):
        async with mirror(tmp_path / "store") as site, HttpClient() as client, trio.open_nursery() as nursery:

            async def ask(path: str) -> None:
                (await client.get(f"{site.url}/packages/hello@1.0.0/{path}", most=6000)).require(200)

            for number in range(8):
                for component in range(2):
                    nursery.start_soon(ask, f"components/{component}/{number}")
    assert (most, cut) == (1, 2)
