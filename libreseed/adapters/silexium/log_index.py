"""Finds entries by their hash: a large index and a small one for what is new, both over the front of the hash.

The first 8 bytes are enough to look by (whoever asks compares whole hashes), and an index over all 32 would outgrow the
tiles. A random insert into a large index touches a page for every entry; so new ones go to the small one, which is
merged into the large one every ``RECENT`` entries, in order. Specification: ``silexium-log.md``, 1.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Sequence

__all__ = ["RECENT", "add_to_index", "candidates", "index_keys"]

RECENT = 2**16
_KEY = struct.Struct(">q")


def index_keys(entry_hashes: Sequence[bytes]) -> list[int]:
    """What entries are looked up by."""
    return [key for (key,) in map(_KEY.unpack_from, entry_hashes)]


def candidates(connection: sqlite3.Connection, keys: Sequence[int]) -> list[int]:
    """Where entries are whose hashes begin as ``keys`` say."""
    if len(keys) == 1:  # needs no table of its own, which costs more than the look-up
        query = "SELECT idx FROM log_index WHERE entry_key = :key UNION ALL "
        query += "SELECT idx FROM log_index_recent WHERE entry_key = :key"
        return [index for (index,) in connection.execute(query, {"key": keys[0]})]
    query = (
        "WITH wanted(entry_key) AS MATERIALIZED (SELECT value FROM json_each(?) ORDER BY value) "
        "SELECT idx FROM wanted CROSS JOIN log_index USING(entry_key) UNION ALL "
        "SELECT idx FROM wanted CROSS JOIN log_index_recent USING(entry_key)"
    )
    return [index for (index,) in connection.execute(query, (json.dumps(keys),))]


def add_to_index(connection: sqlite3.Connection, keys: Sequence[int], indices: range) -> None:
    """Add the entries at ``indices``, in the transaction that stores them."""
    if len(keys) == 1:
        connection.execute("INSERT INTO log_index_recent VALUES(?, ?)", (keys[0], indices.start))
    else:
        query = "INSERT INTO log_index_recent SELECT value, ? + key FROM json_each(?) ORDER BY value"
        connection.execute(query, (indices.start, json.dumps(keys)))
    if indices.stop // RECENT > indices.start // RECENT:
        connection.execute("INSERT INTO log_index SELECT * FROM log_index_recent ORDER BY entry_key, idx")
        connection.execute("DELETE FROM log_index_recent")
