"""Reads a log's entries for what they say: each in canonical form, and no version of a package twice.

That entries, tiles and heads fit is ``log_check``'s question, and a mirror's; whether what an entry names is true is
the resolver's. Memory grows by some 100 bytes per entry. Specification: ``silexium-log.md``, 6.
"""

from __future__ import annotations

from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.errors import ProofRejected
from libreseed.silexium.log_entry import parse_log_entry

__all__ = ["audit_entries"]


def audit_entries(store: LogStore) -> tuple[int, int]:
    """(packages, entries) of the whole log; raises ``silexium.entry`` or ``silexium.second-entry`` for the first bad
    one, with its index."""
    seen: dict[str, int] = {}
    packages: set[str] = set()
    for index, _, data in store.entries(0, store.size):
        try:
            entry = parse_log_entry(data)
        except ProofRejected as error:
            evidence = {**error.evidence, "index": index}
            raise ProofRejected(error.reason, f"entry {index}: {error.message}", evidence=evidence) from error
        first = seen.setdefault(str(entry.release), index)
        if first != index:
            message = f"{entry.release} has two entries, {first} and {index}"
            raise ProofRejected("silexium.second-entry", message, evidence={"indices": [first, index]})
        packages.add(str(entry.release.name))
    return len(packages), len(seen)
