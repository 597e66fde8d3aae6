"""Documents about what a mirror has: the list of releases, the integrity manifest, the health of one copy."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from libreseed import limits
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import IntegrityEntry, build_integrity_manifest

from .copies import Copy
from .library import Holding, Library

__all__ = ["copy_health", "describe_releases", "integrity_manifest", "integrity_of", "release_list"]

_LOG = logging.getLogger("libreseed.mirror")
_ENTRY_BYTES = 380  # the most that a release takes in an integrity manifest
_LISTED = limits.INTEGRITY_MANIFEST_BYTES // _ENTRY_BYTES


def release_list(library: Library) -> bytes:
    """``/releases.json``."""
    return describe_releases(_copies(library))


def describe_releases(copies: Iterable[Copy]) -> bytes:
    """The list of ``copies``."""
    listed = [
        {
            "pubkey": str(copy.minimal.pubkey),
            "release": str(copy.minimal.release),
            "size": copy.minimal.size,
            "timestamp": copy.minimal.timestamp,
            "torrent": str(copy.minimal.torrent),
            "whole": copy.whole,
        }
        for copy in copies
    ]
    return json.dumps({"releases": listed}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def integrity_manifest(library: Library) -> bytes:
    """``/integrity-manifest.json``."""
    return integrity_of(_copies(library))


def integrity_of(copies: Iterable[Copy]) -> bytes:
    """The manifest of the .tgz of every whole copy among ``copies``, by its path under ``/seed/``."""
    entries: dict[str, IntegrityEntry] = {}
    left_out = 0
    for copy in copies:
        if not copy.whole or copy.minimal.size > limits.FILE_BYTES:
            continue
        if len(entries) >= _LISTED:
            left_out += 1
            continue
        release = copy.minimal.release
        entries[f"seed/{release}/{release}.tgz"] = IntegrityEntry(Integrity(copy.note.sha512), copy.minimal.size)
    if left_out:
        _LOG.warning("the integrity manifest is full: %d releases are not in it", left_out)
    return build_integrity_manifest(entries)


def copy_health(holding: Holding) -> dict[str, object]:
    """``/packages/R/health``: chunk numbers in runs from the first up to, without, the second."""
    copy = holding.copy
    assert copy is not None
    note = copy.note
    return {
        "bad_data": [[run.start, run.stop] for run in note.bad_data],
        "bad_parity": [[run.start, run.stop] for run in note.bad_parity],
        "coherence": {"parts": copy.coherence.parts, "verified": copy.coherence.verified},
        "healed_chunks": note.healed,
        "release": str(holding.release),
        "state": holding.state,
        "verified_at_ms": note.judged_ms,
    }


def _copies(library: Library) -> list[Copy]:
    """All copies that are shown, by name."""
    return [one.copy for _, one in sorted(library.holdings.items()) if one.copy is not None]
