"""Huffman decoding of many blocks at once (section 3.9), strict and bounded, with no loop per byte.

Many blocks are decoded side by side: one step takes one symbol from each, by a look-up in the block's own table of all
combinations of its longest code's bits. A few blocks are decoded by pointer doubling instead: what a code that begins
at *any* bit would be is looked up at once, and the codes that do begin there follow from where codes end, in
``log2(size)`` rounds. Both give the same.

Memory is bounded by groups; the output by the sizes stated; a code that is no code, runs past the end, leaves bytes
behind or has a bit set in the last byte's rest makes the block bad, and only that block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from libreseed import limits
from libreseed.auraseal.code_table import Codes, assign_codes, unpack_tables
from libreseed.errors import ContentRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CodedBlock", "Decoded", "decode_blocks", "decode_each"]

_NO_CODE = 1 << 15  # in an entry of a look-up table, beside ``symbol << 4 | length``
_SPAN = 64  # steps that are kept until they are written, so that the transposed copy stays in the cache
_FEW = 24  # blocks; up to here doubling is faster
_OVERRUN = limits.CODE_BITS * limits.CHUNK_BYTES // 8 + 8  # bytes that a bad block may be read past its end


@dataclass(frozen=True, slots=True)
class CodedBlock:
    """A block to decode: ``size`` symbols (1..5120) from ``payload`` by ``table``.

    ``padded`` says that ``payload`` is followed by zero bytes, which do not belong to it.
    """

    table: bytes
    payload: bytes
    size: int
    padded: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= limits.CHUNK_BYTES:
            raise ContentRejected("auraseal.huffman-payload", f"no block has {self.size} bytes")
        if len(self.table) != limits.CODE_TABLE_BYTES or len(self.payload) > limits.CHUNK_BYTES:
            raise ContentRejected("auraseal.huffman-payload", f"no block has a payload of {len(self.payload)} bytes")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded block: its ``data``, and how many bytes of the payload are its code."""

    data: bytes
    payload_length: int


def decode_blocks(blocks: Sequence[CodedBlock]) -> list[bytes]:
    """The data of all ``blocks``; raises the first bad block's :class:`ContentRejected`."""
    results = []
    for result in decode_each(blocks):
        if isinstance(result, ContentRejected):
            raise result
        results.append(result.data)
    return results


def decode_each(blocks: Sequence[CodedBlock]) -> list[Decoded | ContentRejected]:
    """For every block what it says, or why it is bad (``auraseal.huffman-table``, ``auraseal.huffman-payload``)."""
    if not blocks:
        return []
    codes = assign_codes(unpack_tables([block.table for block in blocks]))
    results: list[Decoded | ContentRejected] = [
        ContentRejected("auraseal.huffman-table", "the code lengths are not those of a complete prefix code")
    ] * len(blocks)
    for group in _groups(codes):
        work = _Work.of([blocks[at] for at in group], codes, np.array(group))
        data, ends = work.by_doubling() if len(group) <= _FEW else work.side_by_side()
        for at, symbols, end in zip(group, data, ends, strict=True):
            results[at] = _judge(blocks[at], symbols, end)
    return results


def _groups(codes: Codes) -> Iterator[list[int]]:
    """Sound blocks by their longest code, as many at once as their look-up tables fit into the memory for these."""
    longest = _longest(codes.lengths)
    ordered = [at for at in np.argsort(longest, kind="stable").tolist() if codes.sound[at]]
    group: list[int] = []
    for at in ordered:
        if group and (len(group) + 1) << int(longest[at]) > limits.CODER_LOOKUP_ENTRIES:
            yield group
            group = []
        group.append(at)
    if group:
        yield group


def _longest(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    longest: NDArray[np.int64] = np.where(lengths <= limits.CODE_BITS, lengths, 0).max(axis=1)
    return longest


def _judge(block: CodedBlock, symbols: bytes, end: int) -> Decoded | ContentRejected:
    """``end`` is the bit of the payload at which the last symbol ended, or -1 if one of them was no code."""
    length = -(-end // 8)
    payload = block.payload
    if end < 0 or length > len(payload):
        return ContentRejected("auraseal.huffman-payload", "the payload holds no code, or ends within one")
    if (length < len(payload) and not block.padded) or any(payload[length:]):
        return ContentRejected("auraseal.huffman-payload", "the payload goes on behind the last symbol")
    if payload[length - 1] & (1 << (8 * length - end)) - 1:
        return ContentRejected("auraseal.huffman-payload", "the rest of the last byte is not zero")
    return Decoded(symbols, length)


@dataclass(frozen=True, slots=True)
class _Work:
    """A group of blocks to decode: look-up tables end to end, and the payloads' bits."""

    blocks: Sequence[CodedBlock]
    bits: int  # of the longest code; a block's table has 2**bits entries
    lookup: NDArray[np.uint16]  # symbol << 4 | length, by the bits that come next
    windows: NDArray[np.uint64]  # 64 bits from every other byte of the payloads on
    starts: NDArray[np.uint64]  # where a block's payload begins, in bits

    @classmethod
    def of(cls, blocks: Sequence[CodedBlock], codes: Codes, rows: NDArray[Any]) -> _Work:
        lengths, symbols = codes.lengths[rows], codes.symbols[rows]
        bits = int(_longest(lengths).max())
        repeats = codes.shares[rows] >> (limits.CODE_BITS - bits)
        entries = (symbols << 4 | lengths).astype(np.uint16)
        rest = (1 << bits) - repeats.sum(axis=1)  # half of the table of a single symbol: bit 1 is no code
        entries[rest > 0, 1] = _NO_CODE | 1
        repeats[:, 1] += rest
        payloads = b"".join(block.payload for block in blocks) + bytes(_OVERRUN)
        overlapping: NDArray[Any] = np.ndarray((len(payloads) // 2 - 3,), ">u8", payloads, strides=(2,))
        sizes = np.array([len(block.payload) for block in blocks], np.uint64)
        return cls(
            blocks,
            bits,
            np.repeat(entries.ravel(), repeats.ravel()),
            overlapping.astype(np.uint64),
            (sizes.cumsum() - sizes) * 8,
        )

    def by_doubling(self) -> tuple[list[bytes], list[int]]:
        """Symbols of each block, and the bit of its payload at which the last one ends (-1 if one was no code)."""
        data, ends = [], []
        for at, (block, start) in enumerate(zip(self.blocks, self.starts.tolist(), strict=True)):
            size = 8 * len(block.payload)
            places = np.arange(start, start + size)
            bits = self.windows[places >> 4] << (places & 15).astype(np.uint64) >> np.uint64(64 - self.bits)
            entries = self.lookup[at << self.bits :][bits.astype(np.intp)]
            # Behind the last bit are two more places: the end, and past the end, where everything stays.
            jumps = np.full(size + 2, size + 1, np.intp)
            np.minimum(np.arange(size) + (entries & 15), size + 1, out=jumps[:size])
            after = jumps
            places = np.zeros(1, np.intp)
            while len(places) < block.size:
                places = np.concatenate((places, jumps[places]))
                jumps = jumps[jumps]
            places = places[: block.size]
            found = np.append(entries, (_NO_CODE, _NO_CODE)).astype(np.uint16)[places]
            data.append((found >> 4).astype(np.uint8).tobytes())
            ends.append(-1 if (found & _NO_CODE).any() else int(after[places[-1]]))
        return data, ends

    def side_by_side(self) -> tuple[list[bytes], list[int]]:
        """As :meth:`by_doubling`."""
        sizes = np.array([block.size for block in self.blocks])
        order = np.argsort(-sizes, kind="stable")  # whoever is done leaves at the end
        lanes = _Lanes(self, order)
        output = np.zeros((len(order), int(sizes.max())), np.uint8)
        bad = np.zeros(len(order), np.bool_)
        step = 0
        for size in np.unique(sizes).tolist():
            active = int(np.count_nonzero(sizes >= size))
            while step < size:
                stop = min(size, step + _SPAN)
                found = lanes.take(active, stop - step)
                output[:active, step:stop] = (found >> 4).T  # the flag is cut off here
                bad[:active] |= (found & _NO_CODE).any(axis=0)
                step = stop
        ends = np.where(bad, -1, (lanes.positions - self.starts[order]).astype(np.int64))
        place = np.argsort(order).tolist()
        return [output[at, :size].tobytes() for at, size in zip(place, sizes, strict=True)], ends[place].tolist()


class _Lanes:
    """Where each block's decoding stands, and the memory of one step."""

    def __init__(self, work: _Work, order: NDArray[Any]) -> None:
        count = len(order)
        self._lookup, self._windows = work.lookup, work.windows
        self._per_window = (64 - 15) // work.bits  # whole codes that 64 bits hold wherever in 16 bits they begin
        self.positions = work.starts[order]
        self._bases = (order << work.bits).astype(np.uint64)
        self._shift = np.full(count, 64 - work.bits, np.uint64)
        self._found = np.empty((_SPAN, count), np.uint16)
        self._scratch = np.empty((3, count), np.uint64)

    def take(self, active: int, steps: int) -> NDArray[np.uint16]:
        """The next ``steps`` entries of the first ``active`` blocks, (steps, blocks)."""
        positions, bases, shift = self.positions[:active], self._bases[:active], self._shift[:active]
        lookup, windows = self._lookup, self._windows
        bits, index, length = (row[:active] for row in self._scratch)
        place = index.view(np.intp)
        found = self._found[:steps, :active]
        for step, row in enumerate(found):
            if step % self._per_window == 0:
                np.right_shift(positions, 4, out=index)
                windows.take(place, out=bits, mode="clip")
                np.bitwise_and(positions, 15, out=length)
                np.left_shift(bits, length, out=bits)
            np.right_shift(bits, shift, out=index)
            np.add(index, bases, out=index)
            lookup.take(place, out=row, mode="clip")
            np.bitwise_and(row, 15, out=length)
            np.left_shift(bits, length, out=bits)
            np.add(positions, length, out=positions)
        return found
