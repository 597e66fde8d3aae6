"""The catalogue: which releases the server has taken in, what vouches for each, and how far it is towards the log.

    staged --stamps asked for--> pending --all stamps hold--> complete --appended--> logged
    staged, pending, complete --a check refuses--> refused

``NEXT`` is the only place that says what may follow what, and a step is taken only from there: of several processes
that try, one does it, and the others are told so. Invariants: a version has one content for good, whatever its state;
documents are kept as the exact bytes that were verified; what is logged never changes. Each step is one durable
transaction, so that a crash leaves a release before it or behind it. Nothing is verified here: ``admission`` and
``publication`` do. Every method blocks. Specification: ``silexium-api.md``, 2.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libreseed.adapters.silexium.database import Database, Schema
from libreseed.adapters.silexium.releases.foreign_entries import FOREIGN_ENTRIES, foreign_index
from libreseed.errors import ProofRejected
from libreseed.ids import ReleaseId
from libreseed.silexium.attestation import Attestation
from libreseed.silexium.bundle import Stamps
from libreseed.silexium.keyring import ROLES
from libreseed.silexium.precedence import rank
from libreseed.silexium.release_manifest import ReleaseManifest

__all__ = ["CATALOGUE_SCHEMA", "NEXT", "Catalogue", "Progress", "ReleaseState", "read_release"]


class ReleaseState(StrEnum):
    """How far a release is; only ``LOGGED`` is served."""

    STAGED = "staged"
    PENDING = "pending"
    COMPLETE = "complete"
    LOGGED = "logged"
    REFUSED = "refused"


NEXT: Final = {
    ReleaseState.STAGED: {ReleaseState.PENDING, ReleaseState.REFUSED},
    ReleaseState.PENDING: {ReleaseState.COMPLETE, ReleaseState.REFUSED},
    ReleaseState.COMPLETE: {ReleaseState.LOGGED, ReleaseState.REFUSED},
    ReleaseState.LOGGED: frozenset[ReleaseState](),
    ReleaseState.REFUSED: frozenset[ReleaseState](),
}

CATALOGUE_SCHEMA = Schema(
    "catalogue",
    (
        (
            "packages, versions, artifacts, manifests, attestations, proofs",
            """
            CREATE TABLE packages(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
            CREATE TABLE manifests(
              hash TEXT PRIMARY KEY, created_at INTEGER NOT NULL, license TEXT NOT NULL, data TEXT NOT NULL) STRICT;
            CREATE TABLE versions(
              id INTEGER PRIMARY KEY, package_id INTEGER NOT NULL REFERENCES packages(id), version TEXT NOT NULL,
              rank BLOB NOT NULL, channel TEXT NOT NULL, manifest_hash TEXT NOT NULL UNIQUE REFERENCES manifests(hash),
              state TEXT NOT NULL CHECK(state IN ('staged', 'pending', 'complete', 'logged', 'refused')),
              staged_at INTEGER NOT NULL, entry TEXT, log_index INTEGER UNIQUE, refusal TEXT,
              UNIQUE(package_id, version), CHECK((state = 'logged') = (log_index IS NOT NULL)),
              CHECK(state NOT IN ('complete', 'logged') OR entry IS NOT NULL)) STRICT;
            CREATE INDEX versions_waiting ON versions(state, id) WHERE state NOT IN ('logged', 'refused');
            CREATE INDEX versions_newest ON versions(package_id, channel, rank, log_index) WHERE state = 'logged';
            CREATE TABLE artifacts(
              version_id INTEGER NOT NULL REFERENCES versions(id), position INTEGER NOT NULL, type TEXT NOT NULL,
              os TEXT, arch TEXT, size INTEGER NOT NULL, blake3 TEXT NOT NULL, url TEXT NOT NULL,
              PRIMARY KEY(version_id, position)) STRICT, WITHOUT ROWID;
            CREATE TABLE attestations(
              version_id INTEGER NOT NULL REFERENCES versions(id), role TEXT NOT NULL, key_id TEXT NOT NULL,
              created_at INTEGER NOT NULL, hash TEXT NOT NULL UNIQUE, data TEXT NOT NULL,
              PRIMARY KEY(version_id, role)) STRICT;
            CREATE TABLE proofs(
              version_id INTEGER NOT NULL REFERENCES versions(id), role TEXT NOT NULL,
              kind TEXT NOT NULL CHECK(kind IN ('tsa', 'ots')), position INTEGER NOT NULL, data BLOB NOT NULL,
              PRIMARY KEY(version_id, role, kind, position)) STRICT;
            CREATE TRIGGER versions_keep BEFORE DELETE ON versions
              BEGIN SELECT RAISE(ABORT, 'a version is never removed'); END;
            CREATE TRIGGER versions_stay BEFORE UPDATE ON versions WHEN OLD.state IN ('logged', 'refused')
              OR NEW.manifest_hash <> OLD.manifest_hash OR NEW.version <> OLD.version
              OR NEW.package_id <> OLD.package_id
              BEGIN SELECT RAISE(ABORT, 'a version has one content'); END;
            """,
        ),
        FOREIGN_ENTRIES,
    ),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """A release on its way: its documents as far as they are there. ``attestations`` in the order of ``ROLES``."""

    number: int
    release: ReleaseId
    state: ReleaseState
    staged_at: int
    manifest: bytes
    attestations: tuple[bytes, ...]
    stamps: tuple[Stamps, ...] = ()
    entry: bytes | None = None
    log_index: int | None = None
    refusal: str | None = None


class Catalogue:
    """The catalogue in one database, whose ``CATALOGUE_SCHEMA`` has been applied."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- writing ------------------------------------------------------------------------------------------------------

    def stage(self, manifest: ReleaseManifest, attestations: Sequence[Attestation], now: int) -> Progress:
        """Take in a verified release, in one transaction; the same one again is where it was.

        Raises ``silexium.other-content`` when the version is there with another manifest, author or tests attestation,
        ``silexium.second-entry`` when the log has it without the catalogue's doing. The server's attestation may
        differ: the one that is kept is the first.
        """
        with self.database.write() as connection:
            known = _find(connection, manifest.release)
            if known is None and (index := foreign_index(connection, manifest.release)) is not None:
                message = f"the log has an entry for {manifest.release} already, at {index}"
                raise ProofRejected("silexium.second-entry", message, evidence={"index": index})
            if known is None:
                _insert(connection, manifest, attestations, now)
                known = _require(_find(connection, manifest.release))
        given = (manifest.data, *(attestation.data for attestation in attestations[:2]))
        if given != (known.manifest, *known.attestations[:2]):
            evidence = {"known": str(ReleaseManifest(known.manifest).digest), "given": str(manifest.digest)}
            message = f"{manifest.release} is here already, with other content"
            raise ProofRejected("silexium.other-content", message, evidence=evidence)
        return known

    def mark_pending(self, connection: sqlite3.Connection, number: int) -> bool:
        """The stamps of a staged release are asked for, in the caller's transaction; False if it is further already."""
        return _move(connection, number, ReleaseState.PENDING)

    def mark_complete(self, number: int, stamps: Sequence[Stamps], entry: bytes) -> bool:
        """All stamps hold: from here on exactly these, and the entry that names them, are the release's.

        False if another process has judged it first.
        """
        with self.database.write() as connection:
            if not _move(connection, number, ReleaseState.COMPLETE, entry=entry.decode()):
                return False
            connection.executemany(
                "INSERT INTO proofs VALUES(?, ?, ?, ?, ?)",
                [
                    (number, str(role), kind, position, data)
                    for role, stamp in zip(ROLES, stamps, strict=True)
                    for kind, items in (("tsa", stamp.tsa), ("ots", stamp.ots))
                    for position, data in enumerate(items)
                ],
            )
        return True

    def mark_logged(self, connection: sqlite3.Connection, number: int, index: int) -> None:
        """The entry is in the log at ``index``, in the caller's transaction, which found it complete."""
        if not _move(connection, number, ReleaseState.LOGGED, log_index=index):
            raise AssertionError(f"release {number} was not complete")

    def refuse(self, number: int, reason: str) -> bool:
        """A check on the way refused the release: it stays as it is, for good, and is never logged.

        False if another process has judged it first.
        """
        with self.database.write() as connection:
            return self.refuse_in(connection, number, reason)

    def refuse_in(self, connection: sqlite3.Connection, number: int, reason: str) -> bool:
        """As :meth:`refuse`, in the caller's transaction."""
        return _move(connection, number, ReleaseState.REFUSED, refusal=reason)

    # --- reading ------------------------------------------------------------------------------------------------------

    def waiting(self, state: ReleaseState, most: int, *, after: int = 0) -> list[Progress]:
        """Up to ``most`` releases in ``state`` with numbers above ``after``, those taken in first first."""
        with self.database.read() as connection:
            return self.waiting_in(connection, state, most, after=after)

    def waiting_in(
        self, connection: sqlite3.Connection, state: ReleaseState, most: int, *, after: int = 0
    ) -> list[Progress]:
        """As :meth:`waiting`, in the caller's transaction."""
        query = "SELECT id FROM versions WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
        numbers = [row[0] for row in connection.execute(query, (str(state), after, most))]
        return [read_release(connection, number) for number in numbers]

    def any_waiting(self, state: ReleaseState) -> bool:
        """Whether any release is in ``state``, one of those on their way."""
        with self.database.read() as connection:
            query = "SELECT EXISTS (SELECT 1 FROM versions WHERE state = ? AND state NOT IN ('logged', 'refused'))"
            return bool(connection.execute(query, (str(state),)).fetchone()[0])

    def find(self, release: ReleaseId) -> Progress | None:
        """The release in whatever state, or None."""
        with self.database.read() as connection:
            return _find(connection, release)

    def counts(self) -> dict[ReleaseState, int]:
        """How many releases are in each state."""
        with self.database.read() as connection:
            found = dict(connection.execute("SELECT state, count(*) FROM versions GROUP BY state").fetchall())
        return {state: found.get(str(state), 0) for state in ReleaseState}

    def listing(self, state: ReleaseState | None, most: int) -> list[tuple[ReleaseId, ReleaseState, str | None]]:
        """Up to ``most`` releases (in ``state``) with their refusal, the newest first."""
        query = (
            "SELECT name, version, state, refusal FROM versions JOIN packages ON packages.id = package_id "
            "WHERE :state IS NULL OR state = :state ORDER BY versions.id DESC LIMIT :most"
        )
        with self.database.read() as connection:
            rows = connection.execute(query, {"state": state and str(state), "most": most}).fetchall()
        return [(ReleaseId.parse(f"{row[0]}@{row[1]}"), ReleaseState(row[2]), row[3]) for row in rows]


def _insert(
    connection: sqlite3.Connection, manifest: ReleaseManifest, attestations: Sequence[Attestation], now: int
) -> None:
    release, digest = manifest.release, str(manifest.digest)
    connection.execute("INSERT INTO packages(name) VALUES(?) ON CONFLICT DO NOTHING", (str(release.name),))
    row = (digest, manifest.created_at, manifest.license, manifest.data.decode())
    connection.execute("INSERT INTO manifests VALUES(?, ?, ?, ?)", row)
    number = connection.execute(
        "INSERT INTO versions(package_id, version, rank, channel, manifest_hash, state, staged_at) "
        "SELECT id, ?, ?, ?, ?, 'staged', ? FROM packages WHERE name = ?",
        (str(release.version), rank(release.version), manifest.channel, digest, now, str(release.name)),
    ).lastrowid
    connection.executemany(
        "INSERT INTO artifacts VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (number, position, item.type, item.os, item.arch, item.size, str(item.blake3), item.url)
            for position, item in enumerate(manifest.artifacts)
        ],
    )
    connection.executemany(
        "INSERT INTO attestations VALUES(?, ?, ?, ?, ?, ?)",
        [
            (number, str(item.role), str(item.key_id), item.created_at, str(item.digest), item.data.decode())
            for item in attestations
        ],
    )


def _move(connection: sqlite3.Connection, number: int, state: ReleaseState, **columns: object) -> bool:
    """One step along :data:`NEXT`; False from anywhere else."""
    before = [str(old) for old, after in NEXT.items() if state in after]
    names = "".join(f", {name} = ?" for name in columns)
    query = f"UPDATE versions SET state = ?{names} WHERE id = ? AND state IN ({', '.join('?' * len(before))})"  # noqa: S608  # names are our own
    return connection.execute(query, (str(state), *columns.values(), number, *before)).rowcount == 1


def _find(connection: sqlite3.Connection, release: ReleaseId) -> Progress | None:
    query = "SELECT versions.id FROM versions JOIN packages ON packages.id = package_id WHERE name = ? AND version = ?"
    row = connection.execute(query, (str(release.name), str(release.version))).fetchone()
    return None if row is None else read_release(connection, row[0])


def read_release(connection: sqlite3.Connection, number: int) -> Progress:
    """The release with this number, which exists."""
    name, version, state, staged_at, manifest, entry, log_index, refusal = connection.execute(
        "SELECT name, version, state, staged_at, data, entry, log_index, refusal FROM versions "
        "JOIN packages ON packages.id = package_id JOIN manifests ON hash = manifest_hash WHERE versions.id = ?",
        (number,),
    ).fetchone()
    documents = dict(connection.execute("SELECT role, data FROM attestations WHERE version_id = ?", (number,)))
    return Progress(
        number,
        ReleaseId.parse(f"{name}@{version}"),
        ReleaseState(state),
        staged_at,
        manifest.encode(),
        tuple(documents[str(role)].encode() for role in ROLES),
        _stamps(connection, number),
        None if entry is None else entry.encode(),
        log_index,
        refusal,
    )


def _stamps(connection: sqlite3.Connection, number: int) -> tuple[Stamps, ...]:
    query = "SELECT role, kind, data FROM proofs WHERE version_id = ? ORDER BY position"
    found: dict[tuple[str, str], list[bytes]] = {}
    for role, kind, data in connection.execute(query, (number,)):
        found.setdefault((role, kind), []).append(data)
    if not found:
        return ()
    return tuple(
        Stamps(tuple(found.get((str(role), "tsa"), ())), tuple(found.get((str(role), "ots"), ()))) for role in ROLES
    )


def _require(progress: Progress | None) -> Progress:
    if progress is None:
        raise AssertionError("a release that was just written is not there")
    return progress
