"""The HTTP server as a client sees it: both versions, TLS, bounds, and a stop that lets answers end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from libreseed.adapters.http.client import HttpClient, HttpClientOptions
from libreseed.adapters.http.guards import Receive, Scope, Send
from libreseed.adapters.http.rate_limit import Rate
from libreseed.adapters.http.server import HttpServerOptions
from libreseed.errors import LibreSeedError
from tests.http_support import answer, echo, make_tls, raw_request, served

pytestmark = pytest.mark.integration


async def test_plain_http(tmp_path: Path) -> None:
    async with served(echo) as server, HttpClient() as client:
        got = await client.get(server.url + "/a", most=100)
        posted = await client.post_json(server.url + "/b", {"x": 1}, most=100)
    assert (got.status, got.body) == (200, b"GET /a ")
    assert posted.body == b'POST /b {"x":1}'
    assert "server" not in got.headers


@pytest.mark.parametrize("http2", [True, False])
async def test_tls_with_own_authority(tmp_path: Path, http2: bool) -> None:
    tls = make_tls(tmp_path)
    versions = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        versions.append(scope["http_version"])
        await answer(send, body=b"x" * 100_000)

    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile)
    async with served(app, options) as server:
        async with HttpClient(HttpClientOptions(ca_file=tls.certfile, http2=http2)) as client:
            got = await client.get(server.url + "/", most=100_000)
        async with HttpClient() as stranger:
            with pytest.raises(LibreSeedError) as refused:
                await stranger.get(server.url + "/", most=100)
    assert got.body == b"x" * 100_000
    assert versions == ["2" if http2 else "1.1"]
    assert refused.value.reason == "http.certificate"


async def test_a_body_that_is_too_large_is_refused_before_and_while_it_comes() -> None:
    options = HttpServerOptions(max_body=1000)
    async with served(echo, options) as server:
        declared = await raw_request(server, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked = await raw_request(server, head + b"3e9\r\n" + b"x" * 1001 + b"\r\n")
    assert declared.startswith(b"HTTP/1.1 413") and b"http.body-too-large" in declared
    assert chunked.startswith(b"HTTP/1.1 413") and b"http.body-too-large" in chunked


@pytest.mark.parametrize("size", [17_000, 60_000])
async def test_a_head_that_is_too_large_is_refused_also_when_it_comes_at_once(size: int) -> None:
    async with served(echo) as server:
        field = await raw_request(server, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * size + b"\r\n\r\n")
        query = await raw_request(server, b"GET /?" + b"x" * size + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        small = await raw_request(
            server, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"x" * 15_000 + b"\r\n\r\n"
        )
    assert field.startswith(b"HTTP/1.1 431") and b"http.head-too-large" in field
    assert query.startswith(b"HTTP/1.1 431") and b"http.head-too-large" in query
    assert small.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://elsewhere.example/a/b?c=http://d", "/a/b"),
        ("HTTPS://elsewhere.example:8443/", "/"),
        ("http://elsewhere.example", "/"),
        ("http://elsewhere.example?c", "/"),
        ("/http://elsewhere.example/a", "/http://elsewhere.example/a"),
    ],
)
async def test_a_target_may_name_the_server_too(target: str, path: str) -> None:
    """RFC 9112, 3.2.2: a server takes the absolute form, whoever sends it."""
    async with served(echo) as server:
        request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head, _, body = (await raw_request(server, request.encode())).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.split(b" ")[:2] == [b"GET", path.encode()]


async def test_a_client_above_its_rate_is_told_to_wait() -> None:
    options = HttpServerOptions(rate=Rate(0.001, 3))
    async with served(echo, options) as server, HttpClient() as client:
        statuses = [(await client.get(server.url, most=1000)).status for _ in range(4)]
        last = await client.get(server.url, most=1000)
    assert statuses == [200, 200, 200, 429]
    assert int(last.headers["retry-after"]) > 0 and last.json()["reason"] == "http.rate"


async def test_an_answer_under_way_may_end_after_the_stop_began() -> None:
    begun, go_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await answer(send, body=b"whole")

    got: list[bytes] = []

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            got.append((await client.get(url)).content)

    async with trio.open_nursery() as nursery, served(app) as server:
        nursery.start_soon(ask, server.url)
        await begun.wait()
        server.nursery.cancel_scope.cancel()
        go_on.set()
    assert got == [b"whole"]


async def test_a_stop_does_not_wait_for_handlers_and_readers_that_never_end() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

    options = replace(HttpServerOptions(), grace_seconds=0.2, stall_seconds=1000)
    with trio.fail_after(20):
        async with served(endless, options) as server:
            stream = await trio.open_tcp_stream(server.host, server.port)
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some(10)
            await trio.testing.wait_all_tasks_blocked(0.1)
    await stream.aclose()
