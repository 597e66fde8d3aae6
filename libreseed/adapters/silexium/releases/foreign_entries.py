"""Entries that the log has and the catalogue did not append: recovered from a mirror, or appended by hand.

A version must never get a second entry. The catalogue knows those that it has appended itself; the others are noted
here, once each, by what they say of themselves, before anything is appended. All within the caller's transaction.
Specification: ``silexium-api.md``, 3.
"""

from __future__ import annotations

import sqlite3

from libreseed.adapters.silexium.log.log_rows import entries_between, log_state
from libreseed.ids import ReleaseId

__all__ = ["FOREIGN_ENTRIES", "foreign_index", "note_entries"]

# A migration of the catalogue's tables.
FOREIGN_ENTRIES = (
    "entries that the catalogue did not append",
    """
    CREATE TABLE foreign_entries(
      package TEXT NOT NULL, version TEXT NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY(package, version))
      STRICT, WITHOUT ROWID;
    CREATE TABLE noted_entries(one INTEGER PRIMARY KEY CHECK(one = 1), size INTEGER NOT NULL) STRICT;
    INSERT INTO noted_entries VALUES(1, 0);
    """,
)
_NOTE = """
INSERT OR IGNORE INTO foreign_entries
  SELECT json_extract(:body, '$.package'), json_extract(:body, '$.version_text'), :idx
  WHERE CASE WHEN json_valid(:body) THEN json_type(:body, '$.package') = 'text'
    AND json_type(:body, '$.version_text') = 'text' ELSE 0 END
"""


def note_entries(connection: sqlite3.Connection, most: int) -> bool:
    """Note up to ``most`` entries that were not looked at yet, the first of each version; whether there are more."""
    known: int
    (known,) = connection.execute("SELECT size FROM noted_entries").fetchone()
    size, _ = log_state(connection) or (0, b"")
    end = min(size, known + most)
    if end > known:
        query = "SELECT log_index FROM versions WHERE log_index >= ? AND log_index < ?"
        own = {index for (index,) in connection.execute(query, (known, end))}
        found = entries_between(connection, known, end)
        connection.executemany(_NOTE, ({"body": body, "idx": index} for index, _, body in found if index not in own))
        connection.execute("UPDATE noted_entries SET size = ?", (end,))
    return end < size


def foreign_index(connection: sqlite3.Connection, release: ReleaseId) -> int | None:
    """The index of the entry that the log has for ``release`` without the catalogue's doing, or None."""
    query = "SELECT idx FROM foreign_entries WHERE package = ? AND version = ?"
    row = connection.execute(query, (str(release.name), str(release.version))).fetchone()
    return None if row is None else int(row[0])
