"""The log in its database: entries, a row per 256-wide tile, signed heads, cosignatures; proofs out of these.

Invariants: entries, tiles and the tree's size and root change in one transaction; a stored entry is never changed nor
removed (triggers refuse it); no size ever has two roots; a head covers only what is durable, and its time never goes
back. Before a head becomes visible it is in the *high-water file* beside the database, so that a database put back
from a backup is noticed: it is behind what its log has shown, and appends and signs nothing (``silexium.shrunk``).

Every method blocks; trio code goes through ``Database.run``. Whether an entry may be logged is its caller's decision.
Specification: ``silexium-log.md``, 2 and 3.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from libreseed import limits
from libreseed.adapters.silexium.database import Database
from libreseed.adapters.silexium.log.high_water import HighWater, require_fit
from libreseed.adapters.silexium.log.log_index import EntryIndex
from libreseed.adapters.silexium.log.log_rows import add_runs, cut_runs, entries_between, hashes_between, log_state
from libreseed.adapters.silexium.log.log_schema import LOG_SCHEMA
from libreseed.errors import LocalFault, NotFound, ProofRejected, UsageFault
from libreseed.ids import Blake3Digest, PublicKey, Signature
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.log_memory import ConsistencyProof
from libreseed.silexium.log_path import BodyBundle, EntryFile, LogPath, parse_log_path, write_bodies
from libreseed.silexium.log_proofs import consistency_proof, inclusion_proof, prefix_proof
from libreseed.silexium.merkle import BLAKE3_TREE, CompactRange
from libreseed.silexium.tile_groups import GroupedNodes, group_roots
from libreseed.silexium.tiles import HASH_BYTES, Tile, TileNodes, TileTail, write_entries
from libreseed.silexium.tree_head import Checkpoint, Cosignature, NamedKey, SignedTreeHead, TreeHead

__all__ = ["LOG_SCHEMA", "LogStore", "stored_identity"]

_TILE_BYTES = HASH_BYTES * limits.TILE_WIDTH
_TREES = 4  # sizes for which computed nodes are kept


@dataclass(frozen=True, slots=True)
class _State:
    """What the log is by its last durable transaction."""

    size: int
    root: bytes


class LogStore:
    """One log in one database. ``identity`` is its origin and public key, which a new database takes on."""

    def __init__(self, database: Database, identity: NamedKey) -> None:
        self.database = database
        self.identity = identity
        self.high_water = HighWater(database.path, identity)
        self._index = EntryIndex(database)
        self._tail: tuple[_State, TileTail] | None = None  # owned by who is in a writing transaction
        self._trees: OrderedDict[int, GroupedNodes] = OrderedDict()
        self._trees_lock = threading.Lock()
        self._size = 0  # at least
        with database.read() as connection:
            known = connection.execute("SELECT origin, key FROM log_identity").fetchone()
        if known is None:
            with database.write() as connection:
                row = (1, identity.name, identity.key.raw)
                connection.execute("INSERT INTO log_identity VALUES(?, ?, ?) ON CONFLICT DO NOTHING", row)
                known = connection.execute("SELECT origin, key FROM log_identity").fetchone()
        if known != (identity.name, identity.key.raw):
            message = (
                f"{database.path} holds the log {known[0]!r:.80} of {PublicKey(known[1])}, not {identity.name!r:.80}"
            )
            raise UsageFault("config.log", f"{message} of {identity.key}")

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[bytes]) -> range:
        """Append entries in one durable transaction; returns their indices. Raises as :meth:`append_in`."""
        with self.database.write() as connection:
            indices, hashes = self._append_shown(connection, entries)
        self._index.committed(indices, hashes)
        return indices

    def append_in(self, connection: sqlite3.Connection, entries: Sequence[bytes]) -> range:
        """Append entries within the caller's ``Database.write`` block, so that they are logged together with it.

        Raises ``silexium.logged`` for an entry that the log has (evidence ``index``), ``silexium.entry`` for one out of
        bounds, ``silexium.shrunk`` when the database is behind what its log has shown.
        """
        return self._append_shown(connection, entries)[0]

    def recover(self, entries: Sequence[bytes], shown: SignedTreeHead) -> None:
        """Append what the database lacks of the tree of ``shown``; it must lead to exactly that root, else
        ``silexium.consistency`` and nothing is appended."""
        with self.database.write() as connection:
            self._append(connection, _state(connection), entries)
            state = _state(connection)
            if (state.size, state.root) != (shown.size, shown.root.raw):
                message = f"the database is not the beginning of the log of {shown.size} entries"
                raise ProofRejected("silexium.consistency", message, evidence={"shown": shown.members()})

    def _append_shown(self, connection: sqlite3.Connection, entries: Sequence[bytes]) -> tuple[range, list[bytes]]:
        state = _state(connection)
        self.high_water.require(state.size, lambda size: self.root_in(connection, size))
        return self._append(connection, state, entries)

    def _append(
        self, connection: sqlite3.Connection, old: _State, entries: Sequence[bytes]
    ) -> tuple[range, list[bytes]]:
        """The indices and hashes of what was appended."""
        runs = cut_runs(old.size, entries)
        hashes = [blake3(entry).digest() for entry in entries]
        if not runs:
            return range(old.size, old.size), hashes
        self._index.refuse_known(connection, old.size, hashes)
        tail = self._tail_at(connection, old)
        self._tail = None  # until all of this has happened: a tail ahead of the database must not be used
        changed = tail.append_grouped(hashes)
        new = _State(tail.range.size, tail.range.root)
        rows = [(*tile, *row) for tile, row in changed.items() if tile[0] or len(row[0]) == _TILE_BYTES]
        query = "INSERT INTO log_tiles VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        query += "hashes = excluded.hashes, groups = excluded.groups"
        if rows:
            connection.executemany(query, rows)
        add_runs(connection, old.size, entries, runs, hashes, root=new.root)
        self._index.add(connection, old.size, new.size)
        self._tail = new, tail
        return range(old.size, new.size), hashes

    def require_shown(self) -> None:
        """Demand that the database has all that the log has shown, before it is served; raises ``silexium.shrunk``."""
        shown = self.high_water.shown()  # before the snapshot, which then has what was shown by then
        with self.database.read() as connection:
            if shown is not None:
                require_fit(shown, _state(connection).size, lambda size: self.root_in(connection, size))

    def sign_head(self, key: PrivateKey, now: int) -> SignedTreeHead:
        """Sign the log as it stands at ``now`` (Unix seconds); durable, in the high-water file, then returned.

        The same tree signed again keeps its root and gets the newer time. A clock up to ``CLOCK_SKEW_SECONDS`` behind
        the last head signs with that head's time; further behind is ``silexium.clock``.
        """
        if key.public != self.identity.key:
            raise UsageFault("config.log", f"the log {self.identity.name} is signed with {self.identity.key}")
        with self.database.write() as connection:
            state = _state(connection)
            self.high_water.require(state.size, lambda size: self.root_in(connection, size))
            last = connection.execute("SELECT max(timestamp) FROM log_sth").fetchone()[0] or 0
            if now + limits.CLOCK_SKEW_SECONDS < last:
                raise ProofRejected("silexium.clock", f"the clock says {now}, but the log has signed at {last}")
            head = TreeHead(self.identity.name, state.size, Blake3Digest(state.root))
            sth = SignedTreeHead.sign(head, max(now, last), key)
            connection.execute(
                "INSERT INTO log_sth VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET root = excluded.root, "
                "timestamp = excluded.timestamp, signature = excluded.signature, key = excluded.key",
                (sth.size, sth.root.raw, sth.timestamp, sth.signature.raw, key.public.raw),
            )
            # Before the commit: once anybody can see the head, the file knows it. If the process dies in between, the
            # file names a head of durable entries, which the next one to sign will fit.
            self.high_water.raise_to(sth)
        return sth

    def note_shown(self, sth: SignedTreeHead) -> None:
        """Remember a head of this log that somebody else has kept; raises ``silexium.shrunk`` if the database does not
        have its tree, now and at every later append or signature."""
        with self.database.write() as connection:
            try:
                require_fit(sth, _state(connection).size, lambda size: self.root_in(connection, size))
            except ProofRejected:
                self.high_water.raise_to(sth)  # also a smaller one: what does not fit must go on to be found
                raise
            shown = self.high_water.shown()
            if shown is None or shown.size < sth.size:
                self.high_water.raise_to(sth)

    def add_cosignature(self, cosignature: Cosignature) -> None:
        """Keep a witness's cosignature of one of this log's heads; a newer one of the same key replaces it."""
        head, signer = cosignature.head, cosignature.signer
        with self.database.write() as connection:
            row = connection.execute("SELECT root FROM log_sth WHERE size = ?", (head.size,)).fetchone()
            if head.origin != self.identity.name or row != (head.root.raw,):
                raise ProofRejected("silexium.witness", f"{signer.name} cosigned another head than asked")
            connection.execute(
                "INSERT INTO log_cosignatures VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name, "
                "time = excluded.time, signature = excluded.signature WHERE excluded.time >= time",
                (head.size, signer.name, signer.key.raw, cosignature.time, cosignature.signature.raw),
            )

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Entries in the log, whether or not a head covers them."""
        with self.database.read() as connection:
            return _state(connection).size

    def head(self) -> SignedTreeHead | None:
        """The newest head, or None before the first one is signed."""
        checkpoint = self.checkpoint()
        return None if checkpoint is None else checkpoint.sth

    def checkpoint(self, cosigned: int = 0) -> Checkpoint | None:
        """The newest head that at least ``cosigned`` witnesses have cosigned, with their cosignatures; None if none."""
        query = (
            "SELECT size, root, timestamp, signature FROM log_sth WHERE key = ? AND "
            "(SELECT count(*) FROM log_cosignatures AS c WHERE c.size = log_sth.size) >= ? ORDER BY size DESC LIMIT 1"
        )
        with self.database.read() as connection:
            row = connection.execute(query, (self.identity.key.raw, cosigned)).fetchone()
            if row is None:
                return None
            lines = "SELECT name, key, time, signature FROM log_cosignatures WHERE size = ? ORDER BY name, key"
            cosignatures = connection.execute(lines, (row[0],)).fetchall()
        head = TreeHead(self.identity.name, row[0], Blake3Digest(row[1]))
        sth = SignedTreeHead(head, row[2], Signature(row[3]), self.identity)
        by = (
            Cosignature(head, NamedKey(name, PublicKey(key)), time, Signature(signature))
            for name, key, time, signature in cosignatures
        )
        return Checkpoint(sth, tuple(by))

    def cosigned_size(self, witness: PublicKey) -> int:
        """The largest head that ``witness`` has cosigned, as far as is known here."""
        query = "SELECT coalesce(max(size), 0) FROM log_cosignatures WHERE key = ?"
        with self.database.read() as connection:
            return int(connection.execute(query, (witness.raw,)).fetchone()[0])

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The inclusion proof of entry ``index`` in the log of ``size`` entries; raises ``silexium.inclusion``."""
        self._require_size(size)
        with self._trees_lock:
            return inclusion_proof(self._tree(size).node, index, size)

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """The proof that the log of ``new`` entries begins with that of ``old``; raises ``silexium.consistency``."""
        self._require_size(new)
        with self._trees_lock:
            return ConsistencyProof(old, new, tuple(consistency_proof(self._tree(new).node, old, new)))

    def prefix(self, old: int, new: int) -> list[bytes]:
        """The hashes from which :func:`prefix_root` derives the root that the log of ``new`` entries had at ``old``."""
        self._require_size(new)
        with self._trees_lock:
            return prefix_proof(self._tree(new).node, old, new)

    def root_at(self, size: int) -> bytes:
        """The root of the first ``size`` entries."""
        self._require_size(size)
        with self.database.read() as connection:
            return self.root_in(connection, size)

    def entry(self, index: int) -> bytes:
        """The bytes of entry ``index``; raises :class:`NotFound` ``notfound.log``."""
        with self.database.read() as connection:
            for _, _, text in entries_between(connection, index, index + 1):
                return text.encode()
        raise NotFound("notfound.log", f"the log has no entry {index}")

    def entries(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        """(index, entry hash, bytes) of the entries [start, end), in order; holds a snapshot until exhausted."""
        with self.database.read() as connection:
            for index, digest, text in entries_between(connection, start, end):
                yield index, digest, text.encode()

    def find(self, digest: Blake3Digest) -> int | None:
        """The index of the entry with this hash, or None."""
        return self._index.find(digest.raw)

    def tile(self, path: str) -> bytes:
        """What is served at ``path``: a tile, a bundle of entry hashes or bodies, or ``entries/<index>``.

        Raises ``silexium.tile`` for what is no such path, ``notfound.log`` for what the log does not have.
        """
        return self.read_path(parse_log_path(path))

    def read_path(self, place: LogPath) -> bytes:
        """As :meth:`tile`, for a path that was parsed already."""
        if isinstance(place, EntryFile):
            return self.entry(place.index)
        if isinstance(place, Tile):
            with self.database.read() as connection:
                return _tile(connection, place)
        found = list(self.entries(place.start, place.start + place.width))
        if len(found) < place.width:
            raise NotFound("notfound.log", f"the log does not have {place.path} yet")
        if isinstance(place, BodyBundle):
            return write_bodies([body for _, _, body in found])
        return write_entries([digest for _, digest, _ in found])

    # --- inside -----------------------------------------------------------------------------------------------------

    def _tail_at(self, connection: sqlite3.Connection, state: _State) -> TileTail:
        """The tail as the database has it: our own, or read anew when another process has appended, or we failed."""
        if self._tail is not None and self._tail[0] == state:
            return self._tail[1]
        tail = TileTail(lambda tile: _tile(connection, tile), state.size)
        if tail.range.root != state.root:
            raise LocalFault("storage.database", f"{self.database.path}: the tiles do not lead to the stored root")
        return tail

    def _tree(self, size: int) -> GroupedNodes:
        """Nodes of the log at ``size``, with those computed before; the caller holds ``_trees_lock``."""
        nodes = self._trees.get(size)
        if nodes is None:
            nodes = self._trees[size] = GroupedNodes(self._read_grouped, size, limits.LOG_CACHED_TILES)
            if len(self._trees) > _TREES:
                self._trees.popitem(last=False)
        self._trees.move_to_end(size)
        return nodes

    def _read_grouped(self, tile: Tile) -> tuple[bytes, bytes]:
        query = "SELECT hashes, groups FROM log_tiles WHERE level = ? AND idx = ?"
        with self.database.read() as connection:
            row = connection.execute(query, (tile.level, tile.index)).fetchone()
            if row is not None and len(row[0]) == HASH_BYTES * tile.width:
                return row[0], row[1]
            hashes = _tile(connection, tile)  # a partial one that is not stored, or has grown since
        return hashes, group_roots(hashes)

    @staticmethod
    def root_in(connection: sqlite3.Connection, size: int) -> bytes:
        """The root of the first ``size`` entries, within the caller's snapshot or transaction."""
        nodes = TileNodes(lambda tile: _tile(connection, tile), size, cached_tiles=16)
        return CompactRange.from_nodes(nodes.node, size).root

    def _require_size(self, size: int) -> None:
        if size > self._size:  # what it was once: a log only grows
            self._size = self.size
        if size > self._size:
            raise NotFound("notfound.log", f"the log does not have {size} entries yet")


def stored_identity(database: Database) -> NamedKey:
    """Whose log the database holds; raises ``notfound.log`` when it holds none yet."""
    with database.read() as connection:
        row = connection.execute("SELECT origin, key FROM log_identity").fetchone()
    if row is None:
        raise NotFound("notfound.log", f"{database.path} holds no log yet")
    return NamedKey(row[0], PublicKey(row[1]))


def _state(connection: sqlite3.Connection) -> _State:
    return _State(*(log_state(connection) or (0, BLAKE3_TREE.empty_root)))


def _tile(connection: sqlite3.Connection, tile: Tile) -> bytes:
    query = "SELECT hashes FROM log_tiles WHERE level = ? AND idx = ?"
    row = connection.execute(query, (tile.level, tile.index)).fetchone()
    if row is None and tile.level == 0:
        start = tile.index * limits.TILE_WIDTH
        hashes = hashes_between(connection, start, start + tile.width)
        row = [b"".join(BLAKE3_TREE.leaf(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES))]
    if row is None or len(row[0]) < HASH_BYTES * tile.width:
        raise NotFound("notfound.log", f"the log does not have {tile.path} yet")
    return bytes(row[0][: HASH_BYTES * tile.width])
