"""The HTTP API: requests in, bytes out. What an answer says: :mod:`libreseed.adapters.silexium.releases.answers`.

Every answer is made under one head, looked up at most once per second. Errors are problem documents (RFC 9457) with the
reason code. Bodies, rates and times are bounded by the server around it
(:mod:`libreseed.adapters.http.server`); bodies here, too, so that the application is safe alone. Specification:
``silexium-api.md``, 4.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from libreseed import limits
from libreseed.adapters.silexium.database import Database
from libreseed.adapters.silexium.releases.answers import Answers, Served, question_of
from libreseed.errors import LibreSeedError, Malformed, NotFound
from libreseed.ids import ReleaseId
from libreseed.silexium.cbor import CBOR_TYPE
from libreseed.silexium.install_request import parse_install_request
from libreseed.silexium.log_path import parse_log_path

from .openapi import openapi_document

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

__all__ = ["Api", "Health", "build_app"]

_LOG = logging.getLogger("libreseed.silexium")
_HEAD_SECONDS = 1.0  # that an answer may be behind the newest head
_FOREVER = "public, max-age=31536000, immutable"
_JSON, _NOTE, _OCTETS = "application/json", "text/plain; charset=utf-8", "application/octet-stream"
_STATUS = {
    "silexium.request": 400,
    "silexium.head": 409,
    "silexium.head-log": 409,
    "silexium.head-signature": 409,
    "silexium.tile": 404,
    "silexium.behind": 409,
    "silexium.fork": 409,
    "silexium.unready": 503,
}
_REASONS = {404: "http.not-found", 405: "http.method", 413: "http.body-too-large", 415: "http.media-type"}
Handler = Callable[["Request"], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well, and what to tell."""

    ok: bool
    members: dict[str, object]


@dataclass
class Api:
    """The handlers. ``keys``, ``health`` and ``metrics`` are asked in a thread, because they read the database."""

    answers: Answers
    database: Database
    keys: Callable[[], dict[str, object]]
    health: Callable[[Served | None], Health]
    metrics: Callable[[Served | None], str]
    _served: Served | None = None
    _seen: float = -_HEAD_SECONDS - 1.0
    _looking: bool = False
    _first: trio.Lock = field(default_factory=trio.Lock)

    async def served(self) -> Served:
        """What is served now; raises ``silexium.unready`` before the first head.

        One request looks for a newer head while the others go on with the last one: if they all waited, they would be
        let go one by one, each in a round of the event loop of its own.
        """
        if self._served is None:
            async with self._first:
                return self._served or await self._look()
        if trio.current_time() - self._seen > _HEAD_SECONDS and not self._looking:
            return await self._look()
        return self._served

    async def _look(self) -> Served:
        self._looking = True
        try:
            self._served = await self.database.run(self.answers.served, self._served)
        finally:
            self._looking = False
        self._seen = trio.current_time()
        return self._served

    def look_again(self) -> None:
        """There may be a new head: look before the next answer."""
        self._seen = -_HEAD_SECONDS - 1.0

    async def install(self, request: Request) -> Response:
        """POST /install and /resolve."""
        return await self._answer(request, update=False)

    async def update(self, request: Request) -> Response:
        """POST /update."""
        return await self._answer(request, update=True)

    async def _answer(self, request: Request, *, update: bool) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (_JSON, CBOR_TYPE):
            return _problem(415, "http.media-type", "send application/json or application/cbor")
        body = await _body(request)
        if body is None:
            return _problem(413, "http.body-too-large")
        question = parse_install_request(body, update=update, cbor=media_type == CBOR_TYPE)
        served, cbor = await self.served(), _wants_cbor(request)
        answer = served.cached(question_of(question, update=update, cbor=cbor))
        if answer is None:
            answer = await self.database.run(lambda: self.answers.install(served, question, update=update, cbor=cbor))
        response = _response(answer, CBOR_TYPE if cbor else _JSON, "no-store")
        response.headers["vary"] = "accept"
        return response

    async def bundle(self, request: Request) -> Response:
        """GET /bundle/{release}."""
        try:
            release = ReleaseId.parse(request.path_params["release"])
        except Malformed as error:
            raise NotFound("notfound.version", error.message) from error
        served = await self.served()
        answer = served.cached(release)
        if answer is None:
            answer = await self.database.run(self.answers.bundle, served, release)
        return _response(answer, _JSON, "no-cache")

    async def checkpoint(self, request: Request) -> Response:
        """GET /checkpoint."""
        return _response((await self.served()).checkpoint.data, _NOTE, "no-cache")

    async def tile(self, request: Request) -> Response:
        """GET /tile/..."""
        return await self._file(f"tile/{request.path_params['path']}", _OCTETS)

    async def entry(self, request: Request) -> Response:
        """GET /entries/{index}."""
        return await self._file(f"entries/{request.path_params['index']}", _JSON)

    async def _file(self, path: str, media_type: str) -> Response:
        """What never changes once it is there."""
        place = parse_log_path(path)
        data = await self.database.run(self.answers.file, await self.served(), place)
        return _response(data, media_type, _FOREVER)

    async def show_keys(self, request: Request) -> Response:
        """GET /keys."""
        return _json(200, await self.database.run(self.keys))

    async def show_health(self, request: Request) -> Response:
        """GET /health."""
        health = await self.database.run(self.health, await self._served_or_none())
        return _json(200 if health.ok else 503, health.members)

    async def show_metrics(self, request: Request) -> Response:
        """GET /metrics."""
        text = await self.database.run(self.metrics, await self._served_or_none())
        return _response(text.encode(), "text/plain; version=0.0.4; charset=utf-8", "no-store")

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return _json(200, openapi_document())

    async def _served_or_none(self) -> Served | None:
        try:
            return await self.served()
        except LibreSeedError:
            return None


def build_app(api: Api) -> Starlette:
    """The ASGI application."""
    routes = [
        Route("/install", api.install, methods=["POST"]),
        Route("/resolve", api.install, methods=["POST"]),
        Route("/update", api.update, methods=["POST"]),
        Route("/health", api.show_health),
        Route("/keys", api.show_keys),
        Route("/checkpoint", api.checkpoint),
        Route("/tile/{path:path}", api.tile),
        Route("/entries/{index}", api.entry),
        Route("/bundle/{release}", api.bundle),
        Route("/metrics", api.show_metrics),
        Route("/openapi.json", api.openapi),
    ]
    handlers: dict[Any, Any] = {LibreSeedError: _refusal, 404: _http_error, 405: _http_error, Exception: _defect}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _refusal(request: Request, error: Exception) -> Response:
    """A declared failure as a problem document; evidence only where it is a proof that others should see."""
    if not isinstance(error, LibreSeedError):
        raise AssertionError("registered for LibreSeedError") from error
    status = _STATUS.get(error.reason)
    if status is None:
        status = 404 if isinstance(error, NotFound) else 503
    if status == 503:
        _LOG.error("%s %s: %s [%s]", request.method, request.url.path, error.message, error.reason)
        return _problem(status, error.reason, "try again later", headers={"retry-after": "10"})
    if error.reason != "silexium.fork":
        return _problem(status, error.reason, error.message)
    _LOG.critical("%s", error.message)
    return _problem(status, error.reason, error.message, evidence=dict(error.evidence))


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals, in the same form."""
    fault: HTTPException = error  # type: ignore[assignment]  # registered for status codes
    detail = "no such path: see /openapi.json" if fault.status_code == 404 else ""
    return _problem(fault.status_code, _REASONS[fault.status_code], detail, headers=dict(fault.headers or {}))


def _wants_cbor(request: Request) -> bool:
    """Whether CBOR stands before JSON in ``Accept``; without either it is JSON."""
    ranges = [item.partition(";")[0].strip().lower() for item in request.headers.get("accept", "").split(",")]
    return next((item for item in ranges if item in (CBOR_TYPE, _JSON)), _JSON) == CBOR_TYPE


async def _defect(request: Request, error: Exception) -> Response:
    """What should not be: told without a word about why; the server logs it with its traceback."""
    return _problem(500, "bug")


async def _body(request: Request) -> bytes | None:
    """The body; None as soon as it is too long."""
    body = bytearray()
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            body += piece
            if len(body) > limits.INSTALL_REQUEST_BYTES:
                return None
    return bytes(body)


def _response(data: bytes, media_type: str, caching: str) -> Response:
    headers = {"cache-control": caching, "x-content-type-options": "nosniff"}
    return Response(data, media_type=media_type, headers=headers)


def _json(status: int, value: object) -> Response:
    response = _response(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), _JSON, "no-store")
    response.status_code = status
    return response


def _problem(
    status: int, reason: str, detail: str = "", *, headers: dict[str, str] | None = None, evidence: object = None
) -> Response:
    members: dict[str, object] = {"status": status, "reason": reason}
    if detail:
        members["detail"] = detail[: limits.REPORT_CHARS]
    if evidence is not None:
        members["evidence"] = evidence
    response = _json(status, members)
    response.headers["content-type"] = "application/problem+json"
    response.headers.update(headers or {})
    return response
