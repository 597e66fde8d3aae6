"""The mirror as an ASGI application: routes requests to :mod:`.answers`, and turns every fault into a clear answer.

GET and HEAD only; OPTIONS tells a browser that anybody may read everything. It writes nothing, and holds nothing of a
request once it is answered.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.http.guards import Message, Receive, Scope, Send, problem
from libreseed.errors import LibreSeedError, NotFound, UsageFault

from .answers import Answers
from .routes import match

__all__ = ["Site", "Tally"]

_LOG = logging.getLogger("libreseed.mirror")
_EVERYWHERE = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-ranges, content-length, content-range, etag, retry-after"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]
_METHODS = b"GET, HEAD, OPTIONS"
_PREFLIGHT = [
    (b"allow", _METHODS),
    (b"access-control-allow-methods", _METHODS),
    (b"access-control-allow-headers", b"if-match, if-none-match, if-range, range"),
    (b"access-control-max-age", b"86400"),
]


@dataclass(slots=True)
class Tally:
    """What was answered: requests by handler and status, bytes of bodies."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    bytes_sent: int = 0


class Site:
    """The application."""

    def __init__(self, answers: Answers, tally: Tally) -> None:
        self._answers = answers
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = match(scope["raw_path"])
        name = found.route.handler if found is not None else "none"
        counted = _Counted(self._tally, name, send)
        if found is None and (scope["method"], scope["raw_path"]) != ("OPTIONS", b"*"):
            await problem(counted.send, 404, "http.not-found", detail="no such path: see /openapi.json")
        elif found is None or scope["method"] == "OPTIONS":
            await counted.send({"type": "http.response.start", "status": 204, "headers": _PREFLIGHT})
            await counted.send({"type": "http.response.body", "body": b""})
        elif scope["method"] not in ("GET", "HEAD"):
            await problem(counted.send, 405, "http.method", headers=[(b"allow", _METHODS)])
        else:
            try:
                await self._answers.answer(found, scope, counted.send)
            except (LibreSeedError, OSError) as error:
                if counted.begun:
                    raise
                await _explain(counted.send, error)


class _Counted:
    """A send that adds what every answer has, and counts."""

    def __init__(self, tally: Tally, name: str, send: Send) -> None:
        self._tally = tally
        self._name = name
        self._send = send
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self._tally.requests[self._name, message["status"]] += 1
            names = {name for name, _ in message["headers"]}
            more = [field for field in _EVERYWHERE if field[0] not in names]
            message = {**message, "headers": [*message["headers"], *more]}
        else:
            self._tally.bytes_sent += len(message.get("body", b""))
        await self._send(message)


async def _explain(send: Send, error: LibreSeedError | OSError) -> None:
    """Faults of this machine are told to its log only: their messages have paths."""
    if isinstance(error, OSError):
        error = from_oserror(error)
    ours = error.reason.startswith("mirror.")
    if not ours:
        _LOG.error("a request failed: %s [%s]", error.message, error.reason)
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, UsageFault):
        status = 400
    elif isinstance(error, NotFound):
        status = 404
    else:
        status = 503
        headers = [] if error.reason == "mirror.damaged" else [(b"retry-after", b"5")]  # waiting mends no damage
    await problem(send, status, error.reason, error.message if ours else "", headers)
