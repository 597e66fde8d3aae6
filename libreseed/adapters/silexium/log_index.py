"""Finds entries by their hash: an index on the disk over whole spans of the log, and in memory what is newer.

The first 8 bytes of a hash are enough to look by on the disk (whoever asks compares whole hashes), and an index over
all 32 would outgrow the tiles. A random insert into a large index touches a page for every entry; so it takes in
``SPAN`` entries at a time, in order, with the transaction that completes them. The newest ones, fewer than that, need
no second place on the disk: their hashes are read from the log's own rows, once per process, then as they come.

Invariant: what is in memory was committed; what a transaction has appended and may yet undo is never kept.
Specification: ``silexium-log.md``, 1.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
from collections.abc import Sequence

from libreseed.adapters.silexium.database import Database
from libreseed.adapters.silexium.log_rows import hash_at, hashes_between, log_state
from libreseed.errors import ProofRejected
from libreseed.silexium.tiles import HASH_BYTES

__all__ = ["SPAN", "EntryIndex", "candidates", "index_keys", "indexed_size"]

SPAN = 2**16  # as the migration that made the index so has it
_KEY = struct.Struct(">q")
_STORED = struct.Struct(">q24x")  # of hashes one after the other


class EntryIndex:
    """Where entries are, by hash. For all threads of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # taken by who writes, too: its holder never waits for the writer
        self._recent: dict[bytes, int] = {}  # of the entries below _size that are not in the index on the disk
        self._size = 0

    def find(self, entry_hash: bytes) -> int | None:
        """The index of the entry with this hash, or None."""
        with self._lock, self._database.read() as connection:
            self._catch_up(connection)
            index = self._recent.get(entry_hash)
            if index is not None:
                return index
            found = candidates(connection, index_keys([entry_hash]))
            return next((index for index in found if hash_at(connection, index) == entry_hash), None)

    def refuse_known(self, connection: sqlite3.Connection, size: int, hashes: Sequence[bytes]) -> None:
        """Raise ``silexium.logged`` when the log of ``size`` entries, as the transaction sees it, has one of them."""
        if len(set(hashes)) != len(hashes):
            raise ProofRejected("silexium.logged", "one entry is given twice")
        with self._lock:
            if self._size != size:
                with self._database.read() as committed:
                    self._catch_up(committed)
            uncommitted = hashes_between(connection, self._size, size) if self._size < size else b""
            among = _numbered(uncommitted, self._size)
            for recent in (self._recent, among):
                if not recent.keys().isdisjoint(hashes):
                    raise _known(
                        *next((recent[entry_hash], entry_hash) for entry_hash in hashes if entry_hash in recent)
                    )
        wanted = set(hashes)
        for index in candidates(connection, index_keys(hashes)):
            if (entry_hash := hash_at(connection, index)) in wanted:
                raise _known(index, entry_hash)

    def add(self, connection: sqlite3.Connection, old: int, new: int) -> None:
        """Take in the spans that the entries [old, new), which the transaction has stored, complete."""
        for start in range(indexed_size(old), indexed_size(new), SPAN):
            hashes = hashes_between(connection, start, start + SPAN)
            keys = [key for (key,) in _STORED.iter_unpack(hashes)]
            query = "INSERT INTO log_index SELECT value, ? + key FROM json_each(?) ORDER BY value"
            connection.execute(query, (start, json.dumps(keys)))

    def committed(self, indices: range, hashes: Sequence[bytes]) -> None:
        """Note what a transaction that is over has appended, so that it needs not be read."""
        with self._lock:
            if self._size == indices.start and indexed_size(indices.start) == indexed_size(indices.stop):
                self._recent.update(zip(hashes, indices, strict=True))
                self._size = indices.stop

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        state = log_state(connection)
        size = 0 if state is None else state[0]
        if size == self._size:
            return
        base = indexed_size(size)
        if base > indexed_size(self._size):
            self._recent.clear()
            self._size = base
        self._recent |= _numbered(hashes_between(connection, self._size, size), self._size)
        self._size = size


def indexed_size(size: int) -> int:
    """How many of a log's ``size`` entries are in the index on the disk: the first so many."""
    return size // SPAN * SPAN


def index_keys(entry_hashes: Sequence[bytes]) -> list[int]:
    """What entries are looked up by."""
    return [key for (key,) in map(_KEY.unpack_from, entry_hashes)]


def candidates(connection: sqlite3.Connection, keys: Sequence[int]) -> list[int]:
    """Where entries are, of those in the index on the disk, whose hashes begin as ``keys`` say."""
    if len(keys) == 1:
        return [index for (index,) in connection.execute("SELECT idx FROM log_index WHERE entry_key = ?", keys)]
    query = "SELECT idx FROM json_each(?) CROSS JOIN log_index ON entry_key = value"  # in order, so page by page
    return [index for (index,) in connection.execute(query, (json.dumps(sorted(keys)),))]


def _numbered(hashes: bytes, first: int) -> dict[bytes, int]:
    return {hashes[at : at + HASH_BYTES]: first + at // HASH_BYTES for at in range(0, len(hashes), HASH_BYTES)}


def _known(index: int, entry_hash: bytes) -> ProofRejected:
    evidence = {"index": index, "entry_hash": entry_hash.hex()}
    return ProofRejected("silexium.logged", f"the log has this entry already, at {index}", evidence=evidence)
