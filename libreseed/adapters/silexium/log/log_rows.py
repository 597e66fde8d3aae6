"""The rows in which a log's entries lie: a *run* of neighbours that were appended together is one row.

Invariants: a row is named by its first entry and has the hash of each, 32 bytes after 32 bytes, and their texts, with a
line break between two; a text that has a line break itself is alone in its row. No run crosses a multiple of 256 (so a
bundle of entries is whole rows) nor holds more than 64 KiB of text (so one entry is read without many others), unless
one entry does. Rows are never changed: entries that are appended one by one stay one to a row.

What the entries say is not looked at. Specification: ``silexium-log.md``, 1.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from libreseed import limits
from libreseed.errors import LocalFault, ProofRejected
from libreseed.silexium.tiles import HASH_BYTES

__all__ = ["add_runs", "cut_runs", "entries_between", "entry_texts", "hash_at", "hashes_between", "log_state"]

_WIDTH = limits.TILE_WIDTH
_RUN_BYTES = 2**16
# Of the entries [first, second).
_ROWS = "FROM log_entries WHERE idx >= (SELECT max(idx) FROM log_entries WHERE idx <= ?) AND idx < ? ORDER BY idx"
_BODIES = "SELECT idx, entry_hashes, bodies " + _ROWS
_HASHES = "SELECT idx, entry_hashes " + _ROWS
_INSERT = "INSERT INTO log_entries VALUES(?, ?, CAST(? AS TEXT), ?)"
_STATE = "SELECT idx + length(entry_hashes) / 32, root FROM log_entries ORDER BY idx DESC LIMIT 1"


def cut_runs(first: int, entries: Sequence[bytes]) -> list[slice]:
    """Which of the entries, that are to get the numbers from ``first`` on, make a run; raises ``silexium.entry`` for
    what cannot be kept as text, and so be read in what ``sqlite3 .dump`` shows."""
    if entries and not 1 <= min(map(len, entries)) <= max(map(len, entries)) <= limits.LOG_ENTRY_BYTES:
        raise ProofRejected("silexium.entry", f"an entry has 1 to {limits.LOG_ENTRY_BYTES} bytes")
    if len(entries) == 1:
        _is_run(entries)
        return [slice(0, 1)]
    runs: list[slice] = []
    at = 0
    while at < len(entries):
        end = min(at + _WIDTH - (first + at) % _WIDTH, len(entries))
        for run in _short_runs(at, entries[at:end]):
            runs += (
                [run] if _is_run(entries[run]) else [slice(number, number + 1) for number in range(run.start, run.stop)]
            )
        at = end
    return runs


def _short_runs(at: int, entries: Sequence[bytes]) -> Iterator[slice]:
    """Cut the entries, the first of which is number ``at`` of its batch, so that each run has few bytes."""
    ends = list(accumulate(map(len, entries), initial=0))
    start = 0
    while start < len(entries):
        stop = max(bisect_right(ends, ends[start] + _RUN_BYTES) - 1, start + 1)
        yield slice(at + start, at + stop)
        start = stop


def _is_run(entries: Sequence[bytes]) -> bool:
    """Whether line breaks can part these entries; raises ``silexium.entry`` for what is no text."""
    data = b"".join(entries)
    if b"\x00" in data:
        raise ProofRejected("silexium.entry", "an entry has a zero byte")
    try:
        if not data.isascii():
            for entry in entries:
                entry.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProofRejected("silexium.entry", "an entry is not UTF-8") from error
    return b"\n" not in data


def add_runs(
    connection: sqlite3.Connection,
    first: int,
    entries: Sequence[bytes],
    runs: Sequence[slice],
    hashes: Sequence[bytes],
    *,
    root: bytes,
) -> None:
    """Store a batch by its runs, with its entries' hashes; the last run carries the root of the tree up to its end."""
    if len(entries) == 1:
        connection.execute(_INSERT, (first, hashes[0], entries[0], root))
        return
    rows = (
        (first + run.start, b"".join(hashes[run]), b"\n".join(entries[run]), root if run is runs[-1] else None)
        for run in runs  # one after the other: joining is cheap while its bytes stay in the processor's cache
    )
    connection.executemany(_INSERT, rows)


def log_state(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
    """(size, root) by the last run; None for a log without entries."""
    row: tuple[int, bytes] | None = connection.execute(_STATE).fetchone()
    return row


def entry_texts(index: int, hashes: bytes, bodies: str) -> list[str]:
    """The entries of a row; raises :class:`LocalFault` ``storage.database`` when it has not one for each hash."""
    texts = [bodies] if len(hashes) == HASH_BYTES else bodies.split("\n")
    if len(texts) * HASH_BYTES != len(hashes):
        raise LocalFault("storage.database", f"the entries from {index} on are not as many as their hashes")
    return texts


def entries_between(connection: sqlite3.Connection, start: int, end: int) -> Iterator[tuple[int, bytes, str]]:
    """(index, entry hash, text) of the entries [start, end) as far as there are any."""
    for first, hashes, bodies in connection.execute(_BODIES, (start, end)):
        for index, text in enumerate(entry_texts(first, hashes, bodies), first):
            if start <= index < end:
                at = HASH_BYTES * (index - first)
                yield index, hashes[at : at + HASH_BYTES], text


def hashes_between(connection: sqlite3.Connection, start: int, end: int) -> bytes:
    """The hashes of the entries [start, end), one after the other, as far as there are any."""
    first, found = None, []
    for index, hashes in connection.execute(_HASHES, (start, end)):
        first = index if first is None else first
        found.append(hashes)
    at = HASH_BYTES * (start - (first or 0))
    return b"".join(found)[at : at + HASH_BYTES * (end - start)]


def hash_at(connection: sqlite3.Connection, index: int) -> bytes:
    """The hash of entry ``index``; nothing when there is none."""
    return hashes_between(connection, index, index + 1)
