"""The queue of stamps in Silexium's database: which attestations want stamps, and how far every one of these is.

Every change of a job is one transaction, so kill -9 loses an answer that was on its way and nothing else: what was
asked for is asked for again, and what is stored is never asked for twice. A job is written back only while it is as it
was read, so that two processes over one database do not undo each other's work. Verified bytes only: what is ``done``
went through the core's verification. Everything blocks. Specification: ``silexium-time.md``, 4.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from libreseed import limits
from libreseed.adapters.silexium.database import Database, Schema
from libreseed.errors import NotFound, ProofRejected, UsageFault
from libreseed.silexium.stamp_job import JobState, StampJob, StampKind

__all__ = ["STAMP_SCHEMA", "StampQueue", "StampStatus", "forget_stamps", "want_stamps"]

STAMP_SCHEMA = Schema(
    "stamps",
    (
        (
            "messages and jobs",
            """
            CREATE TABLE stamp_messages(hash BLOB PRIMARY KEY, message BLOB NOT NULL, added INTEGER NOT NULL)
              STRICT, WITHOUT ROWID;
            CREATE TABLE stamp_jobs(
              message BLOB NOT NULL REFERENCES stamp_messages(hash) ON DELETE CASCADE,
              kind TEXT NOT NULL CHECK(kind IN ('tsa', 'ots')), service TEXT NOT NULL,
              state TEXT NOT NULL CHECK(state IN ('wanted', 'pending', 'anchored', 'done')),
              due INTEGER NOT NULL, failures INTEGER NOT NULL, questions INTEGER NOT NULL, since INTEGER NOT NULL,
              promise BLOB, proof BLOB, reason TEXT, detail TEXT,
              PRIMARY KEY(message, kind, service),
              CHECK((state IN ('anchored', 'done')) = (proof IS NOT NULL))) STRICT, WITHOUT ROWID;
            CREATE INDEX stamp_jobs_due ON stamp_jobs(due) WHERE state <> 'done';
            """,
        ),
    ),
)
_FIELDS = "message, kind, service, due, state, failures, questions, since, promise, proof, reason, detail"


@dataclass(frozen=True, slots=True)
class StampStatus:
    """What there is of one attestation's stamps. ``tokens`` and ``proofs`` are complete and verified, by service."""

    message: bytes
    jobs: tuple[StampJob, ...]

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """RFC 3161 responses."""
        return tuple(job.proof or b"" for job in self.jobs if job.kind is StampKind.TSA and job.state is JobState.DONE)

    @property
    def proofs(self) -> tuple[bytes, ...]:
        """Complete OpenTimestamps proofs, confirmed by the headers that were at hand."""
        return tuple(job.proof or b"" for job in self.jobs if job.kind is StampKind.OTS and job.state is JobState.DONE)

    @property
    def open(self) -> tuple[StampJob, ...]:
        """What is still under way."""
        return tuple(job for job in self.jobs if job.state is not JobState.DONE)

    def suffices(self, tokens: int, proofs: int = 1) -> bool:
        """Whether at least so many of each are there."""
        return len(self.tokens) >= tokens and len(self.proofs) >= proofs


def want_stamps(
    connection: sqlite3.Connection, attestations: Iterable[bytes], services: Iterable[tuple[StampKind, str]], now: int
) -> None:
    """Put what is not there yet into the queue, within the caller's transaction; what is there stays as it is."""
    services = tuple(services)
    for data in attestations:
        if len(data) > limits.ATTESTATION_BYTES:
            raise ProofRejected("silexium.attestation", f"an attestation has at most {limits.ATTESTATION_BYTES} bytes")
        message = blake3(data).digest()
        connection.execute("INSERT OR IGNORE INTO stamp_messages VALUES (?, ?, ?)", (message, data, now))
        _add_jobs(connection, message, services, now)


def forget_stamps(connection: sqlite3.Connection, attestations: Iterable[bytes]) -> None:
    """As :meth:`StampQueue.forget`, within the caller's transaction."""
    for data in attestations:
        connection.execute("DELETE FROM stamp_messages WHERE hash = ?", (blake3(data).digest(),))


class StampQueue:
    """The rows of one database; ``services`` are those that may be asked now: jobs of others wait untouched.

    Raises :class:`UsageFault` (``config.stamps``) for too many services, or one that is listed twice.
    """

    def __init__(self, database: Database, services: Sequence[tuple[StampKind, str]]) -> None:
        self.database = database
        self.services = tuple(services)
        values = ", ".join(["(?, ?)"] * len(self.services))
        self._ours = f"(kind, service) IN (VALUES {values})" if services else "FALSE"
        self._names = [str(text) for service in self.services for text in service]
        kinds = [kind for kind, _ in self.services]
        if len(set(self.services)) != len(kinds) or max(map(kinds.count, StampKind)) > limits.STAMPS_PER_KIND:
            message = f"at most {limits.STAMPS_PER_KIND} authorities and as many calendars, each once"
            raise UsageFault("config.stamps", message)

    def want(self, attestations: Iterable[bytes], now: int) -> None:
        """As :func:`want_stamps`, in a transaction of its own."""
        with self.database.write() as connection:
            want_stamps(connection, attestations, self.services, now)

    def want_of_new_services(self, now: int) -> None:
        """Ask services that were configured since for what is not finished; call once after a start."""
        with self.database.write() as connection:
            for (message,) in connection.execute("SELECT hash FROM stamp_messages").fetchall():
                _add_jobs(connection, message, self.services, now)

    def due(self, now: int, longest: int) -> list[StampJob]:
        """Jobs whose time has come, oldest first, at most a batch of each service: no one fills the others' places.

        A time further ahead than ``longest`` seconds was set by a clock that was wrong, and counts as come.
        """
        query = f"""SELECT {_FIELDS} FROM (
              SELECT *, ROW_NUMBER() OVER (PARTITION BY kind, service ORDER BY due) AS place FROM stamp_jobs
              WHERE state <> 'done' AND (due <= ? OR due > ?) AND {self._ours})
            WHERE place <= ? ORDER BY due"""  # noqa: S608  # constants and question marks
        values = (now, now + longest, *self._names, limits.STAMP_JOBS_AT_ONCE)
        with self.database.read() as connection:
            return [_job(row) for row in connection.execute(query, values)]

    def next_due(self) -> int | None:
        """When the next job is due (Unix seconds); None when all is done."""
        query = f"SELECT MIN(due) FROM stamp_jobs WHERE state <> 'done' AND {self._ours}"  # noqa: S608  # as above
        with self.database.read() as connection:
            (earliest,) = connection.execute(query, self._names).fetchone()
        return None if earliest is None else int(earliest)

    def data_of(self, message: bytes) -> bytes | None:
        """The attestation whose hash is ``message``; None when it was forgotten."""
        with self.database.read() as connection:
            row = connection.execute("SELECT message FROM stamp_messages WHERE hash = ?", (message,)).fetchone()
        return None if row is None else bytes(row[0])

    def replace(self, before: StampJob, after: StampJob) -> bool:
        """Store ``after`` if the job is still as ``before``; False when another process was faster."""
        names = [name.strip() for name in _FIELDS.split(",")]
        changes = ", ".join(f"{name} = ?" for name in names[3:])
        same = " AND ".join(f"{name} IS ?" for name in names)
        query = f"UPDATE stamp_jobs SET {changes} WHERE {same}"  # noqa: S608  # names out of a constant
        with self.database.write() as connection:
            return connection.execute(query, (*_row(after)[3:], *_row(before))).rowcount == 1

    def postpone(self, kind: StampKind, service: str, until: int) -> None:
        """Let nothing that wants this service be due before ``until``: it does not answer."""
        with self.database.write() as connection:
            query = "UPDATE stamp_jobs SET due = ? WHERE kind = ? AND service = ? AND state <> 'done' AND due < ?"
            connection.execute(query, (until, kind, service, until))

    def wake_anchored(self, now: int) -> None:
        """Look at once again at all that waits for headers."""
        with self.database.write() as connection:
            connection.execute("UPDATE stamp_jobs SET due = ? WHERE state = 'anchored' AND due > ?", (now, now))

    def status(self, attestation: bytes) -> StampStatus:
        """How far the stamps of an attestation are; raises NotFound (``silexium.not-queued``)."""
        message = blake3(attestation).digest()
        query = f"SELECT {_FIELDS} FROM stamp_jobs WHERE message = ? ORDER BY kind DESC, service"  # noqa: S608
        with self.database.read() as connection:
            rows = connection.execute(query, (message,)).fetchall()
            if not rows and self._unknown(connection, message):
                raise NotFound("silexium.not-queued", f"no stamps were ever wanted of the attestation {message.hex()}")
        return StampStatus(message, tuple(map(_job, rows)))

    def forget(self, attestation: bytes) -> None:
        """Drop an attestation with all its stamps: they are in the log, or nobody wants them any more."""
        with self.database.write() as connection:
            forget_stamps(connection, [attestation])

    def _unknown(self, connection: sqlite3.Connection, message: bytes) -> bool:
        query = "SELECT 1 FROM stamp_messages WHERE hash = ?"
        return connection.execute(query, (message,)).fetchone() is None


def _add_jobs(
    connection: sqlite3.Connection, message: bytes, services: Iterable[tuple[StampKind, str]], now: int
) -> None:
    for kind, service in services:
        row = _row(StampJob(message, kind, service, now))
        query = f"INSERT OR IGNORE INTO stamp_jobs({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        connection.execute(query, row)


def _row(job: StampJob) -> tuple[object, ...]:
    numbers = (job.due, str(job.state), job.failures, job.questions, job.since)
    return (job.message, str(job.kind), job.service, *numbers, job.promise, job.proof, job.reason, job.detail)


def _job(row: tuple[object, ...]) -> StampJob:
    message, kind, service, due, state, *rest = row
    return StampJob(message, StampKind(str(kind)), service, due, JobState(str(state)), *rest)  # type: ignore[arg-type]
