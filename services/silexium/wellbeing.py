"""What a server says of itself: its keys, its health, its figures for Prometheus; and the count of what it answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from libreseed.adapters.http.connections import Connections
from libreseed.adapters.http.guards import ASGI, Message, Receive, Scope, Send
from libreseed.adapters.silexium.releases.answers import Served
from libreseed.adapters.silexium.releases.catalogue import ReleaseState
from libreseed.silexium.instants import LAST_INSTANT, format_instant
from libreseed.silexium.keyring import ROLES, KeyId, TrustedKey

from .api import Health
from .office import Office, wall_clock
from .pump import Pump

__all__ = ["Wellbeing", "key_members"]

_ROUTES = frozenset(
    ("install", "resolve", "update", "health", "keys", "checkpoint", "tile", "entries", "bundle", "metrics")
)
_COUNT_SECONDS = 5.0
_STALE = 3  # intervals without a new head, after which something is wrong


@dataclass
class Wellbeing:
    """``keys``, ``health`` and ``metrics`` read the database and block; ``counting`` wraps the application."""

    office: Office
    pump: Pump
    connections: Connections
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    _counts: dict[ReleaseState, int] = field(default_factory=dict)
    _counted: float = -_COUNT_SECONDS

    def keys(self) -> dict[str, object]:
        """The log's key, the server's, and every key that releases are taken from."""
        identity = self.office.site.log_identity()
        server = self.office.site.server_public()
        return {
            "log": {"origin": identity.name, "key": str(identity.key), "key_id": str(KeyId.of(identity.key))},
            "server": {"key": str(server), "key_id": str(KeyId.of(server))},
            "keys": [key_members(key) for key in self.office.keys.listed()],
            "time": dict(self.office.time_table),
        }

    def health(self, served: Served | None) -> Health:
        """Not well: no head, a head that should have been signed anew, or a publication that stands still."""
        now, fault = wall_clock(), self.pump.fault
        counts = self._release_counts()
        waiting = sum(counts[state] for state in (ReleaseState.STAGED, ReleaseState.PENDING, ReleaseState.COMPLETE))
        old = served is None or now - served.head.timestamp > _STALE * self.office.site.head_seconds + 60
        members: dict[str, object] = {
            "status": "degraded" if old or fault is not None else "ok",
            "tree_size": served.head.size if served else None,
            "head_time": format_instant(served.head.timestamp) if served else None,
            "releases_waiting": waiting,
            "publication": "ok" if fault is None else fault.reason,
        }
        return Health(not old and fault is None, members)

    def metrics(self, served: Served | None) -> str:
        """The text that Prometheus reads."""
        return "".join(f"{line}\n" for line in self._lines(served))

    def _release_counts(self) -> dict[ReleaseState, int]:
        """Counting goes over all releases, so it is not done for every question."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self._counts, self._counted = self.office.catalogue.counts(), time.monotonic()
        return self._counts

    def _lines(self, served: Served | None) -> Iterator[str]:
        counts = self._release_counts()
        yield from _family("releases", "gauge", "releases by state", {f'state="{k}"': v for k, v in counts.items()})
        figures: list[tuple[str, str, str, float]] = [
            ("tree_size", "gauge", "entries under the served head", served.head.size if served else 0),
            ("head_timestamp_seconds", "gauge", "when it was signed", served.head.timestamp if served else 0),
            ("publication_ok", "gauge", "0 while publication stands still", int(self.pump.fault is None)),
            ("logged_total", "counter", "releases logged since the start", self.pump.logged),
            ("refused_total", "counter", "releases refused on their way since the start", self.pump.refused),
            ("stamp_refusals_total", "counter", "stamps that did not hold or did not come", self.pump.stamp_refusals),
            ("connections", "gauge", "open connections", len(self.connections)),
        ]
        for name, kind, text, value in figures:
            yield from _family(name, kind, text, {"": value})
        requests = {f'route="{route}",status="{status}"': n for (route, status), n in sorted(self.answered.items())}
        yield from _family("http_requests_total", "counter", "answers by route and status", requests)

    def counting(self, app: Any) -> ASGI:
        """The application, its answers counted by the first segment of the path and the status."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            first = scope["path"].strip("/").partition("/")[0]
            route = first if first in _ROUTES else "other"

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.answered[route, message["status"]] += 1
                await send(message)

            await app(scope, receive, sending)

        return counted


def key_members(key: TrustedKey) -> dict[str, object]:
    """A key as the API and ``key list`` show it."""
    members: dict[str, object] = {
        "key": str(key.public),
        "key_id": str(key.key_id),
        "roles": [str(role) for role in ROLES if role in key.roles],
    }
    if key.packages is not None:
        members["packages"] = sorted(map(str, key.packages))
    if key.not_before > 0:
        members["not-before"] = format_instant(key.not_before)
    if key.not_after < LAST_INSTANT:
        members["not-after"] = format_instant(key.not_after)
    if key.revoked_at is not None:
        members["revoked-at"] = format_instant(key.revoked_at)
    return members


def _family(name: str, kind: str, text: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP silexium_{name} {text}"
    yield f"# TYPE silexium_{name} {kind}"
    for labels, value in values.items():
        yield f"silexium_{name}{f'{{{labels}}}' if labels else ''} {value}"
