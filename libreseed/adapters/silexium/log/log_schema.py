"""The log's tables, and the triggers by which SQLite itself refuses what an append-only log never does.

``log_identity`` has one row: whose log it is. A row of ``log_entries`` is a run of neighbours (``log_rows``); the last
one of every transaction carries the root of the tree up to its end, so the last row of all says the log's size and
root. The two indexes have the entries of whole spans of 65,536. Tiles of level 0 are stored once they are full (what is
newer is in the entries), those above as they grow; ``groups`` are the roots of a tile's complete groups of 16.
Specification: ``silexium-log.md``, 1.
"""

from __future__ import annotations

from libreseed.adapters.silexium.database import Schema

__all__ = ["LOG_SCHEMA"]

LOG_SCHEMA = Schema(
    "log",
    (
        (
            "entries, tiles, heads",
            """
            CREATE TABLE log_identity(
              one INTEGER PRIMARY KEY CHECK(one = 1), origin TEXT NOT NULL, key BLOB NOT NULL) STRICT;
            CREATE TABLE log_entries(
              idx INTEGER PRIMARY KEY, entry_hash BLOB NOT NULL, body TEXT NOT NULL, root BLOB) STRICT;
            CREATE TABLE log_index(
              entry_key INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY(entry_key, idx)) STRICT, WITHOUT ROWID;
            CREATE TABLE log_index_recent(
              entry_key INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY(entry_key, idx)) STRICT, WITHOUT ROWID;
            CREATE TABLE log_tiles(
              level INTEGER NOT NULL, idx INTEGER NOT NULL, hashes BLOB NOT NULL, groups BLOB NOT NULL,
              PRIMARY KEY(level, idx)) STRICT;
            CREATE TABLE log_sth(
              size INTEGER PRIMARY KEY, root BLOB NOT NULL, timestamp INTEGER NOT NULL, signature BLOB NOT NULL,
              key BLOB NOT NULL) STRICT;
            CREATE TABLE log_cosignatures(
              size INTEGER NOT NULL REFERENCES log_sth(size), name TEXT NOT NULL, key BLOB NOT NULL,
              time INTEGER NOT NULL, signature BLOB NOT NULL, PRIMARY KEY(size, key)) STRICT, WITHOUT ROWID;
            CREATE TRIGGER log_entries_keep BEFORE DELETE ON log_entries
              BEGIN SELECT RAISE(ABORT, 'the log takes no entry back'); END;
            CREATE TRIGGER log_entries_stay BEFORE UPDATE ON log_entries
              BEGIN SELECT RAISE(ABORT, 'the log changes no entry'); END;
            CREATE TRIGGER log_sth_keep BEFORE DELETE ON log_sth
              BEGIN SELECT RAISE(ABORT, 'the log takes no head back'); END;
            CREATE TRIGGER log_sth_stay BEFORE UPDATE ON log_sth WHEN
              NEW.size <> OLD.size OR NEW.root <> OLD.root OR NEW.timestamp < OLD.timestamp
              BEGIN SELECT RAISE(ABORT, 'a size has one root, and time goes forward'); END;
            """,
        ),
        (
            "runs of entries in a row",
            """
            ALTER TABLE log_entries RENAME COLUMN entry_hash TO entry_hashes;
            ALTER TABLE log_entries RENAME COLUMN body TO bodies;
            INSERT INTO log_index SELECT entry_key, idx FROM log_index_recent ORDER BY entry_key, idx;
            DELETE FROM log_index_recent;
            DELETE FROM log_index WHERE idx >= (SELECT coalesce(max(idx) + 1, 0) / 65536 * 65536 FROM log_entries);
            """,
        ),
    ),
)
