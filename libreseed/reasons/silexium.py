"""Silexium (``docs/specification/silexium.md``, section 8)."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

_ASK_LOG = "Fetch the proofs from the log itself or from another mirror; ask the log's operator if it persists."
_ASK_SIGNER = "The proofs are damaged or forged: fetch them from another place, or ask whoever signed them."
_SEE_POLICY = "Ask the publisher which key is theirs, and correct the policy only if that answer is certain."

ROWS: tuple[Reason, ...] = (
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Name the log itself or a copy that shows how it has grown (--silexium URL or DIR); ask its operator if it "
        "persists.",
        "silexium.consistency",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        _ASK_LOG,
        "silexium.entry",
        "silexium.head",
        "silexium.head-signature",
        "silexium.inclusion",
        "silexium.tile",
        "silexium.tree",
        "silexium.witness",
        "silexium.witness-quorum",
        "silexium.witness-size",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        _ASK_SIGNER,
        "silexium.artifact",
        "silexium.attestation",
        "silexium.bundle",
        "silexium.claim",
        "silexium.entry-mismatch",
        "silexium.key-reused",
        "silexium.manifest",
        "silexium.ots",
        "silexium.ots-digest",
        "silexium.ots-missing",
        "silexium.release",
        "silexium.release-sheet",
        "silexium.signature",
        "silexium.src",
        "silexium.tsa",
        "silexium.tsa-certificate",
        "silexium.tsa-imprint",
        "silexium.tsa-missing",
        "silexium.tsa-nonce",
        "silexium.tsa-policy",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Give block headers from a Bitcoin node or another mirror; these are damaged, forged or of another chain.",
        "silexium.header",
        "silexium.header-bits",
        "silexium.header-branch",
        "silexium.header-link",
        "silexium.header-pin",
        "silexium.header-root",
        "silexium.header-time",
        "silexium.header-work",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Give newer block headers: those at hand do not reach the block, or not enough lie on top of it.",
        "silexium.header-confirmations",
        "silexium.header-missing",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Name the network in the policy only for tests: a chain that anybody can mine proves nothing.",
        "silexium.network",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Ask for stamps by authorities that the policy trusts, or correct the policy if you are certain.",
        "silexium.tsa-quorum",
        "silexium.tsa-untrusted",
        "silexium.tsa-window",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Wait some hours until Bitcoin has confirmed the stamp, and let the server upgrade its proof.",
        "silexium.ots-pending",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "The log has signed two histories: install nothing that relies on it, and publish the evidence.",
        "silexium.fork",
        "silexium.second-entry",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Ask for a release whose tests passed, or of a channel that the policy takes.",
        "silexium.channel",
        "silexium.tests-failed",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Somebody shows an old state of the log: ask the log itself, or another mirror.",
        "silexium.rollback",
        "silexium.stale",
    ),
    *rows(Exit.SILEXIUM_REJECTED, "Set this machine's clock, then run it again.", "silexium.clock", "silexium.future"),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "The stated times contradict each other: a clock or a time stamp lies; report it to the log's operator.",
        "silexium.time-order",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Move the damaged file away after looking at it; removing it forgets which heads of the log were seen.",
        "silexium.memory",
    ),
    *rows(Exit.SILEXIUM_REJECTED, _SEE_POLICY, "silexium.head-log", "silexium.key-role", "silexium.key-unknown"),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "Ask the publisher for a release that is signed with a key in force.",
        "silexium.key-expired",
        "silexium.key-revoked",
    ),
    *rows(
        Exit.STORAGE,
        "Move the folder away: new embedded authorities are made then, and policies must name their new root.",
        "storage.embedded",
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "The calendar's answer is of no use; others are asked meanwhile. Drop it from the configuration if it lasts.",
        "silexium.calendar",
    ),
    *rows(
        Exit.CONFIGURATION,
        "Move the private key to its owner's machine: a log, its mirror and a witness need none but their own.",
        "key.on-log",
    ),
    *rows(Exit.NOT_FOUND, "Hand the attestation in first; stamps are only kept of what was.", "silexium.not-queued"),
    *rows(
        Exit.CONFIGURATION,
        "Name as many time stamp authorities and calendars as are demanded, and each once.",
        "config.stamps",
    ),
    *rows(
        Exit.STORAGE,
        "Move the files of headers away and import the headers again: they can be had from any Bitcoin node.",
        "storage.headers",
    ),
    *rows(Exit.CONFIGURATION, "Name the node's cookie file, or give user and password as it demands.", "config.node"),
)
