"""Section 3.9: code lengths, canonical codes, and the codec on many blocks at once."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.auraseal import huffman_decode
from libreseed.auraseal.code_lengths import code_lengths
from libreseed.auraseal.code_table import check_table, pack_tables, table_codes
from libreseed.auraseal.huffman_decode import CodedBlock, decode_blocks, decode_each
from libreseed.auraseal.huffman_encode import encode_blocks
from libreseed.errors import ContentRejected
from tests.vectors_support import Row, dispatch, rows


def _table(row: Row) -> None:
    table = bytes.fromhex(row["table"])
    if row["expect"] == "accept":
        assert table_codes(table) == {int(symbol): code for symbol, code in row["codes"].items()}
    else:
        with pytest.raises(ContentRejected) as caught:
            check_table(table)
        assert caught.value.reason == "auraseal.huffman-table"


def _decode(row: Row) -> None:
    block = CodedBlock(bytes.fromhex(row["table"]), bytes.fromhex(row["payload"]), row["size"])
    for crowd in (1, 40):  # by doubling, and side by side
        results = decode_each([block] * crowd)
        if row["expect"] == "accept":
            assert {result.data.hex() for result in results} == {row["data"]}  # type: ignore[union-attr]
        else:
            assert {result.reason for result in results} == {"auraseal.huffman-payload"}  # type: ignore[union-attr]
    if row["expect"] == "accept":
        assert _read(block.table, block.payload, block.size) == bytes.fromhex(row["data"])


def _lengths(row: Row) -> None:
    weights = np.zeros((1, 256), np.int64)
    weights[0, : len(row["weights"])] = row["weights"]
    lengths = code_lengths(weights)
    assert int((lengths * weights).sum()) == row["bits"]
    assert lengths.max() <= limits.CODE_BITS
    check_table(pack_tables(lengths)[0])


@pytest.mark.parametrize("row", rows("huffman.json"))
def test_huffman_vector(row: Row) -> None:
    dispatch(row, {"table": _table, "decode": _decode, "lengths": _lengths})


# --- a second, plain implementation ----------------------------------------------------------------------------------


def _read(table: bytes, payload: bytes, size: int) -> bytes:
    symbols = {code: symbol for symbol, code in table_codes(table).items()}
    bits = "".join(f"{byte:08b}" for byte in payload)
    found, code = bytearray(), ""
    for bit in bits:
        code += bit
        if code in symbols:
            found.append(symbols[code])
            code = ""
        if len(found) == size:
            break
    return bytes(found)


def _plain_cost(weights: list[int]) -> tuple[int, int]:
    """Bits and longest code of an unlimited Huffman code."""
    heap = [(weight, 0) for weight in weights if weight]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        (one, depth), (two, other) = heapq.heappop(heap), heapq.heappop(heap)
        bits += one + two
        heapq.heappush(heap, (one + two, max(depth, other) + 1))
    return bits, heap[0][1]


@given(st.lists(st.lists(st.integers(0, 5000), min_size=2, max_size=40), min_size=1, max_size=5))
def test_lengths_cost_as_little_as_an_unlimited_code_where_that_is_short_enough(histograms: list[list[int]]) -> None:
    weights = np.zeros((len(histograms), 256), np.int64)
    for row, histogram in zip(weights, histograms, strict=True):
        row[: len(histogram)] = histogram
    for row, lengths in zip(weights.tolist(), code_lengths(weights).tolist(), strict=True):
        assert [bool(length) for length in lengths] == [bool(weight) for weight in row]
        used = [length for length in lengths if length]
        if len(used) < 2:
            assert used in ([], [1])
            continue
        assert sum(2**-length for length in used) == 1
        assert max(used) <= limits.CODE_BITS
        bits, longest = _plain_cost(row)
        cost = sum(length * weight for length, weight in zip(lengths, row, strict=True))
        assert cost == bits if longest <= limits.CODE_BITS else cost >= bits


def test_an_unused_row_beside_others_stays_empty() -> None:
    weights = np.zeros((3, 256), np.int64)
    weights[1, 7], weights[2, 1], weights[2, 200] = 4, 1, 1
    assert [sorted(set(row)) for row in code_lengths(weights).tolist()] == [[0], [0, 1], [0, 1]]


_block = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.builds(lambda b, n: b * n, st.binary(min_size=1, max_size=4), st.integers(1, 1200)),
    st.builds(
        lambda s, n: bytes(np.random.default_rng(s).geometric(0.3, n).clip(0, 255).astype(np.uint8)),
        st.integers(0, 2**32),
        st.integers(1, limits.CHUNK_BYTES),
    ),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(_block, min_size=1, max_size=60))
def test_round_trip_however_many_blocks(blocks: list[bytes]) -> None:
    coded = encode_blocks(blocks)
    work = [CodedBlock(table, payload, len(block)) for block, (table, payload) in zip(blocks, coded, strict=True)]
    assert decode_blocks(work) == blocks
    assert _read(work[0].table, work[0].payload, len(blocks[0])) == blocks[0]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_both_ways_of_decoding_agree_on_damaged_payloads(data: st.DataObject) -> None:
    blocks = [data.draw(_block) for _ in range(4)]
    work = []
    for block, (table, payload) in zip(blocks, encode_blocks(blocks), strict=True):
        broken = bytearray(payload + data.draw(st.binary(max_size=2)))[: limits.CHUNK_BYTES]
        for at in data.draw(st.lists(st.integers(0, len(broken) - 1), max_size=3)):
            broken[at] ^= data.draw(st.integers(1, 255))
        work.append(CodedBlock(table, bytes(broken), data.draw(st.sampled_from([len(block), 1, limits.CHUNK_BYTES]))))
    alone = [_outcome(decode_each([block])[0]) for block in work]
    crowd = [_outcome(result) for result in decode_each(work * 8)]
    assert crowd == alone * 8
    for block, (data_or_reason, length) in zip(work, alone, strict=True):
        if isinstance(data_or_reason, bytes):
            assert length == len(block.payload)
            assert _read(block.table, block.payload, block.size) == data_or_reason
            again = encode_blocks([data_or_reason])[0]
            assert len(again[1]) <= len(block.payload)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=128, max_size=128), st.binary(max_size=60), st.integers(1, 200))
def test_only_the_declared_error_escapes_the_decoder(table: bytes, payload: bytes, size: int) -> None:
    for result in decode_each([CodedBlock(table, payload, size)] * 30):
        assert isinstance(result, ContentRejected)
        assert result.reason in {"auraseal.huffman-table", "auraseal.huffman-payload"}


def test_a_bad_block_spoils_no_other() -> None:
    good, bad = b"abracadabra" * 20, bytes(128)
    table, payload = encode_blocks([good])[0]
    for crowd in (3, 60):
        work = [CodedBlock(table, payload, len(good)) for _ in range(crowd)]
        work[1] = CodedBlock(bad, payload, len(good))
        work[2] = CodedBlock(table, payload[:-1], len(good))
        results = decode_each(work)
        reasons = [getattr(result, "reason", None) for result in results]
        assert reasons == [None, "auraseal.huffman-table", "auraseal.huffman-payload"] + [None] * (crowd - 3)
        assert {result.data for result in results if not isinstance(result, ContentRejected)} == {good}
        with pytest.raises(ContentRejected):
            decode_blocks(work)


def test_padding_is_cut_off_only_where_it_is_zero() -> None:
    block = b"abracadabra" * 20
    table, payload = encode_blocks([block])[0]
    for crowd in (1, 40):
        padded = [CodedBlock(table, payload + bytes(99), len(block), padded=True)] * crowd
        for result in decode_each(padded):
            assert result == huffman_decode.Decoded(block, len(payload))
        dirty = [CodedBlock(table, payload + bytes(98) + b"\1", len(block), padded=True)] * crowd
        assert {getattr(result, "reason", None) for result in decode_each(dirty)} == {"auraseal.huffman-payload"}


def test_look_up_tables_stay_within_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 17:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    block = b"".join(bytes([symbol]) * weight for symbol, weight in enumerate(fibonacci))  # codes of 15 bits
    table, payload = encode_blocks([block])[0]
    assert max(map(len, table_codes(table).values())) == limits.CODE_BITS
    monkeypatch.setattr(limits, "CODER_LOOKUP_ENTRIES", 3 << limits.CODE_BITS)
    sizes: list[int] = []
    made = huffman_decode._Work.of.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, *arguments: Any) -> Any:
        work = made(cls, *arguments)
        sizes.append(work.lookup.size)
        return work

    monkeypatch.setattr(huffman_decode._Work, "of", classmethod(watched))
    assert decode_blocks([CodedBlock(table, payload, len(block))] * 7) == [block] * 7
    assert sizes == [3 << 15, 3 << 15, 1 << 15]


@pytest.mark.parametrize("size", [0, -1, limits.CHUNK_BYTES + 1])
def test_a_block_of_an_impossible_size_is_refused_before_anything_is_allocated(size: int) -> None:
    with pytest.raises(ContentRejected):
        CodedBlock(bytes(128), b"", size)


def _outcome(result: Any) -> tuple[bytes | str, int]:
    if isinstance(result, ContentRejected):
        return result.reason, -1
    return result.data, result.payload_length
