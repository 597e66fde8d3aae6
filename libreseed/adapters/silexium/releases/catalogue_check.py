"""Holds the catalogue against itself and against the log: every logged release's entry, made anew from its documents.

What rots in the file, or was changed behind the server's back, is found here and not by clients. The log itself is
checked by ``log_check``. Blocks; bounded memory. Specification: ``silexium-api.md``, 2.
"""

from __future__ import annotations

from blake3 import blake3

from libreseed import limits
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.releases.catalogue import Catalogue, Progress, ReleaseState
from libreseed.errors import LibreSeedError, LocalFault, NotFound
from libreseed.ids import Blake3Digest
from libreseed.silexium.keyring import ROLES
from libreseed.silexium.log_entry import LogEntry, ProofHashes
from libreseed.silexium.release_manifest import parse_release_manifest

__all__ = ["check_catalogue"]


def check_catalogue(catalogue: Catalogue, log: LogStore) -> int:
    """Check every logged release; returns how many. Raises :class:`LocalFault` ``storage.database`` for the first that
    is not as it was logged."""
    checked, last = 0, 0
    while batch := catalogue.waiting(ReleaseState.LOGGED, limits.PUBLISHED_AT_ONCE, after=last):
        for release in batch:
            _check(release, log)
        checked, last = checked + len(batch), batch[-1].number
    return checked


def _check(release: Progress, log: LogStore) -> None:
    try:
        entry = _entry_of(release)
        logged = log.entry(-1 if release.log_index is None else release.log_index)
    except NotFound as error:
        raise LocalFault("storage.database", f"{release.release} is not in the log: {error.message}") from error
    except LibreSeedError as error:
        raise LocalFault("storage.database", f"{release.release} is damaged: {error.message}") from error
    if not entry.data == logged == release.entry:
        raise LocalFault("storage.database", f"{release.release} is not what the log says at {release.log_index}")


def _entry_of(release: Progress) -> LogEntry:
    manifest = parse_release_manifest(release.manifest)
    proofs = tuple(
        ProofHashes(role, tuple(map(_digest, stamps.tsa)), tuple(map(_digest, stamps.ots)))
        for role, stamps in zip(ROLES, release.stamps, strict=False)  # without stamps the entry is refused
    )
    return LogEntry.build(manifest.release, manifest.digest, tuple(map(_digest, release.attestations)), proofs)


def _digest(data: bytes) -> Blake3Digest:
    return Blake3Digest(blake3(data).digest())
