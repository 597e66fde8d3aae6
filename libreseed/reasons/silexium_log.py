"""The log's own server, its database, its mirrors and its witnesses (``docs/specification/silexium-log.md``)."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(
        Exit.STORAGE,
        "Run 'libreseed-silexium log fsck'; what it finds damaged is put right from a backup and a mirror.",
        "storage.database",
    ),
    *rows(Exit.STORAGE, "Another process writes to the database: run it again later.", "storage.database-busy"),
    *rows(Exit.STORAGE, "Another process writes to the folder: run it again later.", "storage.folder-busy"),
    *rows(Exit.STORAGE, "Use the version of LibreSeed that made the database, or a newer one.", "storage.schema"),
    *rows(Exit.CONFIGURATION, "Name the database of this log, or the key and origin of this database.", "config.log"),
    *rows(Exit.NOT_FOUND, "Ask for what the checkpoint covers.", "notfound.log"),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Find out who signed the entries that are listed: if it was not you, warn your users, take the key that signed "
        "out of the policies, and ask the log's operator.",
        "silexium.unexpected-entry",
    ),
    *rows(Exit.SILEXIUM_REJECTED, "Nothing is to be done: one entry is logged once.", "silexium.logged"),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Ask with a request as C2SP tlog-witness says, of a witness that speaks it.",
        "silexium.witness-request",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Ask the witness's operator: it must know this log's name and key, and have a right clock.",
        "silexium.witness-refused",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "The database is behind what its log has shown (an old backup?): "
        "bring it up to date with 'libreseed-silexium log recover' from a mirror.",
        "silexium.shrunk",
    ),
)
