"""From a calendar's promise to a complete OpenTimestamps proof, one linear proof per calendar.

What is submitted is not the attestation's own SHA-256 but the hash of it and a fresh nonce, as the reference client
does: a calendar, or who watches it, does not learn what is stamped. The answer is kept as a detached proof with one
branch that ends in the promise; when the calendar has kept it, its second answer leads on from there to a block, and
the confirmed branch alone becomes the proof. All else that a calendar sends is dropped.

Nonces, transport, headers and times are the caller's. Specification: ``silexium-time.md``, 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.ots import (
    BitcoinAttestation,
    OtsPath,
    OtsProof,
    PendingAttestation,
    Step,
    parse_ots,
    parse_timestamp,
    write_ots,
)

__all__ = ["confirmed", "join", "open_promise", "promised", "submission"]


def submission(digest: bytes, nonce: bytes) -> bytes:
    """What a calendar is asked to commit to in place of ``digest``."""
    return hashlib.sha256(digest + nonce).digest()


def open_promise(digest: bytes, nonce: bytes, answer: bytes, accepts: Callable[[str], bool]) -> bytes:
    """The detached proof out of a calendar's ``answer`` to :func:`submission`; complete if it is so already.

    ``accepts`` says of which calendars (URIs) a promise is taken: that is where it will be redeemed, so nobody else
    chooses it. Raises ``silexium.ots``, or ``silexium.calendar`` when there is neither a promise nor a block.
    """
    first: list[Step] = [("append", nonce), ("sha256", b"")]
    uris = []
    for path in _blocks_first(parse_timestamp(answer, submission(digest, nonce))):
        if isinstance(path.end, BitcoinAttestation):
            return write_ots(digest, (*first, *path.steps), path.end)
        if isinstance(path.end, PendingAttestation):
            if accepts(path.end.uri):
                return write_ots(digest, (*first, *path.steps), path.end)
            uris.append(path.end.uri)
    message = "the calendar promises nothing that could be redeemed"
    raise ProofRejected("silexium.calendar", message, evidence={"uris": uris[:8]})


def promised(promise: bytes, digest: bytes) -> PendingAttestation:
    """Where and for what to ask the calendar again; raises ``silexium.ots``."""
    end = _only(parse_ots(promise, digest)).end
    if not isinstance(end, PendingAttestation):
        raise AssertionError("this proof promises nothing")
    return end


def join(promise: bytes, digest: bytes, answer: bytes) -> tuple[bytes, ...]:
    """The detached proofs of ``digest`` that lead through ``promise`` and the calendar's ``answer`` to blocks.

    The lowest block first, at most eight; none is checked against a header. Raises ``silexium.ots``, or
    ``silexium.ots-pending`` when there is no block in the answer.
    """
    path = _only(parse_ots(promise, digest))
    rests = _blocks_first(parse_timestamp(answer, promised(promise, digest).commitment))
    blocks = [(rest.steps, rest.end) for rest in rests if isinstance(rest.end, BitcoinAttestation)]
    if not blocks:
        raise ProofRejected("silexium.ots-pending", "the calendar promises once more what it has promised")
    return tuple(write_ots(digest, (*path.steps, *steps), end) for steps, end in blocks[: limits.STAMPS_PER_KIND])


def confirmed(proof: bytes, digest: bytes, headers: HeaderSource) -> tuple[int, int]:
    """The (time in Unix seconds, height) of the block in a complete linear proof; raises ``silexium.header-*``."""
    end = _only(parse_ots(proof, digest)).end
    if not isinstance(end, BitcoinAttestation):
        raise AssertionError("this proof names no block")
    return headers.attested_time(end.height, end.merkle_root), end.height


def _blocks_first(paths: tuple[OtsPath, ...]) -> list[OtsPath]:
    """Branches to blocks, the lowest first, then the others: the earliest confirmation is the best proof."""
    return sorted(paths, key=lambda path: path.end.height if isinstance(path.end, BitcoinAttestation) else float("inf"))


def _only(proof: OtsProof) -> OtsPath:
    (path,) = proof.paths
    return path
