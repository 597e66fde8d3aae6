"""The resolver's journal on disk: an append-only file of verified chunks (format: :mod:`libreseed.resolve.journal`).

One process writes, under the release's lock. Records are appended with plain writes: a killed process leaves at most
one torn record, which the next :func:`open_journal` cuts off. It is not synced, being only a hint: after a power
cut the chunks that it names are hashed again like after any other stop. All of it blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from libreseed.resolve.journal import HEADER_BYTES, JournalHeader, Replay, Run, encode_run, replay

__all__ = ["Journal", "open_journal"]


@dataclass(slots=True)
class Journal:
    """An open journal; ``append`` adds runs, in one write. Owned by one task at a time."""

    _descriptor: int
    _offset: int

    def append(self, runs: Sequence[Run]) -> None:
        """Add ``runs``; when it returns they survive the death of this process."""
        records = b""
        for run in runs:
            records += encode_run(run, self._offset + len(records))
        written = 0
        while written < len(records):
            written += os.pwrite(self._descriptor, records[written:], self._offset + written)
        self._offset += len(records)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def open_journal(path: Path, header: JournalHeader) -> tuple[Journal, Replay]:
    """Open or create the journal for ``header``; what belongs to another chunk map or is torn is cut off."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            found = replay(file.read(), header)
        if not found.valid_bytes:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, header.data, 0)
            found = Replay((), HEADER_BYTES)
        os.ftruncate(descriptor, found.valid_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return Journal(descriptor, found.valid_bytes), found
