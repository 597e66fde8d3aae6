"""The seeder's own: control socket, state directory, what it refuses to start with."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(Exit.STORAGE, "Remove the release before adding it again.", "storage.duplicate-torrent"),
    *rows(
        Exit.USAGE,
        "Use the libreseed-seeder command of the same version as the daemon, or see docs/operations.md.",
        "control.request",
    ),
    *rows(
        Exit.CONFIGURATION,
        "Start it with 'libreseed-seeder run', or name its state directory by --state-dir or LIBRESEED_STATE_DIR.",
        "config.no-daemon",
    ),
    *rows(
        Exit.CONFIGURATION,
        "Run the command as root or as the daemon's user, or name a group by 'control-group' in its configuration.",
        "config.control-forbidden",
    ),
    *rows(
        Exit.CONFIGURATION,
        "Move the private key to the machine that packages: a seeder never needs one.",
        "key.on-seeder",
    ),
    *rows(Exit.NOT_FOUND, "'libreseed-seeder list' shows what is seeded.", "notfound.release"),
    *rows(Exit.TIMED_OUT, "Look at the daemon's log; restart it if it hangs.", "deadline.daemon"),
    *rows(Exit.STORAGE, "Try again when the other control commands are done.", "storage.busy"),
    *rows(Exit.STORAGE, "Stop the other daemon, or give this one a folder of its own.", "storage.locked"),
    *rows(
        Exit.STORAGE,
        "Remove a release ('libreseed-seeder remove') or raise 'max-store-bytes' in the configuration.",
        "storage.quota",
    ),
)
