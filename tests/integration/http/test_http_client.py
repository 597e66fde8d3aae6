"""The HTTP client against servers that mean ill: every answer is bounded, every fault has its reason."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from libreseed.adapters.http.client import HttpClient, HttpClientOptions
from libreseed.adapters.http.guards import Receive, Scope, Send
from libreseed.errors import LibreSeedError
from tests.http_support import answer, make_tls, served

pytestmark = pytest.mark.integration
HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def raw_server(speak: Callable[[trio.SocketStream], object]) -> AsyncIterator[str]:
    """A server that reads a request's head and then does what ``speak`` says."""

    async def handle(stream: trio.SocketStream) -> None:
        got = b""
        while b"\r\n\r\n" not in got:
            part = await stream.receive_some()
            if not part:
                return
            got += part
        try:
            await speak(stream)  # type: ignore[misc]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def says(data: bytes) -> Callable[[trio.SocketStream], object]:
    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(data)

    return speak


async def drips(stream: trio.SocketStream) -> None:
    await stream.send_all(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        await stream.send_all(b"x")
        await trio.sleep(0.02)


async def is_mute(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def floods(stream: trio.SocketStream) -> None:
    await stream.send_all(HEAD + b"\r\n")
    while True:
        await stream.send_all(bytes(65536))


async def long_head(stream: trio.SocketStream) -> None:
    await stream.send_all(HEAD)
    while True:
        await stream.send_all(b"X-Filler: " + b"y" * 1000 + b"\r\n")


FAULTS = {
    "drips": (drips, "http.timeout"),
    "mute": (is_mute, "http.timeout"),
    "floods": (floods, "http.too-large"),
    "declares-too-much": (says(HEAD + b"Content-Length: 1001\r\n\r\n"), "http.too-large"),
    "sends-encoded": (says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"), "http.encoding"),
    "cut-off": (says(HEAD + b"Content-Length: 100\r\n\r\nabc"), "http.protocol"),
    "no-http": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "http.protocol"),
    "long-head": (long_head, "http.protocol"),
    "two-lengths": (says(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "http.protocol"),
    "hangs-up": (says(b""), "http.protocol"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_servers_fault_has_its_reason_and_its_end(fault: str) -> None:
    speak, reason = FAULTS[fault]
    impatient = HttpClientOptions(timeout=0.4, total=0.8)
    options = impatient if reason == "http.timeout" else HttpClientOptions(timeout=60)
    with trio.fail_after(60):
        async with raw_server(speak) as url, HttpClient(options) as client:
            with pytest.raises(LibreSeedError) as raised:
                await client.get(url, most=1000)
    assert raised.value.reason == reason, raised.value.message


async def test_no_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A URL may hold a password, and a terminal is no place for every request of a library."""
    caplog.set_level("INFO")
    async with raw_server(says(HEAD + b"Content-Length: 2\r\n\r\nok")) as url, HttpClient() as client:
        await client.get(url + "/secret", most=10)
    assert caplog.text == ""


async def test_nobody_listens() -> None:
    async with HttpClient() as client:
        with pytest.raises(LibreSeedError) as raised:
            await client.get("http://127.0.0.1:1/", most=10)
        assert raised.value.reason == "http.unreachable" and raised.value.exit_code == 11
        with pytest.raises(LibreSeedError) as raised:
            await client.get("http://name.invalid/", most=10)
        assert raised.value.reason == "http.unreachable"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/passwd",
        "//host/x",
        "host/x",
        "",
        "http://",
        "http://user:word@host/",
        "http://host/#part",
        "http://host/ä",
        "http://host/a b",
        "http://host:99999/",
        "http://host/" + "x" * 3000,
    ],
)
async def test_urls_that_are_not_asked(url: str) -> None:
    async with HttpClient() as client:
        with pytest.raises(LibreSeedError) as raised:
            await client.get(url, most=10)
    assert raised.value.reason == "http.url" and raised.value.exit_code == 3


def redirecting(locations: dict[str, str], status: int = 302) -> Callable[[Scope, Receive, Send], object]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        location = locations.get(scope["path"])
        if location is None:
            return await answer(send, body=b"arrived at " + scope["path"].encode())
        fields = [(b"location", location.encode()), (b"content-length", b"0")]
        return await answer(send, status, headers=fields)

    return app


async def test_a_redirect_within_the_host_is_followed() -> None:
    app = redirecting({"/a": "/b?x=1", "/b": "c"})
    async with served(app) as server, HttpClient() as client:
        got = await client.get(server.url + "/a", most=100)
    assert got.body == b"arrived at /c" and got.url == server.url + "/c"


async def test_redirects_without_end_are_given_up() -> None:
    app = redirecting({"/a": "/a"})
    async with served(app) as server, HttpClient() as client:
        with pytest.raises(LibreSeedError) as raised:
            await client.get(server.url + "/a", most=100)
    assert raised.value.reason == "http.redirect"


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1/",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://user:word@127.0.0.1/",
        "http://127.0.0.2/",
        "http://localhost/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://100.64.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "gopher://x",
        "http://",
    ],
)
async def test_redirects_to_other_schemes_and_private_places_are_refused(location: str) -> None:
    app = redirecting({"/a": location})
    async with served(app) as server, HttpClient() as client:
        with pytest.raises(LibreSeedError) as raised:
            await client.get(server.url + "/a", most=100)
    assert raised.value.reason in ("http.redirect", "http.unreachable")
    if raised.value.reason == "http.unreachable":  # a resolver that does not take such spellings for addresses
        assert "resolved" in raised.value.message


async def test_a_redirect_to_a_private_address_is_followed_when_asked_for() -> None:
    locations: dict[str, str] = {}
    async with served(redirecting(locations)) as server:
        locations["/a"] = f"http://localhost:{server.port}/b"
        async with HttpClient(HttpClientOptions(allow_private=True)) as client:
            assert (await client.get(server.url + "/a", most=100)).body == b"arrived at /b"


async def test_a_name_that_changes_its_address_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was judged is the one that is called: a rebinding name is never asked a second time."""
    locations: dict[str, str] = {}
    asked: list[str] = []

    async def resolve(host: str, *rest: object, **more: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34", 80))]

    called: list[str] = []
    real = trio.open_tcp_stream

    async def connect(host: str, *rest: object, **more: object) -> trio.SocketStream:
        called.append(host)
        ipaddress.ip_address(host)  # no name is resolved once more
        if host == "93.184.216.34":
            raise OSError("not reached in a test")
        return await real(host, *rest, **more)  # type: ignore[arg-type]

    async with served(redirecting(locations)) as server:
        locations["/a"] = "http://rebinding.example/b"
        monkeypatch.setattr(trio.socket, "getaddrinfo", resolve)
        monkeypatch.setattr(trio, "open_tcp_stream", connect)
        async with HttpClient(HttpClientOptions(use_proxies=False)) as client:
            with pytest.raises(LibreSeedError) as raised:
                await client.get(server.url + "/a", most=100)
    assert raised.value.reason == "http.unreachable"
    assert called == ["127.0.0.1", "93.184.216.34"] and asked == ["rebinding.example"]


async def test_a_post_is_not_told_to_others() -> None:
    app = redirecting({"/a": "/b"}, 307)
    async with served(app) as server, HttpClient() as client:
        with pytest.raises(LibreSeedError) as raised:
            await client.post(server.url + "/a", b"told in confidence", "text/plain", most=100)
    assert raised.value.reason == "http.redirect"


@pytest.mark.parametrize(
    ("status", "content_range"),
    [(200, None), (206, None), (206, "bytes 0-9/100"), (206, "bytes 5-10/100"), (206, "items 5-9/100")],
)
async def test_another_range_than_the_one_asked_for_is_refused(status: int, content_range: str | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"content-length", b"5")]
        if content_range:
            fields.append((b"content-range", content_range.encode()))
        await answer(send, status, b"abcde", fields)

    async with served(app) as server, HttpClient() as client:
        with pytest.raises(LibreSeedError) as raised:
            await client.get(server.url, most=100, span=(5, 10))
    assert raised.value.reason == "http.range"


async def test_statuses_are_the_callers_matter_until_it_requires_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, int(scope["path"][1:]))

    async with served(app) as server, HttpClient() as client:
        for status, reason in ((404, "http.not-found"), (503, "http.status"), (206, "http.status")):
            got = await client.get(f"{server.url}/{status}", most=10)
            assert got.status == status
            with pytest.raises(LibreSeedError) as raised:
                got.require(200)
            assert raised.value.reason == reason


async def test_proxies_of_the_environment_are_used_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    seen: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        seen.append(b"asked")
        await stream.send_all(HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nproxy")

    async with raw_server(proxy) as url, served(redirecting({})) as server:
        monkeypatch.setenv("http_proxy", url)
        async with HttpClient() as client:
            assert (await client.get("http://mirror.invalid/x", most=10)).body == b"proxy"
        async with HttpClient(HttpClientOptions(use_proxies=False)) as client:
            assert (await client.get(server.url + "/x", most=100)).body == b"arrived at /x"
        monkeypatch.setenv("http_proxy", "nonsense://x:y:z")
        with pytest.raises(LibreSeedError) as raised:
            HttpClient()
    assert seen == [b"asked"] and raised.value.reason == "http.proxy" and raised.value.exit_code == 3


def test_a_file_of_authorities_that_is_none_is_a_fault_of_configuration_and_an_absent_one_is_missing(
    tmp_path: Path,
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path, told in ((tmp_path / "absent.pem", (10, "notfound.file")), (tmp_path / "ca.pem", (3, "http.ca"))):
        with pytest.raises(LibreSeedError) as raised:
            HttpClient(HttpClientOptions(ca_file=path))
        assert (raised.value.exit_code, raised.value.reason) == told


async def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    from libreseed.adapters.http.server import HttpServerOptions

    tls = make_tls(tmp_path, hosts=("192.0.2.1",))
    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile)
    async with (
        served(redirecting({}), options) as server,
        HttpClient(HttpClientOptions(ca_file=tls.certfile)) as client,
    ):
        with pytest.raises(LibreSeedError) as raised:
            await client.get(server.url, most=10)
    assert raised.value.reason == "http.certificate"
    assert "--ca-file" in raised.value.message  # where several sources failed, the message is all that is told


async def test_cookies_are_not_kept() -> None:
    seen: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(any(name == b"cookie" for name, _ in scope["headers"]))
        await answer(send, headers=[(b"set-cookie", b"track=me"), (b"content-length", b"0")])

    async with served(app) as server, HttpClient() as client:
        for _ in range(2):
            await client.get(server.url, most=10)
    assert seen == [False, False]
