"""Huffman encoding of many blocks at once (section 3.9): numpy over whole groups of blocks, no loop per byte.

Four codes (at most 60 bits) are joined into one word, then every word is cut where the output's 64-bit words end. Words
that begin in the same output word have no bit in common, so their sum is their union, and sums of runs are differences
of one running sum (modulo 2**64). Bits go out most significant first; the last byte is filled with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from libreseed import limits
from libreseed.auraseal.code_lengths import code_lengths
from libreseed.auraseal.code_table import assign_codes, pack_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

__all__ = ["encode_blocks"]


def encode_blocks(blocks: Sequence[Buffer]) -> list[tuple[bytes, bytes]]:
    """Table (128 bytes) and payload of each block of at most 5120 bytes; an empty one has a table of zeros.

    The codes are optimal among those of at most 15 bits.
    """
    coded: list[tuple[bytes, bytes]] = []
    for at in range(0, len(blocks), limits.CODER_GROUP_BLOCKS):
        coded += _encode_group(blocks[at : at + limits.CODER_GROUP_BLOCKS])
    return coded


def _encode_group(blocks: Sequence[Buffer]) -> list[tuple[bytes, bytes]]:
    sizes = [memoryview(block).nbytes for block in blocks]
    width = max(4, -(-max(sizes) // 4) * 4)
    data = np.zeros((len(blocks), width), np.uint8)
    for row, block, size in zip(data, blocks, sizes, strict=True):
        row[:size] = memoryview(block).cast("B")
    index = data.astype(np.intp)
    index += np.arange(len(blocks), dtype=np.intp)[:, None] * 256
    weights: NDArray[Any] = np.bincount(index.ravel(), minlength=len(blocks) * 256).reshape(-1, 256)
    weights[:, 0] -= width - np.array(sizes)
    lengths = code_lengths(weights)
    symbols = assign_codes(lengths).entries().ravel().take(index)
    for coded, size in zip(symbols, sizes, strict=True):
        coded[size:] = 0
    return list(zip(pack_tables(lengths), _pack(*_join(symbols)), strict=True))


def _join(symbols: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Bits and number of bits of each run of four symbols, given as ``code << 4 | length``."""
    lengths = symbols & 15
    codes = symbols >> 4
    pairs = codes[:, 0::2] << lengths[:, 1::2] | codes[:, 1::2]
    pair_lengths = lengths[:, 0::2] + lengths[:, 1::2]
    wide = pairs.astype(np.uint64)
    bits = wide[:, 0::2] << pair_lengths[:, 1::2].astype(np.uint64) | wide[:, 1::2]
    return bits, (pair_lengths[:, 0::2] + pair_lengths[:, 1::2]).astype(np.uint64)


def _pack(bits: NDArray[np.uint64], lengths: NDArray[np.uint64]) -> list[bytes]:
    """Each row's runs of bits, one behind the other, as bytes."""
    ends = lengths.cumsum(axis=1)
    totals = ends[:, -1].astype(np.int64)
    words = totals // 64 + 2  # with room for an empty run at the end, and its second half
    first = words.cumsum() - words
    at = (ends - lengths + (first.astype(np.uint64) << 6)[:, None]).ravel()
    word, offset = (at >> 6).astype(np.intp), at & 63
    aligned = bits.ravel() << (64 - lengths.ravel())  # a shift by 64 gives 0
    upper = np.cumsum(aligned >> offset)
    last = np.flatnonzero(np.append(word[1:] != word[:-1], True))  # of the runs that begin in the same word
    output = np.zeros(int(words.sum()), np.uint64)
    output[word[last]] = np.diff(upper[last], prepend=np.uint64(0))
    output[word[last] + 1] |= aligned[last] << (64 - offset[last])
    data = output.byteswap().tobytes()
    sizes = (totals + 7) // 8
    return [data[start : start + size] for start, size in zip((first * 8).tolist(), sizes.tolist(), strict=True)]
