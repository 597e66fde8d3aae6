"""fsck of a log's database: what can be recomputed is, from the entries up, and compared with what is stored.

SQLite's own structures; entries without a gap, each with its hash; every tile, partial ones included; the tree's root;
the index; every head's signature, root and order in time; every cosignature; the high-water file. Entries are read in
order, in bounded memory. Nothing is changed. Specification: ``silexium-log.md``, 6.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from libreseed import limits
from libreseed.adapters.silexium.log.high_water import require_fit
from libreseed.adapters.silexium.log.log_index import index_keys, indexed_size, postings
from libreseed.adapters.silexium.log.log_rows import entry_texts, log_state
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.errors import LibreSeedError, LocalFault
from libreseed.ids import Blake3Digest, PublicKey, Signature
from libreseed.silexium.merkle import CompactRange
from libreseed.silexium.tile_groups import group_roots
from libreseed.silexium.tiles import HASH_BYTES
from libreseed.silexium.tree_head import Cosignature, NamedKey, SignedTreeHead, TreeHead

__all__ = ["LogFacts", "check_log"]

_ROW = limits.TILE_WIDTH
_FAULTS = 20  # that are listed; one decides already


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What a sound log holds."""

    size: int
    root: Blake3Digest
    heads: int
    cosignatures: int


def check_log(store: LogStore) -> LogFacts:
    """Check all of it in one snapshot; raises :class:`LocalFault` ``storage.database`` that lists what is wrong, or
    ``silexium.shrunk``."""
    store.database.check()
    shown = store.high_water.shown()  # before the snapshot, which then has what was shown by then
    with store.database.read() as connection:
        check = _Check(store, connection)
        check.tree()
        check.heads()
        if check.faults:
            first, *others = check.faults[:_FAULTS]
            raise LocalFault("storage.database", f"{store.database.path}: {first}", details=others)
        if shown is not None:
            require_fit(shown, check.size, lambda size: store.root_in(connection, size))
        return LogFacts(check.size, Blake3Digest(check.root), check.head_count, check.cosignature_count)


class _Check:
    """One pass over one snapshot; ``faults`` are lines for a person."""

    def __init__(self, store: LogStore, connection: sqlite3.Connection) -> None:
        self._store = store
        self._connection = connection
        self.faults: list[str] = []
        self.size = 0
        self.root = b""
        self.head_count = self.cosignature_count = 0
        self._roots: dict[int, bytes] = {}
        self._indexed_size = indexed_size((log_state(connection) or (0, b""))[0])

    def tree(self) -> None:
        """Entries, tiles, index and state."""
        wanted = [size for (size,) in self._connection.execute("SELECT size FROM log_sth ORDER BY size")]
        tree = CompactRange()
        rows: dict[int, bytearray] = {}
        for hashes in self._entries():
            while wanted and wanted[0] <= tree.size + len(hashes):
                self._root_within(tree, hashes, wanted.pop(0))
            tree.extend_rows(hashes, lambda level, start, row: self._tiles(rows, level, start, row))
        for size in (size for size in wanted if size > tree.size):
            self.faults.append(f"a head covers {size} entries, of which there are {tree.size}")
        for level, row in rows.items():
            if row and level:
                self._tile(level, (tree.size >> 8 * level) // _ROW, bytes(row))
        self.size, self.root = tree.size, tree.root
        if (log_state(self._connection) or (0, self.root)) != (self.size, self.root):
            self.faults.append(f"the entries make a log of {self.size}, root {self.root.hex()}, not what is stored")
        self._counts()

    def heads(self) -> None:
        """Signatures, roots, times, cosignatures."""
        before = 0
        for size, root, timestamp, signature, key in self._connection.execute(
            "SELECT size, root, timestamp, signature, key FROM log_sth ORDER BY size"
        ):
            self.head_count += 1
            if self._roots.get(size, root) != root or timestamp < before:
                self.faults.append(f"the head of {size} entries has another root than they, or is older than a smaller")
            before = timestamp
            name = self._store.identity.name
            try:
                head = TreeHead(name, size, Blake3Digest(root))
                SignedTreeHead(head, timestamp, Signature(signature), NamedKey(name, PublicKey(key)))
                self._cosignatures(head)
            except LibreSeedError as error:
                self.faults.append(f"the head of {size} entries: {error.message}")

    def _cosignatures(self, head: TreeHead) -> None:
        query = "SELECT name, key, time, signature FROM log_cosignatures WHERE size = ?"
        for name, key, time, signature in self._connection.execute(query, (head.size,)):
            Cosignature(head, NamedKey(name, PublicKey(key)), time, Signature(signature))
            self.cosignature_count += 1

    def _entries(self) -> Iterator[list[bytes]]:
        """The hashes of the entries as stored, by rows of 256; entries that are not as they should be are noted."""
        hashes: list[bytes] = []
        size = 0
        for index, stored, text in self._runs():
            if index != size:
                self.faults.append(f"entry {size} is missing")
                break
            if blake3(text.encode()).digest() != stored:
                self.faults.append(f"entry {index} does not have the hash that is stored with it")
            hashes.append(stored)
            size += 1
            if len(hashes) == _ROW:
                self._indexed(size - _ROW, hashes)
                yield hashes
                hashes = []
        if hashes:
            self._indexed(size - len(hashes), hashes)
            yield hashes

    def _runs(self) -> Iterator[tuple[int, bytes, str]]:
        query = "SELECT idx, entry_hashes, CAST(bodies AS BLOB) FROM log_entries ORDER BY idx"
        for first, hashes, bodies in self._connection.execute(query):
            try:
                texts = entry_texts(first, hashes, bodies.decode())
            except UnicodeDecodeError:
                self.faults.append(f"the entries from {first} on are not UTF-8")
                return
            except LocalFault as error:
                self.faults.append(error.message)
                return
            if first // _ROW != (first + len(texts) - 1) // _ROW:
                self.faults.append(f"the entries from {first} on lie in one row, and belong to two bundles")
            for number, text in enumerate(texts):
                yield first + number, hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES], text

    def _indexed(self, start: int, hashes: Sequence[bytes]) -> None:
        keys = index_keys(hashes)
        found = set(postings(self._connection, keys))
        lost = [index for index, key in enumerate(keys, start) if (key, index) not in found]
        self.faults += [f"entry {index} is not in the index" for index in lost if index < self._indexed_size]

    def _counts(self) -> None:
        query = "SELECT (SELECT count(*) FROM log_index) + (SELECT count(*) FROM log_index_recent)"
        if self._connection.execute(query).fetchone()[0] != self._indexed_size:
            self.faults.append("the index has more than the entries")
        expected = sum(-(-(self.size >> 8 * level) // _ROW) for level in range(1, 8)) + self.size // _ROW
        if self._connection.execute("SELECT count(*) FROM log_tiles").fetchone()[0] != expected:
            self.faults.append(f"there are not {expected} tiles, as {self.size} entries have")

    def _tiles(self, rows: dict[int, bytearray], level: int, start: int, hashes: Sequence[bytes]) -> None:
        if level % 8:
            return
        row = rows.setdefault(level // 8, bytearray())
        row += b"".join(hashes)
        if len(row) == HASH_BYTES * _ROW:
            self._tile(level // 8, start // _ROW, bytes(row))
            row.clear()

    def _tile(self, level: int, index: int, data: bytes) -> None:
        query = "SELECT hashes, groups FROM log_tiles WHERE level = ? AND idx = ?"
        if self._connection.execute(query, (level, index)).fetchone() != (data, group_roots(data)):
            self.faults.append(f"tile {level}/{index} is not what the entries make")

    def _root_within(self, tree: CompactRange, hashes: Sequence[bytes], size: int) -> None:
        part = CompactRange(tree.tree, tree.size, tree.peaks)
        part.extend(hashes[: size - tree.size])
        self._roots[size] = part.root
