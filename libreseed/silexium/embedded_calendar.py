"""An OpenTimestamps calendar in itself: digests are gathered into commitments, commitments anchored in a block.

What a public calendar does in hours this does at once, on a regtest chain that it mines alone: anybody can mine such a
chain in no time, so its proofs prove nothing about the operator. A block here has no transactions; its Merkle root is
that of the commitments, which is all that a proof speaks of.

Clock, nonces and storage are the caller's. Specification: ``silexium-time.md``, 5.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from libreseed.silexium.bitcoin_headers import HeaderChain, mine_header
from libreseed.silexium.ots import BitcoinAttestation, PendingAttestation, Step, write_timestamp

__all__ = ["Anchoring", "Round", "aggregate", "anchor"]

_HASH: Step = ("sha256", b"")
_TAG_BYTES = 8


@dataclass(frozen=True, slots=True)
class Round:
    """The digests of one round share one ``commitment``; ``answers`` are their time stamps, in the digests' order."""

    commitment: bytes
    answers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Anchoring:
    """One mined block: its 80-byte ``header``, its ``height``, and per commitment the rest of the proof."""

    header: bytes
    height: int
    timestamps: tuple[tuple[bytes, bytes], ...]


def aggregate(digests: Sequence[bytes], nonces: Sequence[bytes], *, uri: str, key: bytes, now: int) -> Round:
    """Commit to ``digests`` (20 to 64 bytes each, one fresh nonce each) under the calendar's ``uri`` at ``now``.

    The commitment is time, Merkle root and a tag by the calendar's secret ``key``, so that nobody can make it promise.
    """
    leaves = [hashlib.sha256(digest + nonce).digest() for digest, nonce in zip(digests, nonces, strict=True)]
    root, ways = _merkle(leaves)
    stem = now.to_bytes(4, "big") + root
    tag = hmac.digest(key, stem, "sha256")[:_TAG_BYTES]
    end = PendingAttestation(stem + tag, uri)
    last: list[Step] = [("prepend", stem[:4]), ("append", tag)]
    answers = (
        write_timestamp(digest, [("append", nonce), _HASH, *way, *last], end)
        for digest, nonce, way in zip(digests, nonces, ways, strict=True)
    )
    return Round(end.commitment, tuple(answers))


def anchor(commitments: Sequence[bytes], chain: HeaderChain, *, now: int) -> Anchoring:
    """Mine the next block of ``chain`` over ``commitments``; ``chain`` itself is not changed."""
    root, ways = _merkle([hashlib.sha256(commitment).digest() for commitment in commitments])
    height = chain.tip + 1
    header = mine_header(chain, root, now)
    end = BitcoinAttestation(root, height)
    timestamps = (
        (commitment, write_timestamp(commitment, [_HASH, *way], end))
        for commitment, way in zip(commitments, ways, strict=True)
    )
    return Anchoring(header, height, tuple(timestamps))


def _merkle(leaves: Sequence[bytes]) -> tuple[bytes, list[list[Step]]]:
    """The root of a SHA-256 tree, odd ones carried up, and every leaf's way to it."""
    ways: list[list[Step]] = [[] for _ in leaves]
    row = [(leaf, [index]) for index, leaf in enumerate(leaves)]
    while len(row) > 1:
        above = []
        for at in range(0, len(row) - 1, 2):
            (left, under_left), (right, under_right) = row[at : at + 2]
            for index in under_left:
                ways[index] += [("append", right), _HASH]
            for index in under_right:
                ways[index] += [("prepend", left), _HASH]
            above.append((hashlib.sha256(left + right).digest(), under_left + under_right))
        row = above + row[len(row) & ~1 :]
    return row[0][0], ways
