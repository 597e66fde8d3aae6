"""Section 3.1: texts of hashes, keys, signatures, names, versions; the JSON profile; strict Ed25519."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from libreseed import ids, limits, wire
from libreseed.errors import Malformed
from libreseed.keys import ed25519
from tests.vectors_support import Row, dispatch, document, kind_of, rows

_PARSERS = {
    "sha256": ids.Sha256Digest.parse,
    "blake3": ids.Blake3Digest.parse,
    "key": ids.PublicKey.parse,
    "signature": ids.Signature.parse,
    "name": ids.PackageName,
    "version": ids.Version,
}


@pytest.mark.parametrize("row", rows("encodings.json"))
def test_encodings_vector(row: Row) -> None:
    parse = _PARSERS[kind_of(row)]
    if row["expect"] == "accept":
        assert str(parse(row["text"])) == row["text"]
    else:
        with pytest.raises(Malformed):
            parse(row["text"])


def _parse(row: Row) -> None:
    data = document(row)
    if row["expect"] == "accept":
        assert wire.canonical(wire.parse(data, max_bytes=10**6)) == data
    else:
        with pytest.raises(Malformed):
            wire.parse(data, max_bytes=10**6)


def _write(row: Row) -> None:
    assert wire.canonical(row["value"]).hex() == row["canonical_hex"]


@pytest.mark.parametrize("row", rows("jcs.json"))
def test_jcs_vector(row: Row) -> None:
    dispatch(row, {"parse": _parse, "write": _write})


def _verify(row: Row) -> None:
    def check() -> None:
        ed25519.verify(
            ids.PublicKey(bytes.fromhex(row["public"])),
            bytes.fromhex(row["message"]),
            ids.Signature(bytes.fromhex(row["signature"])),
        )

    if row["expect"] == "accept":
        check()
    else:
        with pytest.raises(Malformed):
            check()


def _domain(row: Row) -> None:
    assert ed25519.domain_message(row["domain"], row["fields"]).hex() == row["message"]
    key = ed25519.PrivateKey(bytes.fromhex(row["seed"]))
    assert key.sign_document(row["domain"], row["fields"]).raw.hex() == row["signature"]


@pytest.mark.parametrize("row", rows("signatures.json"))
def test_signatures_vector(row: Row) -> None:
    dispatch(row, {"verify": _verify, "domain": _domain})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-limits.JSON_INTEGER, limits.JSON_INTEGER) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_writer_agrees_with_the_rfc8785_package(value: wire.JsonValue) -> None:
    assert wire.canonical(value) == rfc8785.dumps(value)
    assert wire.parse(wire.canonical(value), max_bytes=10**6) == value


@given(st.binary(max_size=60))
def test_only_malformed_escapes_the_reader(data: bytes) -> None:
    try:
        value = wire.parse(data, max_bytes=50)
    except Malformed:
        return
    assert wire.canonical(value) == data
