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

CHUNKMAP_FAULTS = ("chunk", "digest", "header", "infohash", "length", "policy", "shape", "size")

TORRENT_FAULTS = (
    "bencode",
    "bitfield",
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
    *_rows(Exit.CONFIGURATION, "Free memory: deriving the key takes what the key file says.", "key.memory"),
    *_rows(Exit.CONFIGURATION, "Give the key with --key or LIBRESEED_KEY.", "key.missing"),
    *_rows(Exit.CONFIGURATION, "Run chmod 600 on the key file, and chown it to yourself.", "key.permissions"),
    *_rows(Exit.CONFIGURATION, "Give the right passphrase; without it the key cannot be read.", "key.passphrase"),
    *_rows(Exit.NOT_FOUND, "Check the path.", "notfound.file"),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, *(f"chunkmap.{fault}" for fault in CHUNKMAP_FAULTS)),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, "parity.length", "parity.digest", "parity.lying"),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, *(f"torrent.{fault}" for fault in TORRENT_FAULTS)),
    *_rows(Exit.STORAGE, "Remove the release before adding it again.", "storage.duplicate-torrent"),
    *_rows(Exit.BEYOND_REPAIR, "Find a peer or mirror that has more parts of the named stripes.", "repair.beyond"),
    *_rows(
        Exit.NO_SOURCE,
        "Other peers and mirrors are used; add some with --peer or --mirror if none is left.",
        "source.peer-protocol",
        "source.peer-refused",
        "source.peer-silent",
    ),
    *_rows(Exit.INTERRUPTED, "Run the same command again: verified data is kept and it resumes.", "interrupted"),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, *(f"encoding.{fault}" for fault in ENCODING_FAULTS)),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, "signature.invalid"),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, *(f"dhtrecord.{fault}" for fault in ENCODING_FAULTS)),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, *(f"dhtrecord.{f}" for f in ("key", "salt", "seq", "signature"))),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, *(f"index.{fault}" for fault in ENCODING_FAULTS)),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, *(f"index.{f}" for f in ("key", "signature", "versions"))),
    *_rows(
        Exit.NO_SOURCE,
        "Check the network and the --bootstrap addresses (host:port): at least one running DHT node must answer.",
        "source.no-bootstrap",
    ),
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
        "Run the command as root or as the daemon's user, or name a group by 'control-group' in its configuration.",
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
        "Remove a release ('libreseed-seeder remove') or raise 'max-store-bytes' in the configuration.",
        "storage.quota",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        _ASK_PUBLISHER,
        "archive.base256",
        "archive.checksum",
        "archive.collision",
        "archive.deflate",
        "archive.device",
        "archive.duplicate",
        "archive.entries",
        "archive.fifo",
        "archive.file-and-folder",
        "archive.folder",
        "archive.format",
        "archive.global-header",
        "archive.gnu",
        "archive.gzip-header",
        "archive.hardlink",
        "archive.header",
        "archive.header-checksum",
        "archive.infohash",
        "archive.length",
        "archive.listing",
        "archive.manifest-first",
        "archive.mode",
        "archive.order",
        "archive.padding",
        "archive.path",
        "archive.path-bounds",
        "archive.pax",
        "archive.pax-key",
        "archive.prefix",
        "archive.ratio",
        "archive.second-member",
        "archive.size",
        "archive.sparse",
        "archive.symlink",
        "archive.trailing",
        "archive.truncated",
        "archive.type",
        "files.hash",
        "files.mode",
        "files.size",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        _ASK_PUBLISHER,
        *(f"manifest.{fault}" for fault in ENCODING_FAULTS),
        "manifest.collision",
        "manifest.content-hash",
        "manifest.executables",
        "manifest.file-and-folder",
        "manifest.files",
        "manifest.mismatch",
        "manifest.path",
        "manifest.path-bounds",
        "manifest.protocol",
        "manifest.seal",
        "manifest.signature",
        "manifest.sizes",
    ),
    *_rows(Exit.CONTENT_REJECTED, _ASK_PUBLISHER, "src.malformed", "src.mismatch"),
    *_rows(
        Exit.CONTENT_REJECTED,
        _FIX_TREE,
        "tree.changed",
        "tree.collision",
        "tree.device",
        "tree.entries",
        "tree.fifo",
        "tree.file-and-folder",
        "tree.file-size",
        "tree.hardlink",
        "tree.ignore-file",
        "tree.path",
        "tree.path-bounds",
        "tree.ratio",
        "tree.reserved",
        "tree.root",
        "tree.socket",
        "tree.symlink",
        "tree.unreadable",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        "Leave it out with .libreseedignore, or pass the flag that allows it if it is meant to be public.",
        "tree.git",
        "tree.secret",
    ),
    *_rows(
        Exit.RECORD_REJECTED,
        _OTHER_RECORD,
        *(f"minimal.{fault}" for fault in ENCODING_FAULTS),
        "minimal.binding",
        "minimal.protocol",
        "minimal.signature",
    ),
    *_rows(
        Exit.ROLLBACK, "Check this machine's clock; if it is right, the record is from the future.", "minimal.ahead"
    ),
]

# The resolver's own: policy, trust, floors, sources, deadlines, its store.
_TABLE += [
    *_rows(Exit.CONFIGURATION, "Correct the policy file; unknown members are never ignored.", "config.policy"),
    *_rows(
        Exit.NOT_FOUND,
        "Check name and version; the release is unknown, or nobody keeps its record alive at the moment.",
        "notfound.record",
    ),
    *_rows(Exit.NOT_FOUND, "Run it once without --offline, or point --store at where it is.", "notfound.offline"),
    *_rows(
        Exit.NO_SOURCE,
        "Try again later or name a peer with --peer: the record is there, but nobody serves the release now.",
        "source.none",
    ),
    *_rows(Exit.NO_SOURCE, "Name another peer with --peer, or try again later.", "source.incomplete"),
    *_rows(
        Exit.TIMED_OUT, "Run it again: verified chunks are kept; or allow more time with --timeout.", "deadline.total"
    ),
    *_rows(Exit.RECORD_REJECTED, _OTHER_RECORD, "minimal.other-release", "minimal.other-key", "minimal.other-seq"),
    *_rows(Exit.RECORD_REJECTED, "Raise max-package-bytes in the policy if this size is expected.", "minimal.policy"),
    *_rows(
        Exit.NOT_TRUSTED,
        "Find out from the publisher which key is theirs, then pin it or name it with --publisher.",
        "trust.unknown-publisher",
        "trust.other-publisher",
    ),
    *_rows(
        Exit.ROLLBACK,
        "Somebody serves an old or a second record; ask the publisher, and report the evidence.",
        "floor.rollback",
        "floor.conflict",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "This version can't check Silexium yet: add --no-silexium to go without these proofs.",
        "silexium.unavailable",
    ),
    *_rows(Exit.SILEXIUM_REJECTED, "The policy demands Silexium: it can't be waived here.", "silexium.required"),
    *_rows(
        Exit.STORAGE,
        "Move the damaged file away after looking at it; removing a floor lifts its protection.",
        "storage.state",
    ),
    *_rows(Exit.STORAGE, "Uninstall what is there, or choose another place with --out.", "storage.occupied"),
    *_rows(
        Exit.STORAGE,
        "Somebody changed the installed tree: remove it ('libreseed uninstall', by hand below --out) "
        "and resolve again.",
        "storage.changed",
    ),
]

# The user's command.
_TABLE += [
    *_rows(
        Exit.CONTENT_REJECTED,
        "Run it with LIBRESEED_DEBUG=1 --keep DIR and look there.",
        "demo.command-failed",
        "demo.daemon",
    ),
    *_rows(Exit.NOT_FOUND, "Name a directory that exists.", "demo.directory"),
    *_rows(Exit.NOT_FOUND, "'libreseed list' shows what is installed.", "notfound.installed"),
    *_rows(Exit.NOT_FOUND, "'libreseed trust list' shows the pins.", "notfound.pin"),
]

# Silexium (docs/specification/silexium.md, section 8).
_ASK_LOG = "Fetch the proofs from the log itself or from another mirror; ask the log's operator if it persists."
_ASK_SIGNER = "The proofs are damaged or forged: fetch them from another place, or ask whoever signed them."
_SEE_POLICY = "Ask the publisher which key is theirs, and correct the policy only if that answer is certain."
_TABLE += [
    *_rows(
        Exit.SILEXIUM_REJECTED,
        _ASK_LOG,
        "silexium.consistency",
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
    *_rows(
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
        "silexium.signature",
        "silexium.src",
        "silexium.tsa",
        "silexium.tsa-certificate",
        "silexium.tsa-imprint",
        "silexium.tsa-missing",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Give block headers from a Bitcoin node or another mirror; these are damaged, forged or of another chain.",
        "silexium.header",
        "silexium.header-bits",
        "silexium.header-link",
        "silexium.header-pin",
        "silexium.header-root",
        "silexium.header-time",
        "silexium.header-work",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Give newer block headers: those at hand do not reach the block, or not enough lie on top of it.",
        "silexium.header-confirmations",
        "silexium.header-missing",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Name the network in the policy only for tests: a chain that anybody can mine proves nothing.",
        "silexium.network",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Ask for stamps by authorities that the policy trusts, or correct the policy if you are certain.",
        "silexium.tsa-quorum",
        "silexium.tsa-untrusted",
        "silexium.tsa-window",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Wait some hours until Bitcoin has confirmed the stamp, and let the server upgrade its proof.",
        "silexium.ots-pending",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "The log has signed two histories: install nothing that relies on it, and publish the evidence.",
        "silexium.fork",
        "silexium.second-entry",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Ask for a release whose tests passed, or of a channel that the policy takes.",
        "silexium.channel",
        "silexium.tests-failed",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Somebody shows an old state of the log: ask the log itself, or another mirror.",
        "silexium.rollback",
        "silexium.stale",
    ),
    *_rows(Exit.SILEXIUM_REJECTED, "Set this machine's clock, then run it again.", "silexium.clock", "silexium.future"),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "The stated times contradict each other: a clock or a time stamp lies; report it to the log's operator.",
        "silexium.time-order",
    ),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Move the damaged file away after looking at it; removing it forgets which heads of the log were seen.",
        "silexium.memory",
    ),
    *_rows(Exit.SILEXIUM_REJECTED, _SEE_POLICY, "silexium.head-log", "silexium.key-role", "silexium.key-unknown"),
    *_rows(
        Exit.SILEXIUM_REJECTED,
        "Ask the publisher for a release that is signed with a key in force.",
        "silexium.key-expired",
        "silexium.key-revoked",
    ),
]

# AuraSeal (docs/specification/auraseal.md).
_TABLE += [
    *_rows(
        Exit.CONTENT_REJECTED,
        "The part is damaged or forged: fetch it from another place, or let its component be healed from the others.",
        "auraseal.huffman-payload",
        "auraseal.huffman-table",
        "auraseal.lying-part",
        "auraseal.part-checksum",
        "auraseal.part-fields",
        "auraseal.part-footer",
        "auraseal.part-header",
        "auraseal.part-length",
        "auraseal.siblings",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        "It is larger than this format holds: use the .tgz itself.",
        "auraseal.too-large",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        "The package or its manifest is damaged or forged: fetch it from another place, or ask the publisher.",
        *(f"auraseal.{fault}" for fault in ENCODING_FAULTS if fault != "too-large"),
        "auraseal.collision",
        "auraseal.file-and-folder",
        "auraseal.integrity-recovery",
        "auraseal.path",
        "auraseal.path-bounds",
        "auraseal.zip-crc",
        "auraseal.zip-form",
        "auraseal.zip-path",
        "auraseal.zip-size",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        "Do not run the file: it is not the one that the page's author meant; ask them.",
        "auraseal.integrity",
        "auraseal.integrity-attribute",
    ),
    *_rows(
        Exit.CONTENT_REJECTED,
        "Write it as <service>.<operation>.obinexus.<department>.<division>.<country>.org.",
        "auraseal.service-name",
    ),
    *_rows(Exit.NOT_FOUND, "Look into the package's integrity-manifest.json.", "notfound.component"),
]

REASONS: dict[str, Reason] = {reason.code: reason for reason in _TABLE}
if len(REASONS) != len(_TABLE):
    raise AssertionError("a reason code is declared twice")
