"""One HTTP server around any ASGI application: HTTP/1.1 and 2 by hypercorn's protocol code on trio, TLS, and bounds.

What this adds to hypercorn's protocol code, and why its own ``serve`` is not used: connections are capped and idle ones
make room (:mod:`libreseed.adapters.http.connections`); clients that do not read are dropped, and cannot make us keep
what they do not read (:mod:`libreseed.adapters.http.conversation`); an exception in one connection's protocol code
(HTTP/2 lets a peer cause some) ends that connection only; and cancellation is a graceful stop: no new connections,
``grace_seconds`` for answers under way, then all are closed.

An application gets no lifespan events: long-lived parts belong to the service that composes them. No ``Server`` header.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from libreseed import limits
from libreseed.adapters.command.listening import listen_addresses
from libreseed.adapters.http.connections import Connection, Connections, SteadyStream
from libreseed.adapters.http.conversation import Conversation, Setting
from libreseed.adapters.http.guards import ASGI, Guard, GuardOptions
from libreseed.adapters.http.rate_limit import Rate, RateLimiter
from libreseed.errors import LocalFault, UsageFault

__all__ = ["HttpServerOptions", "ServerTls", "serve"]

_LOG = logging.getLogger("libreseed.http")
_BACKLOG = 512
_ACCEPTED_AT_ONCE = 64
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OUT_OF_FILES_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class HttpServerOptions:
    """Where to listen and what a client may cost. Port 0 lets the system choose; times are seconds.

    ``head_seconds`` is for a TLS handshake, for a request's head, and for idling between requests; ``body_seconds`` for
    a request's whole body; ``stall_seconds`` for the client to take a portion of the answer. ``rate`` is per client;
    None sets no bound. ``trusted_proxies`` are addresses whose ``X-Forwarded-For`` names the client.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certfile: Path | None = None
    keyfile: Path | None = None
    http2: bool = True
    connections: int = limits.HTTP_CONNECTIONS
    connections_per_client: int = limits.HTTP_CONNECTIONS_PER_CLIENT
    max_body: int = limits.HTTP_BODY_BYTES
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    stall_seconds: float = 30.0
    grace_seconds: float = 5.0
    rate: Rate | None = None
    trusted_proxies: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if (self.certfile is None) != (self.keyfile is None):
            raise UsageFault("config.tls", "a certificate needs its key, and a key its certificate")


async def serve(
    app: ASGI,
    options: HttpServerOptions,
    *,
    connections: Connections | None = None,
    tls: ServerTls | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until cancelled; ``started`` gets the base URLs, one per address of the host.

    ``connections`` lets the caller count what is open and share one count among several servers, ``tls`` lets it read
    the certificate anew. Raises :class:`LocalFault` ``config.port`` when it cannot listen
    and ``config.tls`` for a certificate or key that cannot be used.
    """
    if connections is None:
        connections = Connections(options.connections, options.connections_per_client, options.trusted_proxies)
    if tls is None and options.certfile is not None and options.keyfile is not None:
        tls = ServerTls(options.certfile, options.keyfile, http2=options.http2)
    listeners = await _listen(options)
    door = _Door(app, options, connections, tls.context if tls is not None else None)
    urls = [_url(listener, tls is not None) for listener in listeners]
    async with trio.open_nursery() as nursery:
        handlers = await nursery.start(door.shelter)
        for listener in listeners:
            nursery.start_soon(door.accept, listener, handlers)
        task_status.started(urls)
        try:
            await trio.sleep_forever()
        finally:
            door.stop.set()


class _Door:
    """Takes connections in and sees them out."""

    def __init__(
        self, app: ASGI, options: HttpServerOptions, connections: Connections, tls: ssl.SSLContext | None
    ) -> None:
        self._options = options
        self._connections = connections
        self._tls = tls
        bounds = GuardOptions(options.max_body, options.body_seconds, options.stall_seconds, options.trusted_proxies)
        rate = RateLimiter(options.rate, clients=limits.HTTP_RATE_CLIENTS) if options.rate is not None else None
        guard: Any = Guard(app, bounds, connections=connections, rate=rate)
        config = _hypercorn_config(options)
        self._setting = Setting(wrap_app(guard, 0, "asgi"), config, WorkerContext(None), connections)
        self._emptied = trio.Event()
        self.stop = trio.Event()

    async def shelter(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """A nursery that outlives the server's cancellation by the grace that answers under way have."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as handlers:
                task_status.started(handlers)
                await self.stop.wait()
                await self._setting.context.terminated.set()  # idle connections close, the others after their answer
                with trio.move_on_after(self._options.grace_seconds):
                    while len(self._connections):
                        self._emptied = trio.Event()
                        await self._emptied.wait()
                self._connections.abort_all()
                handlers.cancel_scope.cancel()

    async def accept(self, listener: trio.SocketListener, handlers: trio.Nursery) -> None:
        """Take in all that wait, a burst per round of the event loop: one per round would keep hundreds that come at
        once waiting for hundreds of rounds, each as long as the work of those that are in already."""
        async with listener:
            with socket.socket(fileno=os.dup(listener.socket.fileno())) as door:  # trio's own accepts one per round
                while True:
                    await trio.lowlevel.wait_readable(door)
                    try:
                        self._accept_burst(door, handlers)
                    except OSError as error:  # out of descriptors: idle connections hold some
                        _LOG.warning("cannot accept a connection: %s", error.strerror)
                        self._connections.make_room()
                        await trio.sleep(_OUT_OF_FILES_PAUSE_S)

    def _accept_burst(self, door: socket.socket, handlers: trio.Nursery) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _ = door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    raise
                continue  # that one has left already
            self._admit(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)), handlers)

    def _admit(self, stream: trio.SocketStream, handlers: trio.Nursery) -> None:
        steady = SteadyStream(stream, self._options.stall_seconds)
        try:
            peer, local = stream.socket.getpeername()[:2], stream.socket.getsockname()[:2]
        except OSError:  # it has left already
            steady.abort()
            return
        connection = Connection(steady, peer, local)
        if not self._connections.admit(connection):
            steady.abort()
            return
        handlers.start_soon(self._handle, connection)

    async def _handle(self, connection: Connection) -> None:
        stream: Any = connection.stream
        if self._tls is not None:
            stream = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        try:
            await Conversation(self._setting, connection, stream).run()
        except Exception:  # noqa: BLE001  # the one top of each connection
            # Protocol code that a peer can make fail must not take the other connections with it.
            _LOG.warning("a connection of %s ended by a defect", connection.client, exc_info=_LOG.isEnabledFor(10))
        finally:
            connection.abort()
            self._connections.leave(connection)
            self._emptied.set()


def _hypercorn_config(options: HttpServerOptions) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = _LOG
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.HTTP_HEAD_BYTES
    config.h2_max_header_list_size = limits.HTTP_HEAD_BYTES
    config.h2_max_concurrent_streams = limits.HTTP_STREAMS
    config.keep_alive_timeout = options.head_seconds
    config.keep_alive_max_requests = limits.HTTP_REQUESTS_PER_CONNECTION
    config.ssl_handshake_timeout = options.head_seconds
    config.graceful_timeout = options.grace_seconds
    return config


class ServerTls:
    """A server's TLS, at least 1.2, for its certificate and key; raises :class:`LocalFault` ``config.tls``."""

    def __init__(self, certfile: Path, keyfile: Path, *, http2: bool = True) -> None:
        self._files = (certfile, keyfile)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        self.context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # RFC 9113, 9.2.2
        self.context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
        self.reload()

    def reload(self) -> None:
        """Read certificate and key anew, for handshakes to come; on a fault the present ones stay."""
        certfile, keyfile = self._files
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, "")  # do they fit?
            self.context.load_cert_chain(certfile, keyfile, "")  # a passphrase is never asked for
        except (OSError, ssl.SSLError) as error:
            message = f"cannot use the certificate {certfile} with the key {keyfile}: {error}"
            raise LocalFault("config.tls", message) from error


async def _listen(options: HttpServerOptions) -> list[trio.SocketListener]:
    listeners: list[trio.SocketListener] = []
    port = options.port
    try:
        for host, _ in await listen_addresses([(options.host, options.port)]):
            opened = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
            listeners.extend(opened)
            port = port or opened[0].socket.getsockname()[1]  # one number for all addresses of the name
    except OSError as error:
        for listener in listeners:
            listener.socket.close()
        message = f"cannot listen on {options.host} port {options.port}/tcp: {error.strerror or error}"
        raise LocalFault("config.port", message) from error
    return listeners


def _url(listener: trio.SocketListener, tls: bool) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
