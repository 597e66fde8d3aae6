"""Servers that mislead our HTTP client: into places that only this machine can reach, or into a fault of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from libreseed.adapters.http.client import HttpClient, HttpClientOptions
from libreseed.adapters.http.redirects import parse_url, refuse_private
from libreseed.adapters.mirrors.ranges import Ranges
from libreseed.errors import LibreSeedError, TransportFault
from tests.http_support import make_tls

NAME, MIRROR, INTRANET = "mirror.example", "127.0.7.1", "127.0.7.2"


class _Rebinding(trio.abc.HostnameResolver):
    """``NAME`` leads to the mirror the first time, into the intranet ever after."""

    def __init__(self) -> None:
        self._asked = False

    async def getaddrinfo(self, host: bytes | None, port: object, *_: object, **__: object) -> list[object]:  # type: ignore[override]
        address = (host or b"").decode()
        if address == NAME:
            address, self._asked = INTRANET if self._asked else MIRROR, True
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(str(port))))]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:  # type: ignore[override]
        raise AssertionError("nobody asks")


async def _by_client(url: str) -> bytes:
    async with HttpClient(HttpClientOptions(plain=True, timeout=5)) as client:
        return (await client.get(url, most=100)).body


async def _by_ranges(url: str) -> bytes:
    ranges = Ranges()
    try:
        return await ranges.get(url, most=100)
    finally:
        ranges.close()


@pytest.mark.parametrize("ask", [_by_client, _by_ranges])
async def test_a_host_that_redirects_to_itself_and_moves_into_the_intranet_is_not_followed(
    ask: Callable[[str], Awaitable[bytes]],
) -> None:
    trio.socket.set_custom_hostname_resolver(_Rebinding())  # for this run of trio
    heard: list[bytes] = []

    async def intranet(stream: trio.SocketStream) -> None:
        heard.append(await stream.receive_some())

    (inside,) = await trio.open_tcp_listeners(0, host=INTRANET)
    (outside,) = await trio.open_tcp_listeners(0, host=MIRROR)
    place = f"http://{NAME}:{inside.socket.getsockname()[1]}/admin?delete=1"

    async def mirror(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(f"HTTP/1.1 302 x\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, intranet, [inside])
            nursery.start_soon(trio.serve_listeners, mirror, [outside])
            with pytest.raises(LibreSeedError) as raised:
                await ask(f"http://{NAME}:{outside.socket.getsockname()[1]}/x")
            nursery.cancel_scope.cancel()
    assert raised.value.reason == "http.unreachable"
    assert heard == []


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "::127.0.0.1",
        "fec0::1",
        "64:ff9b:1:a00:1:0:5db8:d822",  # within a site, the translator may read 10.0.0.1 here
    ],
)
def test_a_private_address_inside_another_is_private(address: str) -> None:
    """Translators (NAT64) and tunnels (6to4) lead to the IPv4 address that is written in an IPv6 one."""
    with pytest.raises(TransportFault) as raised:
        refuse_private(parse_url("http://mirror.example/"), ["93.184.216.34", address])
    assert raised.value.reason == "http.redirect"


@pytest.mark.parametrize("address", ["192.0.0.8", "2001:1::1", "2001:20::1", "3fff::1", "5f00::1", "100:0:0:1::1"])
def test_what_is_set_aside_is_no_public_place(address: str) -> None:
    """Whatever this Python's tables say of it: each of these is public to one of the releases that are supported."""
    with pytest.raises(TransportFault) as raised:
        refuse_private(parse_url("http://mirror.example/"), [address])
    assert raised.value.reason == "http.redirect"


@pytest.mark.parametrize("address", ["64:ff9b::5db8:d822", "2002:5db8:d822::1", "2606:2800:220:1::1", "93.184.216.34"])
def test_public_addresses_stay_public(address: str) -> None:
    refuse_private(parse_url("http://mirror.example/"), [address])


@pytest.mark.parametrize("status", [b"abc", b"", b"2 0"])
async def test_an_http2_status_that_is_no_number_is_the_servers_fault(tmp_path: Path, status: bytes) -> None:
    tls = make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certfile, tls.keyfile)
    context.set_alpn_protocols(["h2"])

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    async def server(plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
        await stream.do_handshake()
        await stream.receive_some()
        header = b"\x00\x07:status" + bytes([len(status)]) + status
        await stream.send_all(frame(4, 0, 0, b"") + frame(1, 5, 1, header))
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, server, 0, host="127.0.0.1"))
            url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x"
            async with HttpClient(HttpClientOptions(ca_file=tls.certfile, timeout=5)) as client:
                with pytest.raises(TransportFault) as raised:
                    await client.get(url, most=100)
            nursery.cancel_scope.cancel()
    assert raised.value.reason == "http.protocol"
