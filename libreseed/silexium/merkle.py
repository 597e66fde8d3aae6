"""The Merkle tree of the log: hashes with domain prefixes, and the compact range that appends need.

RFC 6962's shape (largest power-of-two split) over BLAKE3: leaf = H(0x00 || entry_hash), node = H(0x01 || left ||
right), empty root = H(). The two prefixes keep a node from passing as a leaf. The hash is a value, so that the same
code builds a SHA-256 tree and is checked against RFC 6962's own figures. A node is addressed by (level, index): it
covers the leaves [index << level, (index + 1) << level).

Nothing is stored here: a :class:`CompactRange` holds O(log n) hashes, and tells its caller every completed subtree.
Specification: ``silexium.md``, 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from libreseed.errors import ProofRejected

__all__ = [
    "BLAKE3_TREE",
    "SHA256_TREE",
    "CompactRange",
    "EmitNode",
    "EmitRow",
    "ReadNode",
    "TreeHash",
    "range_hash",
    "tree_root",
]

# (level, index, hash) of a subtree that has just become complete.
EmitNode = Callable[[int, int, bytes], object]
# (level, index of the first, hashes) of neighbours that have just become complete.
EmitRow = Callable[[int, int, Sequence[bytes]], object]
# (level, index) -> the 32-byte hash of that complete subtree.
ReadNode = Callable[[int, int], bytes]


def _blake3(data: bytes) -> bytes:
    return blake3(data).digest()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class TreeHash:
    """The hash function of a tree: ``name`` as documents call it, ``digest`` from bytes to 32 bytes."""

    name: str
    digest: Callable[[bytes], bytes]

    def leaf(self, entry_hash: bytes) -> bytes:
        """The leaf hash of an entry: H(0x00 || entry_hash)."""
        return self.digest(b"\x00" + entry_hash)

    def node(self, left: bytes, right: bytes) -> bytes:
        """The hash of an inner node: H(0x01 || left || right)."""
        return self.digest(b"\x01" + left + right)

    @property
    def empty_root(self) -> bytes:
        """The root of a log without entries: H of nothing."""
        return self.digest(b"")


BLAKE3_TREE = TreeHash("blake3", _blake3)
SHA256_TREE = TreeHash("sha256", _sha256)


class CompactRange:
    """The log's first ``size`` leaves as the roots of its perfect subtrees, largest first: what appending needs.

    Owned by the one task that appends; everybody else takes ``peaks`` (a copy) and ``size``.
    """

    __slots__ = ("_peaks", "size", "tree")

    def __init__(self, tree: TreeHash = BLAKE3_TREE, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != 32 for peak in peaks):
            raise ProofRejected("silexium.tree", f"{len(peaks)} hashes cannot stand for {size} leaves")
        self.tree = tree
        self.size = size
        self._peaks = list(peaks)

    @classmethod
    def from_nodes(cls, read: ReadNode, size: int, tree: TreeHash = BLAKE3_TREE) -> CompactRange:
        """The compact range of a stored log of ``size`` leaves."""
        return cls(tree, size, [read(level, index) for level, index in subtree_cover(0, size)])

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """Hashes of the perfect subtrees, from the largest to the smallest."""
        return tuple(self._peaks)

    def append(self, leaf_hash: bytes, emit: EmitNode | None = None) -> None:
        """Add a leaf; ``emit`` hears of the leaf and of every subtree that it completes, lowest level first."""
        node, peaks = self.tree.node, self._peaks
        index, level, digest = self.size, 0, leaf_hash
        if emit is not None:
            emit(0, index, digest)
        while index & 1:
            digest = node(peaks.pop(), digest)
            index >>= 1
            level += 1
            if emit is not None:
                emit(level, index, digest)
        peaks.append(digest)
        self.size += 1

    def extend(self, entry_hashes: Iterable[bytes], emit: EmitNode | None = None) -> None:
        """Append the leaf of every entry hash, in order; ``emit`` hears of every new node, level by level."""

        def emit_each(level: int, start: int, row: Sequence[bytes]) -> None:
            if emit is not None:
                for index, digest in enumerate(row, start):
                    emit(level, index, digest)

        self.extend_rows(entry_hashes, emit_each)

    def extend_rows(self, entry_hashes: Iterable[bytes], emit: EmitRow) -> None:
        """As :meth:`extend`; ``emit`` hears of every level that grew, lowest first, with all its new nodes at once."""
        digest, start, level = self.tree.digest, self.size, 0
        row = [digest(b"\x00" + entry_hash) for entry_hash in entry_hashes]
        self.size += len(row)
        old, new = self._peaks, []
        while row:
            emit(level, start, row)
            if start & 1:  # the smallest old peak is the left sibling of the first new node
                row = [old.pop(), *row]
            if len(row) & 1:
                new.append(row[-1])
            row = [digest(b"\x01" + left + right) for left, right in zip(row[::2], row[1::2], strict=False)]
            start, level = start >> 1, level + 1
        old += reversed(new)

    @property
    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return _fold(self.tree, self._peaks) if self._peaks else self.tree.empty_root


def tree_root(entry_hashes: Iterable[bytes], tree: TreeHash = BLAKE3_TREE) -> bytes:
    """The root of the log that holds exactly these entries."""
    leaves = CompactRange(tree)
    leaves.extend(entry_hashes)
    return leaves.root


def subtree_cover(start: int, end: int) -> list[tuple[int, int]]:
    """The perfect subtrees (level, index) that cover the leaves [start, end) from left to right.

    ``start`` must be aligned as the ranges of RFC 6962 are: a multiple of the largest power of two not above the span.
    """
    cover = []
    while start < end:
        level = (end - start).bit_length() - 1
        cover.append((level, start >> level))
        start += 1 << level
    return cover


def range_hash(tree: TreeHash, read: ReadNode, start: int, end: int) -> bytes:
    """The hash of the leaves [start, end), a range that RFC 6962's split makes; reads O(log n) nodes."""
    return _fold(tree, [read(level, index) for level, index in subtree_cover(start, end)])


def _fold(tree: TreeHash, peaks: Sequence[bytes]) -> bytes:
    digest = peaks[-1]
    for peak in reversed(peaks[:-1]):
        digest = tree.node(peak, digest)
    return digest
