"""The resolver's own: policy, trust, floors, sources, deadlines, its store."""

from __future__ import annotations

from libreseed.reasons.table import OTHER_RECORD, Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(Exit.CONFIGURATION, "Correct the policy file; unknown members are never ignored.", "config.policy"),
    *rows(
        Exit.NOT_FOUND,
        "Check name and version; the release is unknown, or nobody keeps its record alive at the moment.",
        "notfound.record",
    ),
    *rows(Exit.NOT_FOUND, "Run it once without --offline, or point --store at where it is.", "notfound.offline"),
    *rows(
        Exit.NO_SOURCE,
        "Try again later, or name a peer (--peer) or a mirror (--mirror): nobody who was asked serves it now.",
        "source.none",
    ),
    *rows(Exit.NO_SOURCE, "Name another peer (--peer) or mirror (--mirror), or try again later.", "source.incomplete"),
    *rows(
        Exit.TIMED_OUT, "Run it again: verified chunks are kept; or allow more time with --timeout.", "deadline.total"
    ),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, "minimal.other-release", "minimal.other-key", "minimal.other-seq"),
    *rows(Exit.RECORD_REJECTED, "Raise max-package-bytes in the policy if this size is expected.", "minimal.policy"),
    *rows(
        Exit.NOT_TRUSTED,
        "Find out from the publisher which key is theirs, then pin it or name it with --publisher.",
        "trust.unknown-publisher",
        "trust.other-publisher",
    ),
    *rows(
        Exit.ROLLBACK,
        "Somebody serves an old or a second record; ask the publisher, and report the evidence.",
        "floor.rollback",
        "floor.conflict",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Name a policy (--policy F) and where the proofs are (--bundle F or --silexium URL), "
        "or add --no-silexium to go without them.",
        "silexium.unavailable",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Check name and version, wait until it is logged, ask another server (--silexium URL), or give its --bundle F.",
        "silexium.unlogged",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Wait until it is as old as the policy demands, or ask for an older version.",
        "silexium.too-young",
    ),
    *rows(
        Exit.NO_SOURCE,
        "Try again later, name another server with --silexium URL, or give the proofs with --bundle F.",
        "silexium.unreachable",
    ),
    *rows(Exit.SILEXIUM_REJECTED, "The policy demands Silexium: it can't be waived here.", "silexium.required"),
    *rows(
        Exit.STORAGE,
        "Move the damaged file away after looking at it; removing a floor lifts its protection.",
        "storage.state",
    ),
    *rows(Exit.STORAGE, "Uninstall what is there, or choose another place with --out or --store.", "storage.occupied"),
    *rows(
        Exit.STORAGE,
        "Somebody changed the installed tree: remove it ('libreseed uninstall', by hand below --out) "
        "and resolve again.",
        "storage.changed",
    ),
)
