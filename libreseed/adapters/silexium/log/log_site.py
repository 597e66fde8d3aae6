"""Serves a folder of a log's static files over HTTP: only paths of the log, and nothing else that lies in the folder.

For who has no web server at hand; any one does as well. Specification: ``silexium-log.md``, 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.errors import LibreSeedError, NotFound
from libreseed.silexium.log_path import CHECKPOINT_PATH, EntryFile, parse_log_path

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["folder_app"]

_FOREVER = "public, max-age=31536000, immutable"
_READERS = 16  # files read at once


def folder_app(folder: LogFolder) -> Starlette:
    """The ASGI application over ``folder``."""
    limiter = trio.CapacityLimiter(_READERS)

    async def checkpoint(request: Request) -> Response:
        data = await trio.to_thread.run_sync(folder.checkpoint, limiter=limiter)
        if data is None:
            raise NotFound("notfound.log", "there is no checkpoint yet")
        return _answer(data, "text/plain; charset=utf-8", "no-cache")

    async def file(request: Request) -> Response:
        place = parse_log_path(request.url.path[1:])
        data = await trio.to_thread.run_sync(folder.read, place.path, limiter=limiter)
        kind = "application/json" if isinstance(place, EntryFile) else "application/octet-stream"
        return _answer(data, kind, _FOREVER)

    routes = [
        Route(f"/{CHECKPOINT_PATH}", checkpoint),
        Route("/tile/{path:path}", file),
        Route("/entries/{index}", file),
    ]
    return Starlette(routes=routes, exception_handlers={LibreSeedError: _refusal})


async def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, LibreSeedError):
        raise AssertionError("registered for LibreSeedError") from error
    missing = isinstance(error, NotFound) or error.reason == "silexium.tile"
    text = f"{'not found' if missing else 'try again later'} [{error.reason}]\n"
    response = _answer(text.encode(), "text/plain; charset=utf-8", "no-store")
    response.status_code = 404 if missing else 503
    return response


def _answer(data: bytes, kind: str, caching: str) -> Response:
    headers = {"cache-control": caching, "x-content-type-options": "nosniff", "access-control-allow-origin": "*"}
    return Response(data, media_type=kind, headers=headers)
