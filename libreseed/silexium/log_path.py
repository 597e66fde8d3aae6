"""The paths under which a log is read, the same from its server, from an export folder and from a mirror.

``checkpoint``; ``tile/<L>/<n>[.p/<w>]`` (hashes of the tree); ``tile/entries/<n>[.p/<w>]`` (entry hashes);
``tile/bodies/<n>[.p/<w>]`` (the entries themselves, each with its length before it as two bytes, big-endian);
``entries/<index>`` (one entry). Each path has one spelling; everything else is refused. Specification:
``silexium-log.md``, 4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.tiles import Tile, entries_path, parse_tile_path

__all__ = [
    "CHECKPOINT_PATH",
    "BodyBundle",
    "EntryBundle",
    "EntryFile",
    "LogPath",
    "bundles_of_growth",
    "covered_size",
    "parse_bodies",
    "parse_log_path",
    "write_bodies",
]

CHECKPOINT_PATH = "checkpoint"
_WIDTH = limits.TILE_WIDTH
_ENTRY = re.compile(r"entries/(0|[1-9][0-9]{0,14})", re.ASCII)
_BUNDLE = re.compile(r"tile/(entries|bodies)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class _Bundle:
    """``width`` entries from number 256 * ``index`` on."""

    index: int
    width: int = _WIDTH

    def __post_init__(self) -> None:
        if not (0 <= self.index < limits.LOG_ENTRIES // _WIDTH and 1 <= self.width <= _WIDTH):
            raise ProofRejected("silexium.tile", f"no bundle is at {self.index}, width {self.width}")

    @property
    def start(self) -> int:
        """The number of its first entry."""
        return self.index * _WIDTH


class EntryBundle(_Bundle):
    """Address of a bundle of entry hashes."""

    __slots__ = ()

    @property
    def path(self) -> str:
        """Where it is served."""
        return entries_path(self.index, self.width)


class BodyBundle(_Bundle):
    """Address of a bundle of entries."""

    __slots__ = ()

    @property
    def path(self) -> str:
        """Where it is served."""
        return entries_path(self.index, self.width).replace("tile/entries/", "tile/bodies/", 1)


@dataclass(frozen=True, slots=True, order=True)
class EntryFile:
    """Address of one entry."""

    index: int

    @property
    def path(self) -> str:
        """Where it is served."""
        return f"entries/{self.index}"


LogPath = Tile | EntryBundle | BodyBundle | EntryFile


def parse_log_path(path: str) -> LogPath:
    """What ``path`` names, the checkpoint apart; raises ``silexium.tile`` for any other spelling."""
    if len(path) > limits.TILE_PATH_CHARS:
        raise ProofRejected("silexium.tile", f"not a path of the log: {path!r:.100}")
    if match := _ENTRY.fullmatch(path):
        return EntryFile(int(match[1]))
    match = _BUNDLE.fullmatch(path)
    if match is None:
        return parse_tile_path(path)
    kind = EntryBundle if match[1] == "entries" else BodyBundle
    bundle = kind(int(match[2].replace("x", "").replace("/", "")), int(match[3] or _WIDTH))
    if bundle.path != path:
        raise ProofRejected("silexium.tile", f"not a path of the log: {path!r:.100}")
    return bundle


def covered_size(place: LogPath) -> int:
    """The least size of a log that has everything at ``place``."""
    if isinstance(place, EntryFile):
        return place.index + 1
    if isinstance(place, Tile):
        return (place.index * _WIDTH + place.width) << 8 * place.level
    return place.start + place.width


def bundles_of_growth(old: int, new: int) -> list[tuple[int, int]]:
    """(index, width) of the bundles that a log of ``new`` entries has and that of ``old`` did not."""
    bundles = [(index, _WIDTH) for index in range(old // _WIDTH, new // _WIDTH)]
    return [*bundles, (new // _WIDTH, new % _WIDTH)] if new > old and new % _WIDTH else bundles


def write_bodies(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle of entries."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bodies(data: bytes, width: int) -> list[bytes]:
    """The ``width`` entries of a bundle; raises ``silexium.tile`` unless it is exactly that."""
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < width:
        length = int.from_bytes(data[at : at + 2], "big")
        entry = data[at + 2 : at + 2 + length]
        if not 1 <= length <= limits.LOG_ENTRY_BYTES or len(entry) != length:
            raise ProofRejected("silexium.tile", "a bundle of entries is cut short, or holds one out of bounds")
        entries.append(entry)
        at += 2 + length
    if len(entries) != width or at != len(data):
        raise ProofRejected("silexium.tile", f"not a bundle of {width} entries")
    return entries
