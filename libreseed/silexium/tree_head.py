"""Signed tree heads: one Ed25519 signature in C2SP ``cosignature/v1`` form, as JSON (STH) and as a checkpoint note.

What is signed is ``cosignature/v1``, the time in Unix seconds, and the checkpoint's three lines (origin, size, base64
root), so the JSON {origin, tree_size, root_hash, timestamp, signature} and the log's line in the note are the same
signature and turn into each other without loss. Witnesses cosign the same lines with their own time. A
:class:`SignedTreeHead` and a :class:`Cosignature` cannot exist unless they verify; whether heads fit each other is for
``log_memory``. Specification: ``silexium.md``, 6.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, PublicKey, Signature, canonical_base64
from libreseed.keys.ed25519 import PrivateKey, verify
from libreseed.package.document import rejecting, require_count
from libreseed.silexium.instants import LAST_INSTANT
from libreseed.silexium.merkle import BLAKE3_TREE
from libreseed.silexium.signed_note import NoteSignature, SignedNote, check_key_name, note_key_hash

__all__ = [
    "Checkpoint",
    "Cosignature",
    "NamedKey",
    "SignedTreeHead",
    "TreeHead",
    "parse_checkpoint",
    "parse_cosignatures",
    "parse_tree_head",
]

_STH_MEMBERS = ("origin", "root_hash", "signature", "timestamp", "tree_size")
_SIZE = re.compile("0|[1-9][0-9]{0,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A log (its ``name`` is the origin) or a witness, as a policy knows it."""

    name: str
    key: PublicKey

    def __post_init__(self) -> None:
        check_key_name(self.name)


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a log claims: with ``size`` entries its root is ``root``. Unsigned."""

    origin: str
    size: int
    root: Blake3Digest

    def __post_init__(self) -> None:
        check_key_name(self.origin)
        require_count(self.size, "tree_size", least=0, most=limits.LOG_ENTRIES)
        if self.size == 0 and self.root.raw != BLAKE3_TREE.empty_root:
            raise Malformed("encoding.range", "the root of an empty log is BLAKE3 of nothing")

    @property
    def body(self) -> str:
        """The checkpoint's three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root.raw).decode()}\n"

    def message(self, time: int) -> bytes:
        """What a cosignature at ``time`` (Unix seconds) covers."""
        return f"cosignature/v1\ntime {time}\n{self.body}".encode()

    @classmethod
    def parse(cls, body: str) -> TreeHead:
        """Read the three lines; extension lines are refused by decision, because nothing would check them."""
        lines = body.split("\n")
        if len(lines) != 4 or lines[3] or not _SIZE.fullmatch(lines[1]):
            raise Malformed("encoding.not-canonical", "not the three lines of a checkpoint")
        try:
            root = canonical_base64(lines[2], 32)
        except ValueError as error:
            raise Malformed("encoding.hash-text", "the root of a checkpoint is not base64 of 32 bytes") from error
        return cls(lines[0], int(lines[1]), Blake3Digest(root))


@dataclass(frozen=True, slots=True)
class Cosignature:
    """``signer`` saw ``head`` at ``time`` (Unix seconds); verified in construction (``silexium.witness``)."""

    head: TreeHead
    signer: NamedKey
    time: int
    signature: Signature

    def __post_init__(self) -> None:
        with rejecting(ProofRejected, "silexium", "witness"):
            require_count(self.time, "time", least=0, most=LAST_INSTANT)
            verify(self.signer.key, self.head.message(self.time), self.signature)

    @classmethod
    def sign(cls, head: TreeHead, name: str, time: int, key: PrivateKey) -> Cosignature:
        """Cosign ``head``; only for who has verified that it extends the last head that they cosigned."""
        return cls(head, NamedKey(name, key.public), time, key.sign(head.message(time)))

    @property
    def line(self) -> NoteSignature:
        """The line in a note."""
        return _line(self.signer, self.time, self.signature)


@dataclass(frozen=True, slots=True)
class SignedTreeHead:
    """A head that ``log`` signed at ``timestamp`` (Unix seconds); verified in construction.

    Raises ``silexium.head-log`` for another log's head and ``silexium.head-signature``.
    """

    head: TreeHead
    timestamp: int
    signature: Signature
    log: NamedKey = field(repr=False)

    def __post_init__(self) -> None:
        if self.head.origin != self.log.name:
            message = f"a head of {self.head.origin!r:.80} where one of {self.log.name!r:.80} is trusted"
            raise ProofRejected("silexium.head-log", message)
        with rejecting(ProofRejected, "silexium", "head-signature"):
            require_count(self.timestamp, "timestamp", least=0, most=LAST_INSTANT)
            verify(self.log.key, self.head.message(self.timestamp), self.signature)

    @classmethod
    def sign(cls, head: TreeHead, timestamp: int, key: PrivateKey) -> SignedTreeHead:
        """Sign ``head`` as its log; only for the writer of the log, once what it covers is durable."""
        return cls(head, timestamp, key.sign(head.message(timestamp)), NamedKey(head.origin, key.public))

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self.head.size

    @property
    def root(self) -> Blake3Digest:
        """The root at that size."""
        return self.head.root

    @property
    def line(self) -> NoteSignature:
        """The log's own line in a checkpoint."""
        return _line(self.log, self.timestamp, self.signature)

    def members(self) -> dict[str, wire.JsonValue]:
        """The STH as a JSON object."""
        return {
            "origin": self.head.origin,
            "tree_size": self.head.size,
            "root_hash": str(self.head.root),
            "timestamp": self.timestamp,
            "signature": str(self.signature),
        }


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's head with the cosignatures of the witnesses that the reader knows, each key once."""

    sth: SignedTreeHead
    cosignatures: tuple[Cosignature, ...] = ()

    @property
    def data(self) -> bytes:
        """The signed note: the log's line first, then the witnesses'."""
        lines = (self.sth.line, *(cosignature.line for cosignature in self.cosignatures))
        return SignedNote(self.sth.head.body, lines).data


def parse_tree_head(value: wire.JsonValue, log: NamedKey) -> SignedTreeHead:
    """Verify an STH object under the key of ``log``; raises ``silexium.head``, ``.head-log`` or ``.head-signature``."""
    with rejecting(ProofRejected, "silexium", "head"):
        members = wire.require_members(value, _STH_MEMBERS)
        head = TreeHead(members["origin"], members["tree_size"], Blake3Digest.parse(members["root_hash"]))
        timestamp = require_count(members["timestamp"], "timestamp", least=0, most=LAST_INSTANT)
        signature = Signature.parse(members["signature"])
    return SignedTreeHead(head, timestamp, signature, log)


def parse_checkpoint(data: bytes, log: NamedKey, witnesses: Iterable[NamedKey] = ()) -> Checkpoint:
    """Verify a checkpoint: the log's own line must be there and hold; so must every line of a known witness."""
    with rejecting(ProofRejected, "silexium", "head"):
        note = SignedNote.parse(data)
        head = TreeHead.parse(note.text)
    own = [line for line in note.signatures if _is_by(line, log)]
    if len(own) != 1:
        message = f"{len(own)} lines of the checkpoint are by {log.name!r:.80}, where one belongs"
        if not own:
            message = f"the checkpoint is not signed by the key that is given for the log {log.name!r:.80}"
        raise ProofRejected("silexium.head-signature", message)
    with rejecting(ProofRejected, "silexium", "head"):
        timestamp, signature = _timed(own[0])
    sth = SignedTreeHead(head, timestamp, signature, log)
    return Checkpoint(sth, _cosignatures(head, note.signatures, witnesses))


def parse_cosignatures(
    lines: Iterable[object], head: TreeHead, witnesses: Iterable[NamedKey]
) -> tuple[Cosignature, ...]:
    """Verify the lines of known witnesses under ``head``; raises ``silexium.witness``; unknown ones are left out."""
    with rejecting(ProofRejected, "silexium", "witness"):
        signatures = [NoteSignature.parse(line) for line in lines]
    return _cosignatures(head, signatures, witnesses)


def _cosignatures(
    head: TreeHead, lines: Iterable[NoteSignature], witnesses: Iterable[NamedKey]
) -> tuple[Cosignature, ...]:
    known = {(witness.name, note_key_hash(witness.name, witness.key)): witness for witness in witnesses}
    found: dict[PublicKey, Cosignature] = {}
    for line in lines:
        witness = known.get((line.name, line.key_hash))
        if witness is None:
            continue
        with rejecting(ProofRejected, "silexium", "witness"):
            time, signature = _timed(line)
        found.setdefault(witness.key, Cosignature(head, witness, time, signature))
    return tuple(found.values())


def _is_by(line: NoteSignature, signer: NamedKey) -> bool:
    return line.name == signer.name and line.key_hash == note_key_hash(signer.name, signer.key)


def _timed(line: NoteSignature) -> tuple[int, Signature]:
    """A cosignature/v1 body: u64 big-endian time, 64 bytes of signature."""
    if len(line.body) != 72:
        raise Malformed("encoding.signature-text", f"the line of {line.name} is no cosignature/v1")
    return int.from_bytes(line.body[:8], "big"), Signature(line.body[8:])


def _line(signer: NamedKey, time: int, signature: Signature) -> NoteSignature:
    key_hash = note_key_hash(signer.name, signer.key)
    return NoteSignature(signer.name, key_hash, time.to_bytes(8, "big") + signature.raw)
