"""Finds entries by their hash: two indexes on the disk over whole spans of the log, and in memory what is newer.

The first 8 bytes of a hash are enough to look by on the disk (whoever asks compares whole hashes), and an index over
all 32 would outgrow the tiles. A random insert into a large index touches a page for every entry; so a small one takes
in ``SPAN`` entries at a time, in order, with the transaction that completes them, and a large one ``SPANS`` of those.
The newest entries, fewer than a span, need no second place on the disk: their hashes are read from the log's own rows,
once per process, then as they come. Who appends much asks a :class:`KeyFilter` first.

Invariant: what is in memory was committed; what a transaction has appended and may yet undo is never kept.
Specification: ``silexium-log.md``, 1 and 2.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
from collections.abc import Iterable, Sequence

from libreseed.adapters.silexium.database import Database
from libreseed.adapters.silexium.log.key_filter import KeyFilter
from libreseed.adapters.silexium.log.log_rows import hash_at, hashes_between, log_state
from libreseed.errors import ProofRejected
from libreseed.silexium.tiles import HASH_BYTES

__all__ = ["SPAN", "SPANS", "EntryIndex", "candidates", "index_keys", "indexed_size", "postings"]

SPAN = 2**16  # as the migration that made the index so has it
SPANS = 4
_KEY = struct.Struct(">q")
_STORED = struct.Struct(">q24x")  # of hashes one after the other


class EntryIndex:
    """Where entries are, by hash. For all threads of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # taken by who writes, too: its holder never waits for the writer
        self._recent: dict[bytes, int] = {}  # of the entries below _size that are not in the index on the disk
        self._size = 0
        self._filter: KeyFilter | None = None  # of all that are in the index on the disk, as far as _size says
        self._searched = 0

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
        wanted = set(hashes)
        if len(wanted) != len(hashes):
            raise ProofRejected("silexium.logged", "one entry is given twice")
        keys = index_keys(hashes)
        with self._lock:
            if self._size != size:
                with self._database.read() as committed:
                    self._catch_up(committed)
            uncommitted = hashes_between(connection, self._size, size) if self._size < size else b""
            for recent in (self._recent, _numbered(uncommitted, self._size)):
                if not recent.keys().isdisjoint(wanted):
                    entry_hash = next(entry_hash for entry_hash in hashes if entry_hash in recent)
                    raise _known(recent[entry_hash], entry_hash)
            keys = self._not_ruled_out(keys)
        for index in candidates(connection, keys):
            if (entry_hash := hash_at(connection, index)) in wanted:
                raise _known(index, entry_hash)

    def add(self, connection: sqlite3.Connection, old: int, new: int) -> None:
        """Take in the spans that the entries [old, new), which the transaction has stored, complete."""
        for start in range(indexed_size(old), indexed_size(new), SPAN):
            keys = _stored_keys(hashes_between(connection, start, start + SPAN))
            query = "INSERT INTO log_index_recent SELECT value, ? + key FROM json_each(?) ORDER BY value"
            connection.execute(query, (start, json.dumps(keys)))
        if new // (SPANS * SPAN) > old // (SPANS * SPAN):
            connection.execute("INSERT INTO log_index SELECT * FROM log_index_recent ORDER BY entry_key, idx")
            connection.execute("DELETE FROM log_index_recent")

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
        base, before = indexed_size(size), indexed_size(self._size)
        if base > before:
            if self._filter is not None:
                for start in range(before, base, SPAN):
                    self._filter.add(_stored_keys(hashes_between(connection, start, start + SPAN)))
            self._recent.clear()
            self._size = base
        self._recent |= _numbered(hashes_between(connection, self._size, size), self._size)
        self._size = size

    def _not_ruled_out(self, keys: list[int]) -> list[int]:
        """Of the keys, those that the index on the disk may have, as far as it was committed. The filter is made by who
        has looked up half as many as there are: to make it is to read the whole index."""
        self._searched += len(keys)
        if self._filter is None:
            if 2 * self._searched < indexed_size(self._size):
                return keys
            made = KeyFilter()
            with self._database.read() as connection:
                query = "SELECT entry_key FROM log_index UNION ALL SELECT entry_key FROM log_index_recent"
                made.add(key for (key,) in connection.execute(query))
            self._filter = made
        return self._filter.among(keys)


def indexed_size(size: int) -> int:
    """How many of a log's ``size`` entries are in the index on the disk: the first so many."""
    return size // SPAN * SPAN


def index_keys(entry_hashes: Sequence[bytes]) -> list[int]:
    """What entries are looked up by."""
    return [key for (key,) in map(_KEY.unpack_from, entry_hashes)]


def candidates(connection: sqlite3.Connection, keys: Iterable[int]) -> list[int]:
    """Where entries are, of those in the index on the disk, whose hashes begin as ``keys`` say."""
    return [index for _, index in postings(connection, keys)]


def postings(connection: sqlite3.Connection, keys: Iterable[int]) -> list[tuple[int, int]]:
    """What the index on the disk has for ``keys``: (key, index of an entry)."""
    wanted = json.dumps(sorted(keys))  # in order, so that the index is read page by page
    query = "SELECT entry_key, idx FROM json_each(?) CROSS JOIN log_index ON entry_key = value UNION ALL "
    query += "SELECT entry_key, idx FROM json_each(?) CROSS JOIN log_index_recent ON entry_key = value"
    return connection.execute(query, (wanted, wanted)).fetchall() if wanted != "[]" else []


def _stored_keys(hashes: bytes) -> list[int]:
    return [key for (key,) in _STORED.iter_unpack(hashes)]


def _numbered(hashes: bytes, first: int) -> dict[bytes, int]:
    return {hashes[at : at + HASH_BYTES]: first + at // HASH_BYTES for at in range(0, len(hashes), HASH_BYTES)}


def _known(index: int, entry_hash: bytes) -> ProofRejected:
    evidence = {"index": index, "entry_hash": entry_hash.hex()}
    return ProofRejected("silexium.logged", f"the log has this entry already, at {index}", evidence=evidence)
