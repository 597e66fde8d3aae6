"""Faults of a mirror's store, and of what a mirror is asked for."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(
        Exit.CONFIGURATION,
        "Move the private key to the machine that packages: a mirror never needs one.",
        "key.on-mirror",
    ),
    *rows(Exit.NOT_FOUND, "The mirror's /releases.json says what it has; ask another one.", "mirror.absent"),
    *rows(Exit.NO_SOURCE, "Ask again in a few seconds, or ask another mirror.", "mirror.checking"),
    *rows(
        Exit.NO_SOURCE,
        "Take ranges of /seed/ from this mirror, which gives what is good, and the rest from others.",
        "mirror.damaged",
    ),
    *rows(Exit.NO_SOURCE, "Correct the request: see the mirror's /openapi.json.", "mirror.request"),
    *rows(Exit.NOT_TRUSTED, "Add the key to the mirror's publishers to take it in.", "mirror.publisher"),
    *rows(Exit.RECORD_REJECTED, "The mirror keeps what it has; ask who is right.", "mirror.other-release"),
)
