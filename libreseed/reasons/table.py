"""What a reason is made of, and the few texts that rows of several areas share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["ASK_PUBLISHER", "ENCODING_FAULTS", "OTHER_RECORD", "Exit", "Reason", "rows"]


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


ASK_PUBLISHER = "The release is damaged or forged: fetch it from another place, or ask the publisher."
OTHER_RECORD = "The record is damaged or forged and was ignored; ask the publisher if it persists."

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


def rows(exit_code: Exit, remedy: str, *codes: str) -> tuple[Reason, ...]:
    """One reason for each of ``codes``, all with this exit code and this remedy."""
    return tuple(Reason(code, exit_code, remedy) for code in codes)
