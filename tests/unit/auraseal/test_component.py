"""Section 3.9: components survive the loss of any 4.6 % of their parts, and no lie survives in them."""

from __future__ import annotations

import base64
import hashlib
import random
from functools import lru_cache
from itertools import combinations

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.auraseal.component import Reconstruction, build_component, reconstruct
from libreseed.auraseal.part import ComponentShape, Part, parse_part, parse_parts, part_files
from libreseed.auraseal.tgz_parts import TgzComponents
from libreseed.errors import ContentRejected
from libreseed.ids import Sha256Digest
from libreseed.repair.chunkmap import build_chunk_map, chunk_digests
from libreseed.repair.grid import ChunkGrid
from tests.vectors_support import Row, dispatch, rows

_CHUNK = limits.CHUNK_BYTES


@lru_cache(maxsize=1)
def _sets() -> dict[str, Row]:
    return {row.values[0]["set"]: row.values[0] for row in rows("component.json", "files")}


def _files(row: Row) -> None:
    files = [base64.b64decode(text) for text in row["files"]]
    result = reconstruct(dict(enumerate(files)))
    assert hashlib.sha256(result.data).hexdigest() == row["data_sha256"]
    assert len(result.data) == row["size"]
    assert result.coherence == (len(files), len(files))
    assert not result.healed
    assert part_files(result.parts) == files  # parity made anew is the same, too
    assert [hashlib.sha256(file).hexdigest() for file in files[: row["data_parts"]]] == row["part_sha256"]
    shape = result.parts[0].shape
    ours = build_component(
        result.data, component=shape.component, division=shape.division, parity_parts=shape.parity_parts
    )
    assert reconstruct(dict(enumerate(part_files(ours)))).data == result.data


def _reconstruct(row: Row) -> None:
    whole = _sets()[row["set"]]
    files = {number: bytearray(base64.b64decode(whole["files"][number])) for number in row["present"]}
    for number, offset in row["rotten"].items():
        files[int(number)][offset] ^= 1
    left = {number: bytes(file) for number, file in files.items()}
    if row["expect"] == "reject":
        with pytest.raises(ContentRejected) as caught:
            reconstruct(left)
        assert caught.value.reason == "repair.beyond"
        return
    result = reconstruct(left)
    assert hashlib.sha256(result.data).hexdigest() == whole["data_sha256"]
    assert len(result.verified) == row["verified"]
    assert part_files(result.parts) == [base64.b64decode(text) for text in whole["files"]]


@pytest.mark.parametrize("row", rows("component.json"))
def test_component_vector(row: Row) -> None:
    dispatch(row, {"files": _files, "reconstruct": _reconstruct})


def _data(size: int) -> bytes:
    """Half of it compresses."""
    noise = hashlib.shake_256(b"component").digest(size)
    return b"".join(
        noise[at : at + _CHUNK] if at // _CHUNK % 2 else noise[at : at + _CHUNK // 2 + 1].hex().encode()[: size - at]
        for at in range(0, size, _CHUNK)
    )[:size]


@lru_cache(maxsize=8)
def _whole(data_parts: int) -> tuple[bytes, list[bytes]]:
    data = _data(data_parts * _CHUNK - 100)
    return data, part_files(build_component(data, component=3, division=1))


def _left(files: list[bytes], lost: tuple[int, ...] | list[int]) -> dict[int, bytes]:
    return {number: file for number, file in enumerate(files) if number not in lost}


@pytest.mark.parametrize("data_parts", [1, 2, 5, 20, 21])
def test_every_position_of_a_bearable_loss_is_healed_exactly(data_parts: int) -> None:
    data, files = _whole(data_parts)
    m = len(files) - data_parts
    for lost in combinations(range(len(files)), m):
        result = reconstruct(_left(files, lost))
        assert result.data == data
        assert part_files(result.parts) == files
        assert result.healed == set(lost)
        assert result.coherence == (len(files) - m, len(files))


@pytest.mark.parametrize("data_parts", [60, 244])
def test_random_losses_of_4_6_percent_are_healed_exactly(data_parts: int) -> None:
    data, files = _whole(data_parts)
    draw = random.Random(data_parts)
    for _ in range(6):
        lost = draw.sample(range(len(files)), int(len(files) * 0.046))
        assert lost
        result = reconstruct(_left(files, lost))
        assert result.data == data
        assert part_files(result.parts) == files


@pytest.mark.parametrize("data_parts", [1, 2, 5, 20])
def test_one_more_is_refused_in_every_position(data_parts: int) -> None:
    _, files = _whole(data_parts)
    m = len(files) - data_parts
    for lost in combinations(range(len(files)), m + 1):
        with pytest.raises(ContentRejected) as caught:
            reconstruct(_left(files, lost), shape=ComponentShape(3, 1, data_parts, m))
        assert caught.value.reason == "repair.beyond"
        assert caught.value.evidence["coherence"] == (data_parts - 1, len(files))
        assert caught.value.exit_code == 31


@pytest.mark.parametrize("data_parts", [2, 20, 60, 244])
def test_one_more_is_refused_with_the_coherence_reached(data_parts: int) -> None:
    _, files = _whole(data_parts)
    draw = random.Random(data_parts)
    m = len(files) - data_parts
    lost = draw.sample(range(len(files)), m + 1)
    with pytest.raises(ContentRejected) as caught:
        reconstruct(_left(files, lost))
    assert caught.value.reason == "repair.beyond"
    assert caught.value.evidence["coherence"] == (data_parts - 1, len(files))
    assert f"{data_parts - 1}/{len(files)}" in caught.value.message


def test_nothing_at_all_is_refused() -> None:
    for files in ({}, {0: b""}, {0: bytes(5504), 9: bytes(384)}):
        with pytest.raises(ContentRejected) as caught:
            reconstruct(files)
        assert caught.value.reason == "repair.beyond"
        assert caught.value.evidence["coherence"] == (0, len(files))


def test_damage_counts_as_loss_and_is_named() -> None:
    data, files = _whole(20)
    left = dict(enumerate(files))
    left[4] = files[4][:300] + bytes([files[4][300] ^ 1]) + files[4][301:]
    result = reconstruct(left)
    assert result.data == data
    assert result.healed == {4}
    assert result.rejected[4].reason == "auraseal.part-checksum"
    assert 4 not in result.verified


def test_each_wrong_byte_of_a_part_is_healed_exactly_in_its_component() -> None:
    data = b"abracadabra" * 40
    files = part_files(build_component(data, component=7, division=2))
    for at in range(len(files[0])):
        damaged = files[0][:at] + bytes([files[0][at] ^ 1 << at % 8]) + files[0][at + 1 :]
        result = reconstruct({0: damaged, 1: files[1]})
        assert result.data == data
        assert part_files(result.parts) == files
        assert result.healed == {0}
        assert (0 in result.verified) == (at < 208)  # the recovery bits suffice, without the parity part
    for at in range(0, len(files[1]), 7):
        damaged = files[1][:at] + bytes([files[1][at] ^ 0x80]) + files[1][at + 1 :]
        result = reconstruct({0: files[0], 1: damaged})
        assert part_files(result.parts) == files
        assert result.healed == {1}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_to_the_parts_the_data_are_exact_or_refused(data: st.DataObject) -> None:
    content, files = _whole(5)
    left, lied = dict(enumerate(files)), False
    for number in data.draw(st.lists(st.integers(0, 5), max_size=3)):
        kind = data.draw(st.sampled_from(["lose", "flip", "cut", "grow", "swap", "lie"]))
        file = left.get(number, files[number])
        at = data.draw(st.integers(0, max(0, len(file) - 1)))
        if kind == "lose":
            left.pop(number, None)
        elif kind == "flip":
            left[number] = file[:at] + bytes([data.draw(st.integers(0, 255))]) + file[at + 1 :]
        elif kind == "cut":
            left[number] = file[:at]
        elif kind == "grow":
            left[number] = file + data.draw(st.binary(min_size=1, max_size=9))
        elif kind == "swap":
            left[number] = files[data.draw(st.integers(0, 5))]
        else:
            left[number], lied = _liar(files, number), True
    # Without digests a lie shows only as long as there are more parts than needed.
    for expected in [_digests(content), *([] if lied else [None])]:
        try:
            result = reconstruct(left, expected=expected)
        except ContentRejected as error:
            assert error.reason in {"repair.beyond", "auraseal.lying-part"}
        else:
            assert result.data == content
            assert part_files(result.parts) == files


def test_a_part_in_the_place_of_another_is_not_used() -> None:
    data, files = _whole(20)
    left = dict(enumerate(files))
    left[4] = files[5]
    result = reconstruct(left)
    assert result.data == data
    assert result.rejected[4].reason == "auraseal.siblings"


def test_a_part_of_another_component_is_not_used() -> None:
    data, files = _whole(20)
    other = part_files(build_component(bytes(20 * _CHUNK), component=4, division=1))
    left = dict(enumerate(files))
    left[4] = other[4]
    result = reconstruct(left)
    assert result.data == data
    assert result.rejected[4].reason == "auraseal.siblings"
    assert reconstruct({**dict(enumerate(other)), 1: files[1]}).data == bytes(20 * _CHUNK)


def test_the_callers_word_on_the_component_outweighs_the_parts() -> None:
    data, files = _whole(2)
    crowd = part_files(build_component(bytes(2 * _CHUNK), component=4, division=1))
    left = {0: files[0], 1: crowd[1], 2: crowd[2]}
    with pytest.raises(ContentRejected) as caught:
        reconstruct(left, shape=ComponentShape(3, 1, 2, 1))
    assert caught.value.reason == "repair.beyond"
    assert caught.value.evidence["rejected"] == {1: "auraseal.siblings", 2: "auraseal.siblings"}
    assert reconstruct(left).data == bytes(2 * _CHUNK)
    del data


# --- lies: checksums that hold, other content ------------------------------------------------------------------------


def _digests(data: bytes) -> list[bytes]:
    return [blake3(data[at : at + _CHUNK]).digest() for at in range(0, len(data), _CHUNK)]


def _liar(files: list[bytes], number: int) -> bytes:
    """A part of its own component, with sums that hold, but of other data."""
    shape = parse_part(files[number]).shape
    data = hashlib.shake_256(b"lie").digest(shape.data_parts * _CHUNK - 100)
    return part_files(build_component(data, component=shape.component, division=shape.division))[number]


def test_a_lying_data_part_is_replaced_when_digests_are_signed() -> None:
    data, files = _whole(20)
    for number in (0, 19):
        left = {**dict(enumerate(files)), number: _liar(files, number)}
        result = reconstruct(left, expected=_digests(data))
        assert result.data == data
        assert result.healed == {number}
        assert result.rejected[number].reason == "auraseal.lying-part"
        assert part_files(result.parts) == files


def test_a_lying_parity_part_never_reaches_the_data() -> None:
    data, files = _whole(20)
    left = {**dict(enumerate(files)), 20: _liar(files, 20)}
    result = reconstruct(left, expected=_digests(data))
    assert result.data == data
    assert result.healed == {20}
    del left[3]
    with pytest.raises(ContentRejected) as caught:
        reconstruct(left, expected=_digests(data))
    assert caught.value.reason == "auraseal.lying-part"


def test_parity_that_decodes_to_sound_but_other_data_is_refused() -> None:
    data, lie = (hashlib.shake_256(seed).digest(3000) for seed in (b"truth", b"other"))
    files = part_files(build_component(lie, component=3, division=1))
    assert reconstruct({1: files[1]}).data == lie
    with pytest.raises(ContentRejected) as caught:
        reconstruct({1: files[1]}, expected=_digests(data))
    assert caught.value.reason == "auraseal.lying-part"
    assert caught.value.evidence["parts"] == [0]


def test_a_share_with_bytes_behind_its_payload_is_no_part() -> None:
    (part, parity) = build_component(hashlib.shake_256(b"raw").digest(3000), component=3, division=1)
    dirty = Part(parity.shape, 1, parity.head, parity.payload[:-1] + b"\1", b"")
    assert part.payload == part.data
    with pytest.raises(ContentRejected) as caught:
        reconstruct({1: part_files([dirty])[0]})
    assert caught.value.reason == "auraseal.lying-part"


@pytest.mark.parametrize("number", [0, 7, 20])
def test_parts_that_contradict_each_other_are_refused_without_digests(number: int) -> None:
    _, files = _whole(20)
    with pytest.raises(ContentRejected) as caught:
        reconstruct({**dict(enumerate(files)), number: _liar(files, number)})
    assert caught.value.reason == "auraseal.lying-part"


def test_digests_of_another_number_of_parts_are_refused() -> None:
    data, files = _whole(20)
    with pytest.raises(ContentRejected) as caught:
        reconstruct(dict(enumerate(files)), expected=_digests(data)[:-1])
    assert caught.value.reason == "auraseal.siblings"


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 127, 128, 5119, 5120, 5121, 10240])
@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_round_trip_at_the_edges(size: int, fill: str) -> None:
    data = bytes(size) if fill == "zeros" else hashlib.shake_256(b"edge").digest(size)
    parts = build_component(data, component=255, division=4)
    files = part_files(parts)
    assert parse_parts(files) == parts
    for lost in range(len(files)):
        result = reconstruct(_left(files, [lost]))
        assert result.data == data
        assert part_files(result.parts) == files
    if fill == "noise" or size < 128:
        assert all(part.payload == part.data for part in parts if not part.is_parity)


@pytest.mark.parametrize(("size", "parity"), [(244 * _CHUNK + 1, None), (_CHUNK, 33), (_CHUNK, 0), (21 * _CHUNK, 1)])
def test_a_component_of_an_impossible_shape_is_refused(size: int, parity: int | None) -> None:
    with pytest.raises(ContentRejected) as caught:
        build_component(bytes(size), component=0, division=0, parity_parts=parity)
    assert caught.value.reason == "auraseal.part-fields"


def test_more_parity_than_the_least_bears_more_losses() -> None:
    data = _data(9 * _CHUNK)
    files = part_files(build_component(data, component=0, division=0, parity_parts=32))
    result = reconstruct(_left(files, list(range(32))))
    assert result.data == data
    assert result.coherence == (9, 41)


# --- a .tgz ----------------------------------------------------------------------------------------------------------


def _map(data: bytes) -> TgzComponents:
    grid = ChunkGrid(len(data))
    tgz = Sha256Digest(hashlib.sha256(data).digest())
    parity = bytes(32 * grid.parity_chunks(grid.least_m))
    return TgzComponents(build_chunk_map(grid, grid.least_m, tgz, chunk_digests(data), parity))


def test_a_tgz_comes_back_component_by_component() -> None:
    data = _data(300 * _CHUNK + 17)
    tgz = _map(data)
    assert tgz.count == 2
    assert [tgz.span(c) for c in range(2)] == [(0, 244 * _CHUNK), (244 * _CHUNK, 56 * _CHUNK + 17)]
    assert tgz.chunk_range(1) == range(244, 301)
    draw = random.Random(5)
    found = b""
    for component in range(tgz.count):
        offset, length = tgz.span(component)
        files = part_files(tgz.build(component, data[offset : offset + length]))
        assert len(files) == tgz.shape(component).total_parts
        lost = draw.sample(range(len(files)), tgz.shape(component).parity_parts)
        result = tgz.reconstruct(component, _left(files, lost))
        assert isinstance(result, Reconstruction)
        found += result.data
    assert found == data
    with pytest.raises(IndexError):
        tgz.span(2)
    with pytest.raises(ValueError, match="component 1"):
        tgz.build(1, data)


def test_parts_of_another_tgz_are_refused() -> None:
    data = _data(3 * _CHUNK)
    other = part_files(_map(bytes(3 * _CHUNK)).build(0, bytes(3 * _CHUNK)))
    with pytest.raises(ContentRejected) as caught:
        _map(data).reconstruct(0, dict(enumerate(other)))
    assert caught.value.reason == "repair.beyond"
    assert caught.value.evidence["rejected"] == dict.fromkeys(range(3), "auraseal.lying-part")


def test_a_tgz_of_more_than_256_components_has_no_parts() -> None:
    for size in (256 * 244 * _CHUNK, 256 * 244 * _CHUNK + 1):
        grid = ChunkGrid(size)
        chunks = build_chunk_map(
            grid,
            grid.least_m,
            Sha256Digest(bytes(32)),
            bytes(32 * grid.n),
            bytes(32 * grid.parity_chunks(grid.least_m)),
        )
        if size % _CHUNK == 0:
            assert TgzComponents(chunks).count == 256
        else:
            with pytest.raises(ContentRejected) as caught:
                TgzComponents(chunks)
            assert caught.value.reason == "auraseal.too-large"


def test_parts_compare_by_what_they_hold() -> None:
    parts = build_component(b"x", component=0, division=0)
    assert isinstance(parts[0], Part)
    assert parts[0] == parse_part(part_files(parts)[0])
