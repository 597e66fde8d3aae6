"""The keys that a Silexium server takes releases from: its own policy, in its database; added, narrowed, revoked.

A key's row is never removed, and its revocation is never undone or moved to a later moment: what was signed must stay
explainable. What clients trust is *their* policy; the server's is only what it lets into the log. Every method blocks.
Specification: ``silexium-api.md``, 2.
"""

from __future__ import annotations

import json
import sqlite3

from libreseed.adapters.silexium.database import Database, Schema
from libreseed.errors import NotFound, ProofRejected
from libreseed.ids import PackageName, PublicKey
from libreseed.silexium.keyring import ROLES, KeyId, Keyring, Role, TrustedKey

__all__ = ["KEY_SCHEMA", "KeyTable"]

KEY_SCHEMA = Schema(
    "keys",
    (
        (
            "keys, trusted or revoked",
            """
            CREATE TABLE keys(
              key_id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, roles TEXT NOT NULL, packages TEXT,
              not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, revoked_at INTEGER) STRICT;
            CREATE TRIGGER keys_keep BEFORE DELETE ON keys
              BEGIN SELECT RAISE(ABORT, 'a key is revoked, never removed'); END;
            CREATE TRIGGER keys_stay BEFORE UPDATE ON keys WHEN NEW.key <> OLD.key
              OR (OLD.revoked_at IS NOT NULL AND (NEW.revoked_at IS NULL OR NEW.revoked_at > OLD.revoked_at))
              BEGIN SELECT RAISE(ABORT, 'a revocation is never undone'); END;
            """,
        ),
    ),
)


class KeyTable:
    """The keys in one database, whose ``KEY_SCHEMA`` has been applied."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def trust(self, key: TrustedKey) -> None:
        """Trust ``key`` as it says; the same again changes nothing.

        Raises ``silexium.key-conflict`` when the key is known with other roles, packages or times.
        """
        with self.database.write() as connection:
            row = connection.execute("SELECT * FROM keys WHERE key_id = ?", (str(key.key_id),)).fetchone()
            if row is None:
                connection.execute("INSERT INTO keys VALUES(?, ?, ?, ?, ?, ?, ?)", _row(key))
            elif row != _row(key):
                message = f"the key {key.key_id} is known already, with other roles, packages or times"
                raise ProofRejected("silexium.key-conflict", message)

    def revoke(self, key_id: KeyId, at: int) -> None:
        """Trust the key no longer for what comes after ``at`` (Unix seconds); an earlier moment may replace a later.

        Raises :class:`NotFound` (``notfound.key``).
        """
        with self.database.write() as connection:
            query = "UPDATE keys SET revoked_at = min(?, coalesce(revoked_at, ?)) WHERE key_id = ?"
            if connection.execute(query, (at, at, str(key_id))).rowcount != 1:
                raise NotFound("notfound.key", f"no key has the id {key_id}")

    def listed(self) -> list[TrustedKey]:
        """All of them, revoked ones too, by key id."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT * FROM keys ORDER BY key_id").fetchall()
        return [_key(row) for row in rows]

    def keyring(self, server: PublicKey) -> Keyring:
        """What releases are verified against: the table, and the server's own key unless the table has it."""
        keys = self.listed()
        if all(key.public != server for key in keys):
            keys.append(TrustedKey(server, frozenset({Role.SERVER})))
        return Keyring(keys)


def _row(key: TrustedKey) -> tuple[object, ...]:
    roles = ",".join(str(role) for role in ROLES if role in key.roles)
    packages = None if key.packages is None else json.dumps(sorted(map(str, key.packages)))
    return (str(key.key_id), str(key.public), roles, packages, key.not_before, key.not_after, key.revoked_at)


def _key(row: tuple[str, ...] | sqlite3.Row) -> TrustedKey:
    _, public, roles, packages, not_before, not_after, revoked_at = row
    return TrustedKey(
        PublicKey.parse(public),
        frozenset(Role(role) for role in roles.split(",")),
        None if packages is None else frozenset(PackageName(name) for name in json.loads(packages)),
        not_before=int(not_before),
        not_after=int(not_after),
        revoked_at=None if revoked_at is None else int(revoked_at),
    )
