"""What a mirror says about itself: ``/health`` for people and load balancers, ``/metrics`` for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import libreseed
from libreseed.adapters.http.connections import Connections

from .library import Library
from .scrubber import Scrubber
from .site import Tally

__all__ = ["Gauges"]

_STATES = ("whole", "damaged", "refused", "checking")


class Gauges:
    """Reads the counters of one mirror's parts."""

    def __init__(self, library: Library, scrubber: Scrubber, tally: Tally, connections: Connections) -> None:
        self._library = library
        self._scrubber = scrubber
        self._tally = tally
        self._connections = connections

    def health(self) -> dict[str, object]:
        """``status`` is ``ok`` while every release can be given whole, else ``degraded``."""
        states = self._states()
        return {
            "releases": states,
            "status": "degraded" if states["damaged"] or states["refused"] else "ok",
            "version": libreseed.__version__,
        }

    def metrics(self) -> str:
        """Prometheus' text format, version 0.0.4."""
        return "".join(line + "\n" for line in self._lines())

    def _states(self) -> dict[str, int]:
        found = Counter(holding.state for holding in self._library.holdings.values())
        return {state: found[state] for state in _STATES}

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests by what was asked for and HTTP status.")
        for (name, status), count in sorted(self._tally.requests.items()):
            yield f'libreseed_mirror_requests_total{{path="{name}",status="{status}"}} {count}'
        yield from _head("releases", "gauge", "Releases in the store by state.")
        for state, count in self._states().items():
            yield f'libreseed_mirror_releases{{state="{state}"}} {count}'
        library, connections = self._library, self._connections
        single = (
            ("body_bytes_total", "counter", "Bytes of answers' bodies.", self._tally.bytes_sent),
            ("connections", "gauge", "Open connections.", len(connections)),
            ("idle_connections", "gauge", "Open connections without a request under way.", connections.idle),
            ("connections_evicted_total", "counter", "Idle connections that made room.", connections.evicted),
            ("connections_refused_total", "counter", "Connections turned away.", connections.refused),
            ("chunks_healed_total", "counter", "Chunks put right from parity.", library.healed),
            ("judgements_total", "counter", "Copies read and judged.", library.judged),
            ("scrubs_total", "counter", "Copies read again in the background.", self._scrubber.scrubs),
        )
        for name, kind, text, value in single:
            yield from _head(name, kind, text)
            yield f"libreseed_mirror_{name} {value}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP libreseed_mirror_{name} {text}"
    yield f"# TYPE libreseed_mirror_{name} {kind}"
