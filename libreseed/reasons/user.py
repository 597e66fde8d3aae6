"""The user's command."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(
        Exit.CONTENT_REJECTED,
        "Run it with LIBRESEED_DEBUG=1 --keep DIR and look there.",
        "demo.claim",
        "demo.command-failed",
        "demo.daemon",
    ),
    *rows(Exit.NOT_FOUND, "Name a directory that exists.", "demo.directory"),
    *rows(Exit.CONFIGURATION, "Do what that check's own remedy says.", "doctor.setup"),
    *rows(Exit.STORAGE, "Do what that check's own remedy says.", "doctor.store"),
    *rows(Exit.NOT_FOUND, "'libreseed list' shows what is installed.", "notfound.installed"),
    *rows(Exit.NOT_FOUND, "'libreseed trust list' shows the pins.", "notfound.pin"),
    *rows(
        Exit.NOT_FOUND,
        "Check the spelling, or name another DHT node with --bootstrap: a publisher's seeders announce the name.",
        "notfound.name",
    ),
)
