"""The paths of a mirror: one table that routes, documents (:mod:`.openapi`) and bounds what a path can say.

A path is split while it is still percent-encoded, and every segment that can vary is read by a strict type: a release,
a name, a number from 0 to 255. Nothing from a path ever becomes a file name but by way of these.
docs/specification/mirror.md, 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from libreseed import limits
from libreseed.errors import Malformed, UsageFault
from libreseed.ids import PackageName, ReleaseId

__all__ = ["LEAST_COHERENCE", "PARAMETERS", "ROUTES", "Match", "Parameter", "Route", "match", "query_value"]

LEAST_COHERENCE = Fraction(limits.COHERENCE_NUM, limits.COHERENCE_DEN)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_COHERENCE = re.compile(r"0\.[0-9]{1,9}|1(?:\.0{1,9})?", re.ASCII)


def _byte(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > 255:
        raise ValueError("a number from 0 to 255 is wanted")
    return int(text)


def _coherence(text: str) -> Fraction:
    if not _COHERENCE.fullmatch(text) or Fraction(text) < LEAST_COHERENCE:
        raise ValueError("a number from 0.954 to 1 is wanted")
    return Fraction(text)


def _seed_suffix(text: str) -> str:
    """The suffix of a file in a release's torrent; the rest is compared with the release afterwards."""
    for suffix in (".tgz", ".chunks", ".parity"):
        if text.endswith(suffix):
            return text
    raise ValueError("no file of a torrent")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of a path or query that varies: how it is read, and its JSON schema."""

    read: Callable[[str], Any]
    schema: Mapping[str, object]
    text: str


_BYTE_SCHEMA = {"type": "integer", "minimum": 0, "maximum": 255}
PARAMETERS: Mapping[str, Parameter] = {
    "release": Parameter(
        ReleaseId.parse,
        {"type": "string", "maxLength": 129, "pattern": r"^[a-z0-9][a-z0-9._-]{0,63}@[0-9A-Za-z.+-]{5,64}$"},
        "name@version",
    ),
    "name": Parameter(PackageName, {"type": "string", "pattern": r"^[a-z0-9][a-z0-9._-]{0,63}$"}, "a package's name"),
    "part": Parameter(_byte, _BYTE_SCHEMA, "number of the part within its component"),
    "componentPath": Parameter(_byte, _BYTE_SCHEMA, "number of the component"),
    "component": Parameter(_byte, {**_BYTE_SCHEMA, "default": 0}, "number of the component"),
    "coherence": Parameter(
        _coherence,
        {"type": "number", "minimum": 0.954, "maximum": 1, "default": 0.954},
        "the least share of verified parts in every stripe of the copy; it is healed first if it has less",
    ),
    "file": Parameter(
        _seed_suffix,
        {
            "type": "string",
            "maxLength": 140,
            "pattern": r"^[a-z0-9][a-z0-9._-]{0,63}@[0-9A-Za-z.+-]{5,64}\.(tgz|chunks|parity)$",
        },
        "name@version and .tgz, .chunks or .parity",
    ),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A path: its segments (``{name}`` varies), the handler's name, what it answers, and its query parameters."""

    segments: tuple[str, ...]
    handler: str
    summary: str
    media_type: str
    query: tuple[str, ...] = ()
    ranges: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """A route and the values in the path and query, by name."""

    route: Route
    values: Mapping[str, Any] = field(default_factory=dict)


_JSON = "application/json"
_BYTES = "application/octet-stream"
_TGZ = "application/gzip"
ROUTES: tuple[Route, ...] = (
    Route(("packages", "{release}"), "package", "The .tgz of a release, from a whole copy", _TGZ, ("coherence",)),
    Route(("packages", "{release}", "zip"), "package_zip", "The DIRAM package zip", "application/zip", ("coherence",)),
    Route(("packages", "{release}", "parts", "{part}"), "part", "A part file", _BYTES, ("component",)),
    Route(
        ("packages", "{release}", "components", "{componentPath}", "{part}"),
        "part",
        "The same, without a query",
        _BYTES,
    ),
    Route(("packages", "{release}", "minimal.json"), "minimal", "The minimal manifest", _JSON),
    Route(("packages", "{release}", "dht.json"), "dht_record", "The packager's DHT signature", _JSON),
    Route(("packages", "{release}", "torrent"), "torrent", "The torrent", "application/x-bittorrent"),
    Route(("packages", "{release}", "chunks"), "chunks", "The chunk map", _BYTES),
    Route(("packages", "{release}", "parity"), "parity", "The parity file", _BYTES),
    Route(("packages", "{release}", "silexium.json"), "bundle", "The Silexium bundle", _JSON),
    Route(
        ("packages", "{release}", "integrity-manifest.json"),
        "components",
        "SHA-512 of the .tgz's components, as the package zip has it",
        _JSON,
    ),
    Route(("packages", "{release}", "health"), "copy_health", "What of the copy is verified", _JSON),
    Route(("seed", "{release}", "{file}"), "seed", "BEP 19 web seed: what is good of a file", _BYTES),
    Route(("indexes", "{name}"), "index", "The signed release index of a name", _JSON),
    Route(("releases.json",), "releases", "What the mirror has", _JSON),
    Route(("integrity-manifest.json",), "integrity", "SHA-512 of every whole .tgz", _JSON),
    Route(("health",), "health", "How the mirror is", _JSON),
    Route(("metrics",), "metrics", "The same in Prometheus' text format", "text/plain; version=0.0.4; charset=utf-8"),
    Route(("openapi.json",), "openapi", "This interface", _JSON),
)


def match(raw_path: bytes) -> Match | None:
    """The route of a path as it was sent (percent-encoded, without a query); None if there is none."""
    try:
        segments = [unquote(part, errors="strict") for part in raw_path.decode("ascii").split("/")[1:]]
    except UnicodeDecodeError:
        return None
    for route in ROUTES:
        values = _read_path(route.segments, segments)
        if values is not None:
            return Match(route, values)
    return None


def _read_path(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, Any] | None:
    if len(pattern) != len(segments):
        return None
    values: dict[str, Any] = {}
    for wanted, given in zip(pattern, segments, strict=True):
        if not wanted.startswith("{"):
            if wanted != given:
                return None
            continue
        name = wanted[1:-1]
        try:
            values[name] = PARAMETERS[name].read(given)
        except (Malformed, ValueError):
            return None
    return values


def query_value(query: bytes, name: str) -> Any:
    """The value of a query parameter, None without one; raises :class:`UsageFault` ``mirror.request``.

    Parameters that are not known are ignored, as caches and links add some.
    """
    found = [part.partition("=")[2] for part in query.decode("latin-1").split("&") if part.partition("=")[0] == name]
    if not found:
        return None
    try:
        if len(found) > 1:
            raise ValueError("it is given twice")
        return PARAMETERS[name].read(unquote(found[0], errors="strict"))
    except ValueError as error:
        raise UsageFault("mirror.request", f"{name}: {error}") from error
