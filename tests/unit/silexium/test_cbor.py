"""CBOR bodies: RFC 8949's own examples, strictness, and nothing but the declared error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed import limits, wire
from libreseed.errors import Malformed
from libreseed.silexium.cbor import parse_cbor, write_cbor

# RFC 8949, appendix A: those values that the profile has.
EXAMPLES = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-limits.JSON_INTEGER, limits.JSON_INTEGER) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(("value", "text"), EXAMPLES)
def test_the_specification_s_examples(value: object, text: str) -> None:
    data = bytes.fromhex(text)
    assert write_cbor(value) == data
    again = parse_cbor(data, max_bytes=100)
    assert (again, type(again)) == (value, type(value))


@given(values)
def test_a_value_survives_the_round_trip(value: wire.JsonValue) -> None:
    data = write_cbor(value)
    assert parse_cbor(data, max_bytes=len(data)) == value
    for cut in range(len(data)):
        with pytest.raises(Malformed):
            parse_cbor(data[:cut], max_bytes=len(data))
    with pytest.raises(Malformed):
        parse_cbor(data + b"\x00", max_bytes=len(data) + 1)


@given(st.binary(max_size=60))
def test_bytes_are_read_in_one_spelling_or_not_at_all(data: bytes) -> None:
    try:
        value = parse_cbor(data, max_bytes=60)
    except Malformed:
        return
    assert write_cbor(value) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1817", "encoding.not-canonical"),  # 23 in two bytes
        ("190018", "encoding.not-canonical"),
        ("1a00000100", "encoding.not-canonical"),
        ("1b0000000000000001", "encoding.not-canonical"),
        ("7801" + "61", "encoding.not-canonical"),  # a length of 1 in two bytes
        ("9f01ff", "encoding.not-canonical"),  # indefinite lengths
        ("bf616101ff", "encoding.not-canonical"),
        ("7f6161ff", "encoding.not-canonical"),
        ("a2616101616102", "encoding.duplicate-member"),
        ("a2616201616102", "encoding.duplicate-member"),  # not in order
        ("a10102", "encoding.type"),  # a number as a name
        ("4161", "encoding.type"),  # a byte string
        ("c074323031332d30332d32315432303a30343a30305a", "encoding.type"),  # a tag: a date
        ("f93c00", "encoding.type"),  # a float
        ("f7", "encoding.type"),  # undefined
        ("1b0020000000000000", "encoding.number"),  # 2^53
        ("3b001fffffffffffff", "encoding.number"),  # -2^53
        ("62c328", "encoding.not-utf8"),
        ("63eda080", "encoding.not-utf8"),  # a lone surrogate
        ("9b7fffffffffffffff", "encoding.not-json"),  # a list that claims to be endless
        ("bb7fffffffffffffff", "encoding.not-json"),
        ("7b7fffffffffffffff", "encoding.not-json"),
        ("81" * 40 + "00", "encoding.depth"),
        ("", "encoding.not-json"),
        ("ff", "encoding.not-canonical"),
        ("00" * 101, "encoding.too-large"),
    ],
)
def test_what_other_readers_take_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_cbor(bytes.fromhex(text), max_bytes=100)
    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [1.0, b"x", 2**53, {"a": 1.5}, {1: 2}, "\ud800", {"\ud800": 1}, (1, 2)])
def test_what_is_outside_the_profile_is_not_written(value: object) -> None:
    with pytest.raises(Malformed):
        write_cbor(value)
