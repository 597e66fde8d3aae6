"""ASGI middleware that every server wears: bodies are bounded in size and time, clients in rate, readers in patience.

Innermost to outermost the application sees: a head within bounds (431; the protocol code below sees to one that never
ends, but takes a longer one that comes at once); a body of at most ``max_body`` bytes (413), whole within
``body_seconds`` (408); a rate per client (429 with ``Retry-After``); and sends that fail once the client is gone or
does not read for ``stall_seconds``, so that no handler works for nobody. Answers of its own are problem documents
(RFC 9457) with the reason code. WebSockets are refused. It does not compress, log or authenticate.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import trio

from libreseed import limits
from libreseed.adapters.http.connections import Connections
from libreseed.adapters.http.rate_limit import RateLimiter

__all__ = ["ASGI", "ClientGone", "CutOff", "Guard", "GuardOptions", "Message", "Receive", "Scope", "Send", "problem"]

_LOG = logging.getLogger("libreseed.http")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
Seen = Callable[[Scope, int], None]


class ClientGone(Exception):
    """Nobody reads the answer any more; ends the handler, never seen outside the server."""


class CutOff(Exception):
    """The answer cannot go on: what was begun is cut off, so that nobody takes it for whole; else it is a 503."""


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Bounds of one request: bytes and seconds; ``trusted_proxies`` are addresses whose X-Forwarded-For is believed."""

    max_body: int
    body_seconds: float
    stall_seconds: float
    trusted_proxies: frozenset[str] = frozenset()


class Guard:
    """The application, guarded."""

    def __init__(
        self, app: ASGI, options: GuardOptions, *, connections: Connections, rate: RateLimiter | None = None
    ) -> None:
        self._app = app
        self._options = options
        self._connections = connections
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of ``scope``."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        if scope["type"] != "http":
            return  # the life of an application is its service's matter
        exchange = _Exchange(self._options, self._connections, scope, receive, send)
        try:
            await self._serve(scope, exchange)
        except ClientGone:  # while the application answered, or while a refusal was told
            return

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        client = _client(scope, self._options.trusted_proxies)
        scope["client"] = (client, scope["client"][1]) if scope.get("client") else None
        try:
            if self._rate is not None and (wait := self._rate.wait(client, trio.current_time())):
                await problem(exchange.send, 429, "http.rate", headers=[(b"retry-after", b"%d" % (int(wait) + 1))])
                return
            exchange.check_head()
            exchange.check_length()
            await self._app(scope, exchange.receive, exchange.send)
        except _Refused as refusal:
            if not exchange.begun:
                await problem(exchange.send, refusal.status, refusal.reason, headers=[(b"connection", b"close")])
            else:
                exchange.abort()
        except CutOff as cause:
            _LOG.warning("an answer is cut off: %s", cause)
            if exchange.begun:
                exchange.abort()
            else:
                await problem(exchange.send, 503, "http.cut-off", headers=[(b"retry-after", b"5")])


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, options: GuardOptions, connections: Connections, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._options = options
        self._receive = receive
        self._send = send
        self._scope = scope
        self._taken = 0
        self._ended = False
        self._deadline = trio.current_time() + options.body_seconds
        peer, local = scope.get("client"), scope.get("server")
        here = (local[0], local[1]) if local else None
        self._connection = connections.find((peer[0], peer[1]), here) if peer else None
        self.begun = False

    def check_head(self) -> None:
        """Refuse a request line and header fields above the bound."""
        fields = sum(len(name) + len(value) for name, value in self._scope["headers"])
        line = len(self._scope.get("raw_path") or b"") + len(self._scope.get("query_string", b""))
        if line + fields > limits.HTTP_HEAD_BYTES:
            raise _Refused(431, "http.head-too-large")

    def check_length(self) -> None:
        """Refuse by ``content-length`` before anything is read."""
        for name, value in self._scope["headers"]:
            if name == b"content-length" and int(value) > self._options.max_body:
                raise _Refused(413, "http.body-too-large")

    async def receive(self) -> Message:
        if self._ended:  # what comes now is the client's leaving, for which an application may wait
            return await self._receive()
        with trio.CancelScope(deadline=self._deadline) as patience:
            message = await self._receive()
        if patience.cancelled_caught:
            raise _Refused(408, "http.body-timeout")
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._taken > self._options.max_body:
                raise _Refused(413, "http.body-too-large")
        return message

    async def send(self, message: Message) -> None:
        if self._connection is not None and self._connection.gone:
            raise ClientGone
        self.begun = True
        with trio.move_on_after(self._options.stall_seconds) as patience:
            await self._send(message)
        if patience.cancelled_caught:  # HTTP/2: the client's window stays shut
            self.abort()
            raise ClientGone

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()


def _client(scope: Scope, trusted: frozenset[str]) -> str:
    """The client's address: the peer's, or what a trusted proxy says about whom it speaks for."""
    peer = scope["client"][0] if scope.get("client") else ""
    if peer not in trusted:
        return str(peer)
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = b",".join(forwarded).decode("latin-1").split(",")
    return next((hop.strip() for hop in reversed(hops) if hop.strip() and hop.strip() not in trusted), str(peer))


async def problem(
    send: Send, status: int, reason: str, detail: str = "", headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Answer with a problem document (RFC 9457): ``status``, our ``reason`` code and a ``detail`` for a person."""
    body = json.dumps({"status": status, "reason": reason, **({"detail": detail} if detail else {})}).encode()
    fields = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
