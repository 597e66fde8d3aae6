"""Clients that mean ill: each loses its own connection at most, while a well-meaning one gets its answer."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trio

from libreseed import limits
from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.http.guards import Receive, Scope, Send
from libreseed.adapters.http.server import HttpServerOptions
from tests.http_support import Served, TlsFiles, echo, make_tls, raw_request, served

pytestmark = pytest.mark.integration
SOON = HttpServerOptions(head_seconds=1.0, body_seconds=1.0, stall_seconds=1.0)  # the well-meaning have as long


async def well(server: Served) -> None:
    """A well-meaning client is served."""
    async with HttpClient() as client:
        assert (await client.get(server.url + "/well", most=100)).body == b"GET /well "


async def drip(stream: trio.SocketStream, data: bytes) -> None:
    """Send one byte after the other until the server has enough of it."""
    try:
        for byte in data:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.02)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def closed(stream: trio.SocketStream) -> bytes:
    """All that comes until the server closes, however it does."""
    got = b""
    try:
        while part := await stream.receive_some():
            got += part
    except trio.BrokenResourceError:
        pass
    return got


async def test_slowloris_head_is_given_up() -> None:
    with trio.fail_after(30):
        async with served(echo, SOON) as server:
            async with await trio.open_tcp_stream(server.host, server.port) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(drip, stream, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 1000)
                assert await closed(stream) == b""
                nursery.cancel_scope.cancel()
            await well(server)


async def test_slowloris_body_is_answered_408() -> None:
    with trio.fail_after(30):
        async with served(echo, SOON) as server:
            async with await trio.open_tcp_stream(server.host, server.port) as stream, trio.open_nursery() as nursery:
                await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
                nursery.start_soon(drip, stream, b"x" * 5000)
                got = await closed(stream)
                nursery.cancel_scope.cancel()
            assert got.startswith(b"HTTP/1.1 408") and b"http.body-timeout" in got
            await well(server)


async def test_slowloris_tls_handshake_is_given_up(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile, head_seconds=0.3)
    with trio.fail_after(30):
        async with served(echo, options) as server, await trio.open_tcp_stream(server.host, server.port) as stream:
            await stream.send_all(b"\x16\x03\x01")
            assert await closed(stream) == b""


async def test_idle_connections_make_room_for_newcomers() -> None:
    options = HttpServerOptions(connections=20, connections_per_client=20)
    async with served(echo, options) as server:
        idle = [await trio.open_tcp_stream(server.host, server.port) for _ in range(60)]
        await well(server)
        assert len(server.connections) <= 20
        assert server.connections.evicted >= 40
        for stream in idle:
            await stream.aclose()


async def test_one_clients_connections_do_not_take_the_places_of_others() -> None:
    hold, entered = trio.Event(), trio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/hold":
            entered.release()
            await hold.wait()
        await echo(scope, receive, send)

    options = HttpServerOptions(connections=10, connections_per_client=4)
    async with served(app, options) as server:
        busy = []
        for _ in range(4):
            busy.append(await trio.open_tcp_stream(server.host, server.port))
            await busy[-1].send_all(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
            await entered.acquire()
        fifth = await trio.open_tcp_stream(server.host, server.port)
        assert await closed(fifth) == b""
        assert server.connections.refused == 1
        other = await trio.open_tcp_stream(server.host, server.port, local_address="127.0.0.9")
        await other.send_all(b"GET /well HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await closed(other)).endswith(b"GET /well ")
        hold.set()
        for stream in [*busy, fifth, other]:
            await stream.aclose()


async def test_a_reader_that_stops_reading_ends_its_handler() -> None:
    ended = trio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/well":
            return await echo(scope, receive, send)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
        finally:
            ended.set()

    with trio.fail_after(30):
        async with served(endless, SOON) as server:
            stream = await trio.open_tcp_stream(server.host, server.port)
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await ended.wait()
            await well(server)
            await stream.aclose()


async def test_a_client_that_leaves_ends_its_handler() -> None:
    ended = trio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(2**18), "more_body": True})
        finally:
            ended.set()

    with trio.fail_after(30):
        async with served(endless) as server:
            stream = await trio.open_tcp_stream(server.host, server.port)
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some(1000)
            await stream.aclose()
            await ended.wait()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: !!\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ],
)
async def test_malformed_requests_end_their_own_connection_only(data: bytes) -> None:
    with trio.fail_after(30):
        async with served(echo, SOON) as server:
            got = await raw_request(server, data)
            assert not got or got.startswith(b"HTTP/1.1 ")
            assert b"HTTP/1.1 101" not in got
            await well(server)


# --- HTTP/2 ----------------------------------------------------------------------------------------------------------


class Http2Client:
    """A client that does what it is told, frame by frame."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.connection.initiate_connection()

    async def flush(self) -> None:
        await self._stream.send_all(self.connection.data_to_send())

    async def events(self) -> list[h2.events.Event]:
        """What comes next; nothing once the server has closed."""
        try:
            data = await self._stream.receive_some()
        except trio.BrokenResourceError:
            return []
        return self.connection.receive_data(data) if data else []

    def ask(self, path: bytes = b"/") -> int:
        number = self.connection.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", path)]
        self.connection.send_headers(number, head, end_stream=True)
        return number


@asynccontextmanager
async def http2(server: Served, tls: TlsFiles) -> AsyncIterator[Http2Client]:
    context = ssl.create_default_context(cafile=str(tls.certfile))
    context.set_alpn_protocols(["h2"])
    raw = await trio.open_tcp_stream(server.host, server.port)
    stream = trio.SSLStream(raw, context, server_hostname="127.0.0.1")
    yield Http2Client(stream)
    await raw.aclose()


def secure(tmp_path: Path, **more: float) -> tuple[TlsFiles, HttpServerOptions]:
    tls = make_tls(tmp_path)
    return tls, HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile, **more)  # type: ignore[arg-type]


async def test_a_shut_http2_window_keeps_the_answer_out_of_memory(tmp_path: Path) -> None:
    sent = 0
    ended = trio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
                sent += 1
        finally:
            ended.set()

    tls, options = secure(tmp_path, stall_seconds=0.5)
    with trio.fail_after(30):
        async with served(endless, options) as server, http2(server, tls) as client:
            client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
            number = client.ask()
            await client.flush()
            with trio.move_on_after(0.3):
                for _ in range(20):  # a byte at a time: each was a reason to take another portion
                    client.connection.increment_flow_control_window(1, number)
                    await client.flush()
                    await trio.sleep(0.01)
            assert sent <= 2
            await ended.wait()


async def test_requests_that_are_taken_back_again_and_again_end_the_connection(tmp_path: Path) -> None:
    tls, options = secure(tmp_path)
    with trio.fail_after(30):
        async with served(echo, options) as server, http2(server, tls) as client:
            for _ in range(limits.HTTP_RESETS + 1):
                client.connection.reset_stream(client.ask())
            await client.flush()
            found: list[h2.events.Event] = []
            while more := await client.events():
                found += more
            assert any(isinstance(event, h2.events.ConnectionTerminated) for event in found)


@pytest.mark.parametrize("path", [b"/\xff\xfe", b"", b"*", b"//", b"/%ff"])
async def test_paths_that_break_protocol_code_end_their_own_connection_only(tmp_path: Path, path: bytes) -> None:
    tls, options = secure(tmp_path, head_seconds=1.0)
    with trio.fail_after(30):
        async with served(echo, options) as server:
            async with http2(server, tls) as client:
                client.ask(path)
                await client.flush()
                while await client.events():
                    pass
            async with http2(server, tls) as client:
                client.ask(b"/well")
                await client.flush()
                got = b""
                while b"GET /well " not in got:
                    events = await client.events()
                    assert events
                    got += b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))


async def test_headers_without_end_are_given_up(tmp_path: Path) -> None:
    tls, options = secure(tmp_path, head_seconds=0.3)
    with trio.fail_after(30):
        async with served(echo, options) as server, http2(server, tls) as client:
            await client.flush()
            data = client.connection.data_to_send()
            head = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01" + bytes([0x82]) * 0x4000  # HEADERS without END_HEADERS
            more = b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" + bytes([0x82]) * 0x4000  # CONTINUATION
            try:
                await client._stream.send_all(data + head)
                for _ in range(200):
                    await client._stream.send_all(more)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            while await client.events():
                pass


async def test_answers_are_cut_off_rather_than_short(tmp_path: Path) -> None:
    from libreseed.adapters.http.guards import CutOff

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        raise CutOff("the disk is gone")

    async with served(app) as server:
        begun = await raw_request(server, b"GET /begun HTTP/1.1\r\nHost: x\r\n\r\n")
        before = await raw_request(server, b"GET /before HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert begun.startswith(b"HTTP/1.1 200") and not begun.endswith(b"0\r\n\r\n")
    assert before.startswith(b"HTTP/1.1 503") and b"http.cut-off" in before


async def test_an_application_that_fails_is_a_500() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("a defect")

    async with served(app) as server:
        got = await raw_request(server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 500")
