"""Servers for tests of HTTP: real sockets on loopback, a certificate made on the spot, raw clients that misbehave."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libreseed.adapters.http.connections import Connections
from libreseed.adapters.http.guards import ASGI, Receive, Scope, Send
from libreseed.adapters.http.server import HttpServerOptions, serve

__all__ = ["Served", "TlsFiles", "answer", "make_tls", "raw_request", "served"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A self-signed certificate for ``localhost`` and loopback addresses, and its key."""

    certfile: Path
    keyfile: Path


def make_tls(folder: Path, *, hosts: tuple[str, ...] = ("127.0.0.1", "::1")) -> TlsFiles:
    """Write ``cert.pem`` and ``key.pem`` into ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(host)) for host in hosts)]
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = TlsFiles(folder / "cert.pem", folder / "key.pem")
    files.certfile.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.keyfile.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files.keyfile.chmod(0o600)
    return files


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its URL, host and port, and what is open."""

    url: str
    host: str
    port: int
    connections: Connections
    nursery: trio.Nursery


@asynccontextmanager
async def served(app: ASGI, options: HttpServerOptions | None = None) -> AsyncIterator[Served]:
    """``app`` on a port of the system's choice, until the block is left."""
    options = replace(options or HttpServerOptions(), port=0)
    connections = Connections(options.connections, options.connections_per_client, options.trusted_proxies)
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, app, options, connections=connections))
        host, _, port = urls[0].partition("://")[2].rpartition(":")
        yield Served(urls[0], host.strip("[]"), int(port), connections, nursery)
        nursery.cancel_scope.cancel()


async def answer(
    send: Send, status: int = 200, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send a whole answer."""
    fields = headers if headers is not None else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, path and body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await answer(send, body=f"{scope['method']} {scope['path']} ".encode() + body)


async def raw_request(served: Served, data: bytes, *, most: int = 2**20) -> bytes:
    """Send ``data`` as it is and read until the server closes."""
    async with await trio.open_tcp_stream(served.host, served.port) as stream:
        await stream.send_all(data)
        got = b""
        while len(got) < most and (part := await stream.receive_some()):
            got += part
    return got
