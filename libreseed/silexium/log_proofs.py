"""Inclusion and consistency proofs of the log (RFC 6962, 2.1; verified as RFC 9162, 2.1.3.2 and 2.1.4.2 say).

Making a proof reads O(log n) nodes through a function; verifying one needs nothing but the proof and the roots. A proof
has exactly the hashes that its indices demand: a hash more or less is a refusal. Consistency from size 0 is refused,
because it proves nothing.

A proof of a fork is more than a consistency proof that fails (garbage fails too): :func:`prefix_root` derives, from
hashes that the newer root authenticates, which root the newer log had at the older size. Specification:
``silexium.md``, 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.merkle import BLAKE3_TREE, ReadNode, TreeHash, range_hash

__all__ = [
    "consistency_proof",
    "inclusion_proof",
    "prefix_proof",
    "prefix_root",
    "root_from_inclusion",
    "verify_consistency",
    "verify_inclusion",
]


def inclusion_proof(read: ReadNode, index: int, size: int, tree: TreeHash = BLAKE3_TREE) -> list[bytes]:
    """The hashes from leaf ``index`` up to the root of the first ``size`` leaves; ``read`` knows all of these."""
    if not 0 <= index < size:
        raise ProofRejected("silexium.inclusion", f"index {index} lies outside a log of {size} entries")
    start, end, ranges = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return [range_hash(tree, read, low, high) for low, high in reversed(ranges)]


def consistency_proof(read: ReadNode, old: int, new: int, tree: TreeHash = BLAKE3_TREE) -> list[bytes]:
    """The hashes that show a log of ``new`` entries to begin with the log of ``old`` entries; ``old`` is at least 1."""
    if old == new and old > 0:
        return []
    proof = prefix_proof(read, old, new, tree)
    # The old root itself is left out where it is a node of the new tree (RFC 6962, 2.1.2).
    return proof[1:] if _is_power_of_two(old) else proof


def prefix_proof(read: ReadNode, old: int, new: int, tree: TreeHash = BLAKE3_TREE) -> list[bytes]:
    """As :func:`consistency_proof`, but always with its first node, so that :func:`prefix_root` needs no old root."""
    _require_sizes(old, new)
    start, end, ranges = 0, new, []
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    ranges.append((start, end))
    return [range_hash(tree, read, low, high) for low, high in reversed(ranges)]


def root_from_inclusion(
    index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], tree: TreeHash = BLAKE3_TREE
) -> bytes:
    """The root that ``proof`` leads to from ``leaf_hash``; raises where index, size and length do not fit."""
    if not 0 <= index < size <= limits.LOG_ENTRIES:
        raise ProofRejected("silexium.inclusion", f"index {index} lies outside a log of {size} entries")
    _require_hashes(proof, "silexium.inclusion")
    position, last, root = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise ProofRejected("silexium.inclusion", "the inclusion proof has too many hashes")
        if position & 1 or position == last:
            root = tree.node(sibling, root)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            root = tree.node(root, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofRejected("silexium.inclusion", "the inclusion proof has too few hashes")
    return root


def verify_inclusion(
    index: int, size: int, entry_hash: bytes, proof: Sequence[bytes], root: bytes, *, tree: TreeHash = BLAKE3_TREE
) -> None:
    """Demand that entry ``index`` of the log with ``size`` entries and ``root`` is ``entry_hash``; raises otherwise."""
    _require_hashes([entry_hash, root], "silexium.inclusion")
    actual = root_from_inclusion(index, size, tree.leaf(entry_hash), proof, tree)
    if actual != root:
        evidence = {"expected_root": root.hex(), "actual_root": actual.hex(), "index": index, "size": size}
        raise ProofRejected("silexium.inclusion", "the entry is not in the log at that place", evidence=evidence)


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes], *, tree: TreeHash = BLAKE3_TREE
) -> None:
    """Demand that the log of ``new`` entries begins with the log of ``old`` entries; raises otherwise."""
    _require_sizes(old, new)
    _require_hashes([*proof, old_root, new_root], "silexium.consistency")
    evidence = {"old_size": old, "old_root": old_root.hex(), "new_size": new, "new_root": new_root.hex()}
    if old == new:
        if proof or old_root != new_root:
            message = "one size has two roots" if old_root != new_root else "equal sizes need an empty proof"
            raise ProofRejected("silexium.consistency", message, evidence=evidence)
        return
    nodes = [old_root, *proof] if _is_power_of_two(old) else list(proof)
    before, after = _walk(old, new, nodes, tree)
    if before != old_root or after != new_root:
        message = f"the log of {new} entries is not shown to begin with the log of {old}"
        raise ProofRejected("silexium.consistency", message, evidence=evidence)


def prefix_root(old: int, new: int, new_root: bytes, nodes: Sequence[bytes], tree: TreeHash = BLAKE3_TREE) -> bytes:
    """The root that the log with ``new_root`` had at size ``old`` < ``new``, by a :func:`prefix_proof`.

    Every hash is authenticated by ``new_root``, so a different older head by the same signer is a proven fork. Raises
    when the nodes do not lead to ``new_root``: then nothing is proven either way.
    """
    _require_sizes(old, new)
    _require_hashes([*nodes, new_root], "silexium.consistency")
    before, after = _walk(old, new, list(nodes), tree)
    if after != new_root:
        raise ProofRejected("silexium.consistency", "the hashes do not lead to the newer root")
    return before


def _walk(old: int, new: int, nodes: list[bytes], tree: TreeHash) -> tuple[bytes, bytes]:
    """The roots at ``old`` and at ``new`` that ``nodes`` (the first node included) lead to (RFC 9162, 2.1.4.2)."""
    if not nodes:
        raise ProofRejected("silexium.consistency", "the consistency proof has too few hashes")
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    before = after = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            raise ProofRejected("silexium.consistency", "the consistency proof has too many hashes")
        if position & 1 or position == last:
            before, after = tree.node(sibling, before), tree.node(sibling, after)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            after = tree.node(after, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofRejected("silexium.consistency", "the consistency proof has too few hashes")
    return before, after


def _require_sizes(old: int, new: int) -> None:
    if old < 1:
        raise ProofRejected("silexium.consistency", "consistency from size 0 proves nothing")
    if not old <= new <= limits.LOG_ENTRIES:
        raise ProofRejected("silexium.consistency", f"a log cannot go from {old} entries to {new}")


def _require_hashes(hashes: Sequence[bytes], reason: str) -> None:
    if len(hashes) > limits.LOG_PROOF_HASHES:
        raise ProofRejected(reason, f"{len(hashes)} hashes are more than any proof needs")
    if any(type(digest) is not bytes or len(digest) != 32 for digest in hashes):
        raise ProofRejected(reason, "a hash of the proof does not have 32 bytes")


def _split(span: int) -> int:
    """The largest power of two below ``span`` (RFC 6962, 2.1)."""
    return 1 << ((span - 1).bit_length() - 1)


def _is_power_of_two(size: int) -> bool:
    return size & (size - 1) == 0
