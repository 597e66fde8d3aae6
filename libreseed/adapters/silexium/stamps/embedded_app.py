"""The embedded authorities over HTTP, as clients of public ones speak: RFC 3161 and the OpenTimestamps calendar.

``POST /tsa`` (RFC 3161, 3.4), ``POST /digest`` and ``GET /timestamp/<hex>`` (what the reference calendar serves), and
``GET /headers``: the raw regtest chain. Bodies are read up to their bound and no further; every answer carries the
label that all of this proves nothing about the operator. Rate limits and time-outs are the server's. Specification:
``silexium-time.md``, 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import trio
from starlette.responses import Response
from starlette.routing import Route

from libreseed import limits
from libreseed.adapters.silexium.stamps.embedded import EMBEDDED_LABEL, EmbeddedWorld
from libreseed.errors import Malformed
from libreseed.silexium.bitcoin_headers import HEADER_BYTES

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

__all__ = ["embedded_app", "embedded_routes"]

_TSA_QUERY, _TSA_REPLY = "application/timestamp-query", "application/timestamp-reply"
_OTS = "application/vnd.opentimestamps.v1"
_COMMITMENT = re.compile(r"[0-9a-f]{88}", re.ASCII)  # 4 bytes time, 32 root, 8 tag
_DIGEST_MOST = 64  # bytes
_THREADS = 4


def embedded_app(world: EmbeddedWorld) -> Starlette:
    """An ASGI application that serves ``world`` alone; set ``world.uri`` once its own address is known."""
    from starlette.applications import Starlette

    return Starlette(routes=embedded_routes(world))


def embedded_routes(world: EmbeddedWorld) -> list[Route]:
    """The routes, for mounting beside others."""
    threads = trio.CapacityLimiter(_THREADS)

    async def in_thread(work: Callable[[], bytes | None]) -> bytes | None:
        return await trio.to_thread.run_sync(work, limiter=threads)

    async def tsa(request: Request) -> Response:
        body = await _body(request, limits.TSA_REQUEST_BYTES)
        if request.headers.get("content-type") != _TSA_QUERY:
            return _plain(415, f"expected {_TSA_QUERY}")
        if body is None:
            return _plain(413, "the request is too long")
        return _binary(await in_thread(partial(world.answer, body)) or b"", _TSA_REPLY)

    async def digest(request: Request) -> Response:
        body = await _body(request, _DIGEST_MOST)
        try:
            answer = None if body is None else await in_thread(partial(world.submit, body))
        except Malformed as error:
            return _plain(400, error.message)
        return _plain(413, "a digest has at most 64 bytes") if answer is None else _binary(answer, _OTS)

    async def timestamp(request: Request) -> Response:
        text = request.path_params["commitment"]
        if not _COMMITMENT.fullmatch(text):
            return _plain(400, "a commitment is 88 lower-case hex digits")
        try:
            answer = await in_thread(partial(world.timestamp, bytes.fromhex(text)))
        except KeyError:
            return _plain(404, "Not found: never committed to here")
        return _plain(404, "Pending confirmation in a block") if answer is None else _binary(answer, _OTS)

    async def headers(request: Request) -> Response:
        data = await in_thread(world.headers) or b""
        response = _binary(data, "application/octet-stream")
        response.headers["x-header-count"] = str(len(data) // HEADER_BYTES)
        return response

    return [
        Route("/tsa", tsa, methods=["POST"]),
        Route("/digest", digest, methods=["POST"]),
        Route("/timestamp/{commitment}", timestamp, methods=["GET"]),
        Route("/headers", headers, methods=["GET"]),
    ]


async def _body(request: Request, most: int) -> bytes | None:
    """The body, or None once it exceeds ``most`` bytes."""
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > most:
                return None
    return bytes(body)


def _binary(data: bytes, media_type: str) -> Response:
    return Response(data, media_type=media_type, headers={"x-libreseed": EMBEDDED_LABEL})


def _plain(status: int, why: str) -> Response:
    return Response(why, status, media_type="text/plain", headers={"x-libreseed": EMBEDDED_LABEL})
