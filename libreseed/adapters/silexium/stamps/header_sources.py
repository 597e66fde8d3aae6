"""Which block headers a verifier has at hand: those that were named, else the user's own store of them.

A place is a folder (a :class:`HeaderStore`) or a file of raw headers from the genesis block on. No network. Headers
that come in a bundle are the verification's own matter. Everything blocks. Specification: ``silexium-time.md``, 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.silexium.stamps.header_store import HeaderStore, default_header_folder
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, HeaderChain, HeaderSource
from libreseed.silexium.stamps import TimePolicy

__all__ = ["open_headers"]


def open_headers(places: Iterable[Path], clock: TimePolicy, *, now: int) -> list[HeaderSource]:
    """The headers in ``places``, verified under the network and the checkpoints of ``clock``; without any place those
    of the usual folder, if it has some. Raises NotFound, ``silexium.header*``, ``storage.headers``."""
    found = [_open(place, clock, now) for place in places]
    if not found and default_header_folder().is_dir():
        usual = HeaderStore(default_header_folder(), clock.network, clock.pins)
        return [usual] if usual.record.count else []
    return found


def _open(place: Path, clock: TimePolicy, now: int) -> HeaderSource:
    if place.is_dir():
        return HeaderStore(place, clock.network, clock.pins)
    data = read_bounded(place, HEADER_BYTES * limits.BITCOIN_HEADERS)
    return HeaderChain.read(clock.network, 0, data, now=now, pins=clock.pins)
