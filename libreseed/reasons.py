"""The table of reason codes: what every deliberate failure is called, its exit code and its remedy.

Codes are ``area.fault`` and never change their meaning; scripts match on them. Add a row here before raising a new one.
Areas are kept in alphabetical order within one exit code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["REASONS", "Exit", "Reason"]


class Exit(IntEnum):
    """Process exit codes (DESIGN 5)."""

    OK = 0
    BUG = 1
    USAGE = 2
    CONFIGURATION = 3
    NOT_FOUND = 10
    NO_SOURCE = 11
    TIMED_OUT = 12
    RECORD_REJECTED = 20
    NOT_TRUSTED = 21
    ROLLBACK = 22
    CONTENT_REJECTED = 30
    BEYOND_REPAIR = 31
    SILEXIUM_REJECTED = 40
    STORAGE = 50
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Reason:
    """One declared reason: stable ``code``, ``exit_code``, and a ``remedy`` in one sentence."""

    code: str
    exit_code: Exit
    remedy: str


_ASK_PUBLISHER = "The release is damaged or forged: fetch it from another place, or ask the publisher."
_FIX_TREE = "Fix the tree that is packaged and build again."
_OTHER_RECORD = "The record is damaged or forged and was ignored; ask the publisher if it persists."
_READ_HELP = "See --help for what is accepted."


def _rows(exit_code: Exit, remedy: str, *codes: str) -> list[Reason]:
    return [Reason(code, exit_code, remedy) for code in codes]


# What a text or a document can do wrong (section 3.1). Document parsers re-raise these under their own area.
ENCODING_FAULTS = (
    "too-large",
    "not-utf8",
    "not-json",
    "bencode",
    "not-canonical",
    "duplicate-member",
    "number",
    "depth",
    "unknown-member",
    "missing-member",
    "type",
    "hash-text",
    "key-text",
    "signature-text",
    "name",
    "version",
    "range",
)

CHUNKMAP_FAULTS = ("digest", "header", "length", "policy", "shape", "size")

TORRENT_FAULTS = (
    "bencode",
    "files",
    "info-hash",
    "layers",
    "members",
    "name",
    "piece-length",
    "pieces",
    "too-large",
)

_TABLE: list[Reason] = [
    *_rows(Exit.BUG, "This is a defect of LibreSeed: please report it with the output.", "bug"),
    *_rows(Exit.USAGE, _READ_HELP, "usage"),
    *_rows(Exit.CONFIGURATION, "Correct the configuration file, variable or flag that is named.", "config"),
    *_rows(Exit.CONFIGURATION, "Correct the value that is named.", "config.value"),
    *_rows(Exit.CONFIGURATION, "Remove or correct the key; unknown keys are never ignored.", "config.unknown-key"),
    *_rows(Exit.CONFIGURATION, "Correct the file; it must be TOML.", "config.syntax"),
    *_rows(Exit.CONFIGURATION, "Write it as HOST:PORT, an IPv6 address in brackets.", "config.endpoint"),
    *_rows(Exit.CONFIGURATION, "Choose another address or port, or stop what uses it.", "config.port"),
    *_rows(Exit.CONFIGURATION, "Name another file: a key is never overwritten.", "key.exists"),
    *_rows(Exit.CONFIGURATION, "Restore the key file from a backup; it is damaged or no key file.", "key.malformed"),
    *_rows(Exit.CONFIGURATION, "Give the key with --key or LIBRESEED_KEY.", "key.missing"),
    *_rows(Exit.CONFIGURATION, "Run chmod 600 on the key file, and chown it to yourself.", "key.permissions"),
    *_rows(Exit.CONFIGURATION, "Give the right passphrase; without it the key cannot be read.", "key.passphrase"),
    *_rows(Exit.NOT_FOUND, "Check the path.", "notfound.file"),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, *(f"chunkmap.{fault}" for fault in CHUNKMAP_FAULTS)),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, "parity.length", "parity.digest", "parity.lying"),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, *(f"torrent.{fault}" for fault in TORRENT_FAULTS)),
    *_rows(Exit.BEYOND_REPAIR, "Find a peer or mirror that has more parts of the named stripes.", "repair.beyond"),
    *_rows(Exit.INTERRUPTED, "Run the same command again: verified data is kept and it resumes.", "interrupted"),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, *(f"encoding.{fault}" for fault in ENCODING_FAULTS)),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, "signature.invalid"),
    *_rows(Exit.STORAGE, "Remove it or choose another place: nothing that exists is replaced.", "storage.exists"),
    *_rows(Exit.STORAGE, "Free space or choose another place, and run it again.", "storage.full"),
    *_rows(Exit.STORAGE, "Check the disk and the system's log, and run it again.", "storage.io"),
    *_rows(Exit.STORAGE, "Raise the limit of open files (ulimit -n) and run it again.", "storage.open-files"),
    *_rows(Exit.STORAGE, "Give stdout a place that takes the result.", "storage.output"),
    *_rows(Exit.STORAGE, "Change the permissions or choose another place.", "storage.permission"),
    *_rows(Exit.STORAGE, "Choose a place that can be written.", "storage.read-only"),
]

# The seeder's own: control socket, state directory, what it refuses to start with.
_TABLE += [
    *_rows(
        Exit.USAGE,
        "Use the libreseed-seeder command of the same version as the daemon, or see docs/operations.md.",
        "control.request",
    ),
    *_rows(
        Exit.CONFIGURATION,
        "Start it with 'libreseed-seeder run', or name its state directory by --state-dir or LIBRESEED_STATE_DIR.",
        "config.no-daemon",
    ),
    *_rows(
        Exit.CONFIGURATION,
        "Run the command as root or as the daemon's user, or name a group by 'control_group' in its configuration.",
        "config.control-forbidden",
    ),
    *_rows(
        Exit.CONFIGURATION,
        "Move the private key to the machine that packages: a seeder never needs one.",
        "key.on-seeder",
    ),
    *_rows(Exit.NOT_FOUND, "'libreseed-seeder list' shows what is seeded.", "notfound.release"),
    *_rows(Exit.TIMED_OUT, "Look at the daemon's log; restart it if it hangs.", "deadline.daemon"),
    *_rows(Exit.STORAGE, "Try again when the other control commands are done.", "storage.busy"),
    *_rows(Exit.STORAGE, "Stop the other daemon, or give this one its own --state-dir.", "storage.locked"),
    *_rows(
        Exit.STORAGE,
        "Remove a release ('libreseed-seeder remove') or raise 'max_store_bytes' in the configuration.",
        "storage.quota",
    ),
]

REASONS: dict[str, Reason] = {reason.code: reason for reason in _TABLE}
if len(REASONS) != len(_TABLE):
    raise AssertionError("a reason code is declared twice")
