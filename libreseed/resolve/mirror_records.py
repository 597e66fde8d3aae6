"""Minimal manifests that mirrors gave: which one to take, and what is wrong with the others (step 2).

A mirror is believed nothing: only a record that a believed key signed for this release counts, and of several the
newest, so that one mirror which keeps an old one (a freeze) is outvoted by any that does not. The floor is step 3's.
``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libreseed.errors import LibreSeedError, RecordRejected
from libreseed.ids import PublicKey, ReleaseId
from libreseed.package.minimal import MinimalManifest, parse_minimal
from libreseed.resolve.engine import FoundRecord

__all__ = ["MirrorRecords", "read_record", "sort_records"]


@dataclass(frozen=True, slots=True)
class MirrorRecords:
    """``best`` by a believed key (None: there is none) of ``timestamp``; ``claims`` by others; ``stale`` mirrors."""

    best: FoundRecord | None
    timestamp: int = 0
    claims: tuple[PublicKey, ...] = ()
    stale: Mapping[str, LibreSeedError] = field(default_factory=dict)


def read_record(data: bytes, release: ReleaseId) -> MinimalManifest:
    """A sound minimal manifest of ``release``, by whomever; raises :class:`RecordRejected` (``minimal.*``)."""
    minimal = parse_minimal(data)
    if minimal.release != release:
        raise RecordRejected("minimal.other-release", f"the mirror's record is of {minimal.release}, not of {release}")
    return minimal


def sort_records(records: Mapping[str, MinimalManifest], keys: Sequence[PublicKey]) -> MirrorRecords:
    """Judge ``records`` by mirror; ``keys`` are believed for the name, in the order of preference."""
    claims = tuple(dict.fromkeys(minimal.pubkey for minimal in records.values() if minimal.pubkey not in keys))
    for key in keys:
        mine = {source: minimal for source, minimal in records.items() if minimal.pubkey == key}
        if mine:
            source, best = max(mine.items(), key=lambda item: item[1].timestamp)
            stale: dict[str, LibreSeedError] = {
                other: RecordRejected("source.mirror-stale", f"keeps a record of {minimal.timestamp}, not the newest")
                for other, minimal in mine.items()
                if minimal.timestamp < best.timestamp
            }
            return MirrorRecords(FoundRecord(key, best.data, None, source), best.timestamp, claims, stale)
    return MirrorRecords(None, 0, claims)
