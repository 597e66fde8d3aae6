"""What the seeder tells Prometheus, out of the answers to ``status`` and ``list``: one source for people and machines.

Text format 0.0.4. Numbers are those of docs/operations.md, "Monitoring"; a release's series go when it is removed.
Release names need no escaping (DESIGN 3.1); the directory's name and faults, which others can choose, are left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["METRICS_TYPE", "MetricsPage", "metrics_text"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "libreseed_seeder_"
_STATES = ("seeding", "checking", "damaged", "broken")
_Answer = Mapping[str, Any]

# name, kind, help, path into the answer to ``status``
_SINGLE = (
    ("uptime_seconds", "counter", "Seconds since the start.", ("uptime",)),
    ("store_used_bytes", "gauge", "Bytes of the store in use.", ("store", "used_bytes")),
    ("store_max_bytes", "gauge", "Bytes that the store may use; 0: no limit.", ("store", "max_bytes")),
    ("peers", "gauge", "Connected peers of all releases.", ("peers",)),
    ("uploaded_bytes_total", "counter", "Payload bytes given to peers.", ("uploaded",)),
    ("upload_bytes_per_second", "gauge", "Payload bytes given per second, now.", ("up_rate",)),
    ("download_bytes_per_second", "gauge", "Payload bytes taken per second, now.", ("down_rate",)),
    ("dht_nodes", "gauge", "DHT nodes that have answered.", ("dht", "nodes")),
    ("indexes", "gauge", "Release indexes kept alive.", ("indexes",)),
    ("record_puts_total", "counter", "Signed records put into the DHT.", ("announce", "puts")),
    ("record_put_failures_total", "counter", "Puts that no node gave back.", ("announce", "put_failures")),
    ("announces_total", "counter", "Announces as a peer that a node took.", ("announce", "announces")),
    ("overdue", "gauge", "Records and announces that are overdue.", ("announce", "late_count")),
    ("scrubbed_releases_total", "counter", "Full reads of a release.", ("scrub", "releases_scrubbed")),
    ("chunks_judged_total", "counter", "Chunks read and hashed.", ("scrub", "chunks_judged")),
    ("chunks_healed_total", "counter", "Chunks put right from parity.", ("scrub", "chunks_healed")),
    ("files_mended_total", "counter", "Small files put right.", ("scrub", "files_mended")),
    ("hashed_bytes_total", "counter", "Bytes read to be judged.", ("scrub", "bytes_hashed")),
)
# name, kind, help, keys of one release in the answer to ``list`` that are added up
_EACH = (
    ("release_peers", "gauge", "Connected peers.", ("peers",)),
    ("release_uploaded_bytes_total", "counter", "Payload bytes given to peers.", ("uploaded",)),
    ("release_lag_seconds", "gauge", "By how much the worst put or announce is overdue.", ("lag",)),
    ("release_bad_chunks", "gauge", "Chunks that are damaged here.", ("bad_data_chunks", "bad_parity_chunks")),
)


def metrics_text(status: _Answer, releases: Sequence[_Answer]) -> str:
    """The page for the answers to ``status`` and ``list``."""
    return "".join(line + "\n" for line in _lines(status, releases))


def _lines(status: _Answer, releases: Sequence[_Answer]) -> Iterator[str]:
    yield from _head("info", "gauge", "The program that runs.")
    yield f'{_PREFIX}info{{version="{status["version"]}"}} 1'
    yield from _head("releases", "gauge", "Releases by state.")
    for state in _STATES:
        yield f'{_PREFIX}releases{{state="{state}"}} {status["releases"][state]}'
    for name, kind, says, path in _SINGLE:
        value: Any = status
        for key in path:
            value = value[key]
        yield from _head(name, kind, says)
        yield f"{_PREFIX}{name} {value}"
    for name, kind, says, keys in _EACH:
        yield from _head(name, kind, says)
        for one in releases:
            yield f'{_PREFIX}{name}{{id="{one["id"]}"}} {sum(one.get(key, 0) for key in keys)}'


def _head(name: str, kind: str, says: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}{name} {says}", f"# TYPE {_PREFIX}{name} {kind}"


class MetricsPage:
    """An ASGI application that answers ``GET /metrics`` with what ``collect`` gives, and nothing else."""

    def __init__(self, collect: Callable[[], Awaitable[str]]) -> None:
        self._collect = collect

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        status, body = 404, b"only /metrics is here\n"
        if scope["path"] == "/metrics":
            status, body = 405, b"only GET\n"
            if scope["method"] in ("GET", "HEAD"):
                status, body = 200, (await self._collect()).encode()
        headers = [(b"content-type", METRICS_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
