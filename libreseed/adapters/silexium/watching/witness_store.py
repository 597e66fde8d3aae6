"""What a witness has cosigned, and the one step by which it cosigns more.

Comparing with the last head, storing the new one and signing are one transaction, durable before the signature leaves:
of two requests that both extend one head, the second finds the first's (``silexium.witness-size``), and a crash leaves
either nothing or a head that the log can ask to be cosigned again. A witness whose database was lost or put back from a
backup can be made to contradict itself: it needs a new key. Specification: ``silexium-log.md``, 8.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from libreseed import wire
from libreseed.adapters.silexium.database import Database, Schema
from libreseed.errors import NotFound, ProofRejected, UsageFault
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.document import rejecting
from libreseed.silexium.log_memory import ConsistencyProof, HeadConflict, LogMemory, parse_memory
from libreseed.silexium.signed_note import SignedNote
from libreseed.silexium.tree_head import Checkpoint, Cosignature, NamedKey, SignedTreeHead, TreeHead, parse_checkpoint
from libreseed.silexium.witness import next_cosigned
from libreseed.silexium.witness_wire import AddCheckpoint

__all__ = ["WITNESS_SCHEMA", "WitnessStore"]

WITNESS_SCHEMA = Schema(
    "witness",
    (
        (
            "what was cosigned last of each log",
            """
            CREATE TABLE witness_logs(
              origin TEXT PRIMARY KEY, size INTEGER NOT NULL, memory TEXT NOT NULL, checkpoint TEXT NOT NULL
            ) STRICT, WITHOUT ROWID;
            CREATE TRIGGER witness_logs_grow BEFORE UPDATE ON witness_logs WHEN NEW.size < OLD.size
              BEGIN SELECT RAISE(ABORT, 'a witness never cosigns a smaller head'); END;
            CREATE TRIGGER witness_logs_keep BEFORE DELETE ON witness_logs
              BEGIN SELECT RAISE(ABORT, 'a witness forgets no log'); END;
            """,
        ),
    ),
)


class WitnessStore:
    """The witness ``name`` with ``key``, for ``logs`` and no others."""

    def __init__(self, database: Database, name: str, key: PrivateKey, logs: Iterable[NamedKey]) -> None:
        self.database = database
        self.identity = NamedKey(name, key.public)
        self._key = key
        self._logs = {log.name: log for log in logs}
        if key.public in {log.key for log in self._logs.values()}:
            raise UsageFault("config.value", "a log cannot be its own witness: the keys are one")

    def add_checkpoint(self, request: AddCheckpoint, now: int) -> Cosignature:
        """Cosign the head in ``request`` at ``now`` (Unix seconds), if it extends what was cosigned last.

        Raises ``silexium.head`` (not a checkpoint), ``.head-log`` (no such log), ``.head-signature``,
        ``.witness-request`` (old size above the head's), and what :func:`next_cosigned` raises.
        """
        sth = self._verified(request)
        if request.old > sth.size:
            message = f"the request goes from {request.old} back to {sth.size} entries"
            raise ProofRejected("silexium.witness-request", message)
        return self._cosign(sth, ConsistencyProof(request.old, sth.size, request.hashes), now)

    def cosigned(self, origin: str) -> LogMemory | None:
        """What was cosigned of the log ``origin``; raises ``silexium.memory`` when that is damaged."""
        log = self._log(origin)
        with self.database.read() as connection:
            return _recall(connection, log)

    def checkpoint(self, origin: str) -> bytes:
        """The last checkpoint that was cosigned of ``origin``, with the log's line and ours; raises NotFound."""
        query = "SELECT checkpoint FROM witness_logs WHERE origin = ? AND checkpoint <> ''"
        with self.database.read() as connection:
            row = connection.execute(query, (origin,)).fetchone()
        if row is None:
            raise NotFound("notfound.log", f"{self.identity.name} has cosigned nothing of {origin}")
        return str(row[0]).encode()

    def origins(self) -> list[str]:
        """The logs that are witnessed."""
        return sorted(self._logs)

    def _verified(self, request: AddCheckpoint) -> SignedTreeHead:
        with rejecting(ProofRejected, "silexium", "head"):
            origin = TreeHead.parse(SignedNote.parse(request.note).text).origin
        return parse_checkpoint(request.note, self._log(origin)).sth

    def _log(self, origin: str) -> NamedKey:
        log = self._logs.get(origin)
        if log is None:
            raise ProofRejected("silexium.head-log", f"{origin!r:.80} is no log that {self.identity.name} witnesses")
        return log

    def _cosign(self, sth: SignedTreeHead, proof: ConsistencyProof, now: int) -> Cosignature:
        try:
            with self.database.write() as connection:
                learned = next_cosigned(_recall(connection, sth.log), sth, proof, now=now)
                cosignature = Cosignature.sign(sth.head, self.identity.name, now, self._key)
                _keep(connection, learned, Checkpoint(sth, (cosignature,)))
        except ProofRejected as error:
            conflict = error.evidence.get("conflict")
            if isinstance(conflict, HeadConflict):
                self._keep_conflict(sth.log, conflict)
            raise
        return cosignature

    def _keep_conflict(self, log: NamedKey, conflict: HeadConflict) -> None:
        """A proven fork ends the witnessing of its log for good."""
        with self.database.write() as connection:
            memory = _recall(connection, log)
            if memory is not None and memory.conflict is None:
                _keep(connection, replace(memory, conflict=conflict), None)


def _recall(connection: sqlite3.Connection, log: NamedKey) -> LogMemory | None:
    row = connection.execute("SELECT memory FROM witness_logs WHERE origin = ?", (log.name,)).fetchone()
    return None if row is None else parse_memory(row[0].encode(), log)


def _keep(connection: sqlite3.Connection, memory: LogMemory, checkpoint: Checkpoint | None) -> None:
    """Store what was learned; without ``checkpoint`` the last one stays."""
    note = "" if checkpoint is None else checkpoint.data.decode()
    connection.execute(
        "INSERT INTO witness_logs VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size, "
        "memory = excluded.memory, checkpoint = iif(excluded.checkpoint = '', checkpoint, excluded.checkpoint)",
        (memory.head.head.origin, memory.head.size, wire.canonical(memory.members()).decode(), note),
    )
