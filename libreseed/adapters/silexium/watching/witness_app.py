"""A witness over HTTP: C2SP tlog-witness's wire protocol, over BLAKE3.

``POST /add-checkpoint`` cosigns (200), or says why not: 400 no such request, 403 not the log's signature, 404 no such
log, 409 with the size cosigned last (or, for a second root of one size, without), 422 no proof of growth.
``GET /<hex SHA-256 of the origin>/checkpoint`` is the last checkpoint cosigned. Bodies are bounded here, too, so that
the application is safe alone. Specification: ``silexium-log.md``, 8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from libreseed import limits
from libreseed.adapters.silexium.watching.witness_store import WitnessStore
from libreseed.errors import LibreSeedError, LocalFault, NotFound
from libreseed.silexium.log_memory import HeadConflict
from libreseed.silexium.witness_wire import SIZE_MEDIA_TYPE, origin_id, parse_add_checkpoint

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["witness_app"]

_LOG = logging.getLogger("libreseed.silexium.witness")
_TEXT = "text/plain; charset=utf-8"
_STATUS = {
    "silexium.witness-request": 400,
    "silexium.head": 400,
    "silexium.head-signature": 403,
    "silexium.head-log": 404,
    "silexium.witness-size": 409,
    "silexium.consistency": 422,
    "silexium.fork": 422,
    "silexium.rollback": 422,
    "silexium.time-order": 422,
    "silexium.future": 422,
}


def witness_app(store: WitnessStore, clock: Callable[[], int]) -> Starlette:
    """The ASGI application of the witness ``store``; ``clock`` gives Unix seconds."""

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > limits.ADD_CHECKPOINT_BYTES:
                return _answer(413, f"a request has at most {limits.ADD_CHECKPOINT_BYTES} bytes\n")
        parsed = parse_add_checkpoint(bytes(body))
        cosignature = await store.database.run(store.add_checkpoint, parsed, clock())
        _LOG.info("cosigned %d entries of %s", cosignature.head.size, cosignature.head.origin)
        return _answer(200, f"{cosignature.line}\n")

    async def checkpoint(request: Request) -> Response:
        known = {origin_id(origin): origin for origin in store.origins()}
        origin = known.get(request.path_params["log"])
        if origin is None:
            raise NotFound("notfound.log", "no such log is witnessed here")
        return _answer(200, (await store.database.run(store.checkpoint, origin)).decode())

    routes = [
        Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
        Route("/{log}/checkpoint", checkpoint),
    ]
    return Starlette(routes=routes, exception_handlers={LibreSeedError: _refusal})


async def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, LibreSeedError):
        raise AssertionError("registered for LibreSeedError") from error
    if error.reason == "silexium.witness-size":
        return _answer(409, f"{error.evidence['size']}\n", SIZE_MEDIA_TYPE)
    if error.reason == "silexium.fork":
        _LOG.critical("%s", error.message)
        conflict = error.evidence.get("conflict")
        if isinstance(conflict, HeadConflict) and conflict.first.size == conflict.second.size:
            return _answer(409, f"{error.message} [{error.reason}]\n")
    if isinstance(error, NotFound):
        return _answer(404, f"{error.message} [{error.reason}]\n")
    status = _STATUS.get(error.reason, 503)
    if status == 503:
        _LOG.error("%s [%s]", error.message, error.reason)
        return _answer(status, f"{'try again later' if isinstance(error, LocalFault) else error.message}\n")
    return _answer(status, f"{error.message} [{error.reason}]\n")


def _answer(status: int, text: str, media_type: str = _TEXT) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", "access-control-allow-origin": "*"}
    response = Response(text.encode(), status, headers)
    response.headers["content-type"] = media_type  # exactly: tlog-witness names no charset for a size
    return response
