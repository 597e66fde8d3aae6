"""Incremental piece hashes of one file: BitTorrent v1 (SHA-1) and v2 (SHA-256 over 16 KiB leaves) in one pass.

A file of the release's torrent fills whole pieces (a pad file follows it), so its hashes do not depend on the others.
v1 pads the last piece with zero bytes; v2 pads with zero *hashes* and knows nothing of pad files (BEP 52).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from libreseed import limits

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FilePieces", "PieceHasher", "root_of_layer"]

_LEAF: Final = 16 * 2**10  # BEP 52
_ZERO_LEAF: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class FilePieces:
    """The hashes of one file of ``size`` bytes: ``v1`` (20 bytes per piece), ``layer`` (32 per piece), ``root``.

    ``layer`` is empty for a file of at most one piece: BEP 52 has no piece layer then.
    """

    size: int
    v1: bytes = field(repr=False)
    layer: bytes = field(repr=False)
    root: bytes


class PieceHasher:
    """Feed a file's bytes in order, in portions of any size; :meth:`finish` gives its :class:`FilePieces`.

    Portions that are a multiple of 16 KiB are hashed without a copy, and with the interpreter lock released.
    """

    def __init__(self, piece_bytes: int) -> None:
        if piece_bytes % _LEAF or piece_bytes & (piece_bytes - 1) or piece_bytes > limits.PIECE_BYTES_MAX:
            raise ValueError(f"{piece_bytes} bytes are no piece length")
        self._piece_bytes = piece_bytes
        self._size = 0
        self._rest = bytearray()  # less than one leaf
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._v1 = bytearray()
        self._leaves: list[bytes] = []  # of the piece under way
        self._layer = bytearray()

    def feed(self, data: Buffer) -> None:
        """Take the next bytes of the file."""
        view = memoryview(data).cast("B")
        self._size += len(view)
        at = 0
        if self._rest:
            at = min(_LEAF - len(self._rest), len(view))
            self._rest += view[:at]
            if len(self._rest) < _LEAF:
                return
            self._leaf(memoryview(bytes(self._rest)))
            self._rest.clear()
        whole = at + (len(view) - at) // _LEAF * _LEAF
        for start in range(at, whole, _LEAF):
            self._leaf(view[start : start + _LEAF])
        self._rest += view[whole:]

    def finish(self) -> FilePieces:
        """The hashes of all that was fed; at least one byte must have been."""
        if not self._size:
            raise ValueError("an empty file has no pieces")
        single = self._size <= self._piece_bytes
        if self._rest:
            self._leaf(memoryview(bytes(self._rest)))
            self._rest.clear()
        if single:
            leaves = self._leaves or [bytes(self._layer)]  # a file of exactly one piece has its root already
            layer, root = b"", _merkle(leaves, _power_of_two(len(leaves)), _ZERO_LEAF)
        if self._leaves:
            self._sha1.update(bytes(-self._size % self._piece_bytes))
            self._close_piece()
        if not single:
            layer = bytes(self._layer)
            root = root_of_layer(layer, self._piece_bytes)
        return FilePieces(self._size, bytes(self._v1), layer, root)

    def _leaf(self, leaf: memoryview) -> None:
        self._sha1.update(leaf)
        self._leaves.append(hashlib.sha256(leaf).digest())
        if len(self._leaves) * _LEAF == self._piece_bytes and len(leaf) == _LEAF:
            self._close_piece()

    def _close_piece(self) -> None:
        self._v1 += self._sha1.digest()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._layer += _merkle(self._leaves, self._piece_bytes // _LEAF, _ZERO_LEAF)
        self._leaves = []


def root_of_layer(layer: bytes, piece_bytes: int) -> bytes:
    """The file's root (32 bytes) above a piece layer (32 bytes per piece)."""
    hashes = [layer[at : at + 32] for at in range(0, len(layer), 32)]
    return _merkle(hashes, _power_of_two(len(hashes)), _merkle([], piece_bytes // _LEAF, _ZERO_LEAF))


def _merkle(hashes: list[bytes], width: int, filler: bytes) -> bytes:
    """The root of a binary tree over ``hashes``, filled up to ``width`` (a power of two) with ``filler``."""
    level = hashes
    while width > 1:
        if len(level) % 2:
            level = [*level, filler]
        level = [hashlib.sha256(level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
        filler = hashlib.sha256(filler + filler).digest()
        width //= 2
    return level[0] if level else filler


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
