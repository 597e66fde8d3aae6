"""Faults of the invocation, of configuration, keys and storage, and of encodings."""

from __future__ import annotations

from libreseed.reasons.table import ENCODING_FAULTS, OTHER_RECORD, Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(Exit.BUG, "This is a defect of LibreSeed: please report it with the output.", "bug"),
    *rows(Exit.USAGE, "See --help for what is accepted.", "usage"),
    *rows(Exit.CONFIGURATION, "Correct the configuration file, variable or flag that is named.", "config"),
    *rows(Exit.CONFIGURATION, "Correct the value that is named.", "config.value"),
    *rows(Exit.CONFIGURATION, "Remove or correct the key; unknown keys are never ignored.", "config.unknown-key"),
    *rows(Exit.CONFIGURATION, "Correct the file; it must be TOML.", "config.syntax"),
    *rows(Exit.CONFIGURATION, "Write it as HOST:PORT, an IPv6 address in brackets.", "config.endpoint"),
    *rows(Exit.CONFIGURATION, "Choose another address or port, or stop what uses it.", "config.port"),
    *rows(Exit.CONFIGURATION, "Name another file: a key is never overwritten.", "key.exists"),
    *rows(Exit.CONFIGURATION, "Restore the key file from a backup; it is damaged or no key file.", "key.malformed"),
    *rows(Exit.CONFIGURATION, "Free memory: deriving the key takes what the key file says.", "key.memory"),
    *rows(Exit.CONFIGURATION, "Give the key with --key or LIBRESEED_KEY.", "key.missing"),
    *rows(Exit.CONFIGURATION, "Run chmod 600 on the key file, and chown it to yourself.", "key.permissions"),
    *rows(Exit.CONFIGURATION, "Give the right passphrase; without it the key cannot be read.", "key.passphrase"),
    *rows(Exit.NOT_FOUND, "Check the path.", "notfound.file"),
    *rows(Exit.INTERRUPTED, "Run the same command again: what was downloaded and verified is kept.", "interrupted"),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, *(f"encoding.{fault}" for fault in ENCODING_FAULTS)),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, "signature.invalid"),
    *rows(Exit.STORAGE, "Remove it or choose another place: nothing that exists is replaced.", "storage.exists"),
    *rows(Exit.STORAGE, "Free space or choose another place, and run it again.", "storage.full"),
    *rows(Exit.STORAGE, "Check the disk and the system's log, and run it again.", "storage.io"),
    *rows(Exit.STORAGE, "Raise the limit of open files (ulimit -n) and run it again.", "storage.open-files"),
    *rows(Exit.STORAGE, "Give stdout a place that takes the result.", "storage.output"),
    *rows(Exit.STORAGE, "Change the permissions or choose another place.", "storage.permission"),
    *rows(Exit.STORAGE, "Choose a place that can be written.", "storage.read-only"),
)
