"""What a log asks of a witness: C2SP tlog-witness's ``add-checkpoint`` request, over our tree.

``old <size>``, LF; the consistency proof, one base64 hash of 32 bytes per line; an empty line; the checkpoint. One
spelling of everything; nothing is verified here. Specification: ``silexium-log.md``, 8.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import canonical_base64
from libreseed.package.document import rejecting

__all__ = ["SIZE_MEDIA_TYPE", "AddCheckpoint", "origin_id", "parse_add_checkpoint", "parse_size"]

SIZE_MEDIA_TYPE = "text/x.tlog.size"
_PROOF_LINES = 63  # tlog-witness
_OLD = re.compile(r"old (0|[1-9][0-9]{0,14})", re.ASCII)
_SIZE = re.compile(r"(0|[1-9][0-9]{0,14})\n", re.ASCII)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: ``old`` is the size that the asker believes the witness has cosigned last, ``note`` the checkpoint."""

    old: int
    hashes: tuple[bytes, ...]
    note: bytes

    @property
    def data(self) -> bytes:
        """The request's body."""
        lines = [f"old {self.old}", *(base64.b64encode(digest).decode() for digest in self.hashes), "", ""]
        return "\n".join(lines).encode() + self.note


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """Read a request; raises ``silexium.witness-request``."""
    with rejecting(ProofRejected, "silexium", "witness-request"):
        if len(data) > limits.ADD_CHECKPOINT_BYTES:
            raise Malformed("encoding.too-large", f"a request has at most {limits.ADD_CHECKPOINT_BYTES} bytes")
        head, blank, note = data.partition(b"\n\n")
        first, *lines = head.decode("ascii", "replace").split("\n")
        match = _OLD.fullmatch(first)
        if match is None or not blank or len(lines) > _PROOF_LINES:
            raise Malformed("encoding.not-canonical", "not an add-checkpoint request")
        try:
            hashes = tuple(canonical_base64(line, 32) for line in lines)
        except ValueError as error:
            raise Malformed("encoding.hash-text", "a line of the proof is not base64 of 32 bytes") from error
        return AddCheckpoint(int(match[1]), hashes, note)


def parse_size(data: bytes) -> int:
    """The size that a witness names with status 409; raises ``silexium.witness-request``."""
    match = _SIZE.fullmatch(data.decode("ascii", "replace"))
    if match is None:
        raise ProofRejected("silexium.witness-request", "the witness answers 409 without a size")
    return int(match[1])


def origin_id(origin: str) -> str:
    """How a log is called in the URLs of its witnesses' own checkpoints: hex SHA-256 of its origin."""
    return hashlib.sha256(origin.encode()).hexdigest()
