"""Section 3.9: part files, their header that heals itself, and every single wrong byte."""

from __future__ import annotations

import base64
import hashlib
import random
import struct
import zlib
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reedsolo import RSCodec

from libreseed import limits
from libreseed.auraseal.component import build_component
from libreseed.auraseal.header_code import recovery_bits
from libreseed.auraseal.part import ComponentShape, Part, parse_part, parse_parts, part_files
from libreseed.errors import ContentRejected
from tests.vectors_support import Row, dispatch, rows

_REASONS = {
    "60 wrong header bytes": {"auraseal.part-header", "auraseal.part-checksum"},
    "byte behind the recovery bits": {"auraseal.part-checksum"},
    "payload bit": {"auraseal.part-checksum"},
    "SHA-256 in the footer": {"auraseal.part-checksum"},
    "CRC-32 in the footer": {"auraseal.part-checksum"},
    "padding of the footer": {"auraseal.part-footer"},
    "coherence below 0.954": {"auraseal.part-footer"},
    "empty": {"auraseal.part-length"},
    "header alone": {"auraseal.part-length"},
    "magic": {"auraseal.part-fields"},
    "version 2": {"auraseal.part-fields"},
    "unknown flag": {"auraseal.part-fields"},
    "division 5": {"auraseal.part-fields"},
    "reserved byte": {"auraseal.part-fields"},
    "full size nine more": {"auraseal.huffman-payload"},
    "full size forty less": {"auraseal.huffman-payload"},
    "payload one byte longer": {"auraseal.huffman-payload"},
    "table with one code too many": {"auraseal.huffman-table"},
}


def _part(row: Row) -> None:
    file = base64.b64decode(row["file"])
    if row["expect"] == "reject":
        with pytest.raises(ContentRejected) as caught:
            parse_part(file)
        assert caught.value.reason.startswith("auraseal.")
        assert caught.value.reason in _REASONS.get(row["defect"], {caught.value.reason})
        return
    part = parse_part(file)
    (again,) = part_files([part])
    if row["expect"] == "heal":
        assert hashlib.sha256(again).hexdigest() == row["healed_sha256"]
        assert sum(a != b for a, b in zip(file, again, strict=True)) == row["wrong_bytes"]
        assert part.healed
        return
    assert again == file
    assert not part.healed
    assert (part.number, part.shape.total_parts, part.shape.data_parts, part.is_parity) == (
        row["part_number"],
        row["total_parts"],
        row["data_parts"],
        row["parity"],
    )
    assert (part.shape.component, part.shape.division) == (row["component"], row["division"])
    assert len(part.payload) == row["payload_length"]
    assert hashlib.sha256(part.share).hexdigest() == row["share_sha256"]
    if not part.is_parity:
        assert part.full_size == row["full_size"] == len(part.data)
        assert hashlib.sha256(part.data).hexdigest() == row["data_sha256"]
        assert (part.head[8:] == bytes(128)) == row["raw"]


@pytest.mark.parametrize("row", rows("part-file.json"))
def test_part_file_vector(row: Row) -> None:
    dispatch(row, {"part": _part})


@lru_cache(maxsize=1)
def _parts() -> list[Part]:
    """A Huffman part, a short one, a parity part; and parts stored raw."""
    text = b"the quick brown fox jumps over the lazy dog, again and again; " * 110
    noise = hashlib.shake_256(b"noise").digest(700)
    return [
        *build_component(text[:6700], component=7, division=2),
        build_component(noise, component=8, division=4)[0],
    ]


def test_the_parts_below_are_what_they_are_taken_for() -> None:
    first, huffman, parity, raw = _parts()
    assert len(first.payload) < len(first.data)
    assert len(huffman.payload) < len(huffman.data) < limits.CHUNK_BYTES
    assert parity.is_parity
    assert raw.payload == raw.data


_SHAPE = ComponentShape(7, 2, 2, 1)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=144, max_size=144), min_size=1, max_size=4))
def test_recovery_bits_are_those_of_reedsolo(headers: list[bytes]) -> None:
    assert recovery_bits(headers) == [bytes(RSCodec(64).encode(header))[144:] for header in headers]


@pytest.mark.parametrize("which", [1, 2, 3], ids=["huffman", "parity", "raw"])
def test_each_wrong_byte_is_healed_or_rejected(which: int) -> None:
    (file,) = part_files([_parts()[which]])
    damaged = []
    for at in range(len(file)):
        flip = 1 << at % 8 if at % 3 else 0xFF
        damaged.append(file[:at] + bytes([file[at] ^ flip]) + file[at + 1 :])
    results = parse_parts(damaged)
    for at, result in enumerate(results):
        if at < 208:
            assert isinstance(result, Part)
            assert part_files([result]) == [file]
            assert result.healed
        else:
            assert isinstance(result, ContentRejected)
            expected = "auraseal.part-footer" if at >= len(file) - 116 else "auraseal.part-checksum"
            assert result.reason == expected, at


def test_siblings_put_right_what_lies_behind_the_recovery_bits() -> None:
    (file,) = part_files([_parts()[1]])
    damaged = [file[:at] + bytes([file[at] ^ 0x55]) + file[at + 1 :] for at in range(208, 256)]
    assert {error.reason for error in parse_parts(damaged) if isinstance(error, ContentRejected)} == {
        "auraseal.part-checksum"
    }
    for part in parse_parts(damaged, _SHAPE):
        assert isinstance(part, Part)
        assert part.adopted
        assert part.healed
        assert part_files([part]) == [file]


def test_wrong_siblings_do_not_make_a_damaged_part_good() -> None:
    (file,) = part_files([_parts()[1]])
    damaged = file[:208] + b"\x09" + file[209:]
    with pytest.raises(ContentRejected) as caught:
        parse_part(damaged, ComponentShape(9, 2, 2, 1))
    assert caught.value.reason == "auraseal.part-checksum"
    with pytest.raises(ContentRejected) as caught:
        parse_part(file, ComponentShape(9, 2, 2, 1))
    assert caught.value.reason == "auraseal.siblings"


@pytest.mark.parametrize("wrong", [1, 8, 31, 32])
def test_up_to_32_wrong_header_bytes_are_healed(wrong: int) -> None:
    draw = random.Random(wrong)
    (file,) = part_files([_parts()[1]])
    damaged = bytearray(file)
    for at in draw.sample(range(208), wrong):
        damaged[at] ^= draw.randrange(1, 256)
    assert part_files([parse_part(bytes(damaged))]) == [file]


@pytest.mark.parametrize("wrong", [33, 40, 100, 208])
def test_more_wrong_header_bytes_are_rejected(wrong: int) -> None:
    draw = random.Random(wrong)
    (file,) = part_files([_parts()[1]])
    damaged = bytearray(file)
    for at in draw.sample(range(208), wrong):
        damaged[at] ^= draw.randrange(1, 256)
    with pytest.raises(ContentRejected) as caught:
        parse_part(bytes(damaged))
    assert caught.value.reason in {"auraseal.part-header", "auraseal.part-checksum"}


def _forge(file: bytes, at: int, new: bytes) -> bytes:
    """``file`` with other header bytes, right recovery bits and right checksums: only the fields are wrong."""
    header = bytearray(file[:256])
    header[at : at + len(new)] = new
    header[144:208] = recovery_bits([bytes(header)])[0]
    body = bytes(header) + file[256:-128]
    sums = hashlib.sha256(body).digest()[:8] + struct.pack("<I", zlib.crc32(body))
    return body + sums + struct.pack("<f", 1.0) + bytes(112)


@pytest.mark.parametrize(
    ("which", "at", "new", "reason"),
    [
        (1, 0, b"\x01", "auraseal.part-fields"),  # magic
        (1, 4, b"\x05", "auraseal.part-fields"),  # number beyond the total
        (1, 5, b"\x02", "auraseal.part-fields"),  # no parity at all
        (1, 5, b"\x28", "auraseal.part-fields"),  # 38 parity parts
        (1, 6, b"\x02", "auraseal.part-fields"),  # version
        (1, 7, b"\x01", "auraseal.part-fields"),  # parity flag on data
        (2, 7, b"\x00", "auraseal.part-fields"),  # none on parity
        (1, 8, b"\x00" * 8, "auraseal.part-fields"),  # an empty last part
        (1, 8, b"\xff" * 8, "auraseal.part-fields"),  # 2**64 - 1 bytes
        (0, 8, b"\x01", "auraseal.part-fields"),  # a short part that is not the last
        (1, 16, bytes(128), "auraseal.part-fields"),  # raw, but of another size
        (3, 16, b"\x01", "auraseal.huffman-payload"),  # one symbol of length 1, but noise
        (1, 209, b"\x05", "auraseal.part-fields"),  # division
        (1, 210, b"\x01\x00", "auraseal.part-fields"),  # payload length
        (1, 212, b"\x00\x00", "auraseal.part-fields"),  # data parts
        (1, 212, b"\xff\xff", "auraseal.part-fields"),
        (1, 255, b"\x01", "auraseal.part-fields"),  # reserved
    ],
)
def test_a_forged_field_is_rejected(which: int, at: int, new: bytes, reason: str) -> None:
    (file,) = part_files([_parts()[which]])
    forged = _forge(file, at, new)
    assert forged != file
    with pytest.raises(ContentRejected) as caught:
        parse_part(forged)
    assert caught.value.reason == reason


def test_total_of_256_is_written_as_zero() -> None:
    parts = build_component(bytes(244 * limits.CHUNK_BYTES), component=0, division=0)
    first, last = part_files([parts[0], parts[-1]])
    assert (len(parts), first[5], last[4]) == (256, 0, 255)
    assert parse_part(last) == parts[-1]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_only_the_declared_error_escapes_the_reader(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(part_files(_parts()))))
    kind = data.draw(st.sampled_from(["cut", "grow", "fields", "noise"]))
    if kind == "cut":
        file = file[: data.draw(st.integers(0, len(file)))]
    elif kind == "grow":
        file += data.draw(st.binary(min_size=1, max_size=200))
    elif kind == "noise":
        file = bytearray(data.draw(st.binary(max_size=700)))
    else:
        at = data.draw(st.integers(0, 255))
        file = bytearray(_forge(bytes(file), at, data.draw(st.binary(min_size=1, max_size=8))[: 256 - at]))
    try:
        part = parse_part(bytes(file))
    except ContentRejected as error:
        assert error.reason.startswith("auraseal.")
        return
    assert part_files([part]) == [bytes(file)] or part.healed
