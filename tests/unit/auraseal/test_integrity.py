"""Section 3.9: integrity attributes, the integrity manifest, names of services. Everything fails closed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed import limits, wire
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import IntegrityEntry, build_integrity_manifest, parse_integrity_manifest
from libreseed.auraseal.service_name import ServiceName
from libreseed.errors import ContentRejected
from tests.vectors_support import Row, dispatch, rows


def _check(row: Row) -> None:
    files = {name: None if row[name] is None else bytes.fromhex(row[name]) for name in ("primary", "recovery")}
    if row["expect"] == "reject":
        with pytest.raises(ContentRejected) as caught:
            Integrity.parse(row["attribute"]).choose(**files)
        assert caught.value.reason in {"auraseal.integrity", "auraseal.integrity-attribute"}
        return
    attribute = Integrity.parse(row["attribute"])
    assert str(attribute) == row["attribute"]
    chosen = attribute.choose(**files)
    assert chosen.data == files[row["uses"]]
    assert chosen.from_recovery == (row["uses"] == "recovery")


@pytest.mark.parametrize("row", rows("integrity.json"))
def test_integrity_vector(row: Row) -> None:
    dispatch(row, {"check": _check})


@given(st.binary(max_size=40), st.none() | st.binary(max_size=40))
def test_an_attribute_names_its_own_files_and_no_others(primary: bytes, recovery: bytes | None) -> None:
    attribute = Integrity.of(primary, recovery)
    assert Integrity.parse(str(attribute)) == attribute
    assert attribute.choose(primary, None).data == primary
    if recovery is not None:
        assert attribute.choose(primary + b"x", recovery).from_recovery
    for wrong in (primary + b"x", None):
        with pytest.raises(ContentRejected) as caught:
            attribute.choose(wrong, None)
        assert caught.value.reason == "auraseal.integrity"


def _damaged(at: int) -> str:
    text = str(Integrity.of(b"a", b"b"))
    at %= len(text)
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]


@given(st.text(max_size=120) | st.integers(0, 400).map(_damaged))
def test_only_the_declared_error_escapes_the_attribute_reader(text: str) -> None:
    try:
        attribute = Integrity.parse(text)
    except ContentRejected as error:
        assert error.reason == "auraseal.integrity-attribute"
    else:
        assert str(attribute) == text


@pytest.mark.parametrize("value", [None, 3, b"auraseal-sha512-", ["auraseal-sha512-"]])
def test_what_is_no_text_is_no_attribute(value: object) -> None:
    with pytest.raises(ContentRejected) as caught:
        Integrity.parse(value)
    assert caught.value.reason == "auraseal.integrity-attribute"


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_digest_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ContentRejected):
        Integrity(bytes(size))
    with pytest.raises(ContentRejected):
        Integrity(bytes(64), bytes(size))


# --- manifest --------------------------------------------------------------------------------------------------------

_ONE = IntegrityEntry(Integrity.of(b"one"), 3)
_TWO = IntegrityEntry(Integrity.of(b"two", b"zwei"), 3, 2, ("js/two.js", "js/two.part.1.js"))
_ENTRIES = {"js/one.js": _ONE, "js/two.js": _TWO}


def test_a_manifest_is_read_as_it_was_written() -> None:
    data = build_integrity_manifest(_ENTRIES)
    assert parse_integrity_manifest(data) == _ENTRIES
    assert json.loads(data)["js/two.js"] == {
        "integrity": str(_TWO.integrity),
        "parts": 2,
        "recovery": {"primary": "js/two.js", "secondary": "js/two.part.1.js"},
        "size": 3,
    }
    assert parse_integrity_manifest(build_integrity_manifest({})) == {}


def _change(change: Any) -> bytes:
    document = json.loads(build_integrity_manifest(_ENTRIES))
    change(document)
    return wire.canonical(document)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["js/one.js"].update(extra=1), "auraseal.unknown-member"),
        (lambda d: d["js/one.js"].pop("size"), "auraseal.missing-member"),
        (lambda d: d["js/one.js"].update(size=-1), "auraseal.range"),
        (lambda d: d["js/one.js"].update(size=True), "auraseal.type"),
        (lambda d: d["js/one.js"].update(size="3"), "auraseal.type"),
        (lambda d: d["js/one.js"].update(parts=0), "auraseal.range"),
        (lambda d: d["js/one.js"].update(parts=257), "auraseal.range"),
        (lambda d: d["js/one.js"].update(integrity="sha512-AAAA"), "auraseal.integrity-attribute"),
        (lambda d: d["js/one.js"].update(recovery={"primary": "a", "secondary": "b"}), "auraseal.integrity-recovery"),
        (lambda d: d["js/two.js"].pop("recovery"), "auraseal.integrity-recovery"),
        (lambda d: d["js/two.js"]["recovery"].pop("secondary"), "auraseal.missing-member"),
        (lambda d: d["js/two.js"]["recovery"].update(secondary="../x"), "auraseal.path"),
        (lambda d: d["js/two.js"]["recovery"].update(secondary="a" * 256), "auraseal.path-bounds"),
        (lambda d: d["js/two.js"]["recovery"].update(secondary=7), "auraseal.type"),
        (lambda d: d.update({"../one.js": d["js/one.js"]}), "auraseal.path"),
        (lambda d: d.update({"/one.js": d["js/one.js"]}), "auraseal.path"),
        (lambda d: d.update({"JS/one.js": d["js/one.js"]}), "auraseal.collision"),
        (lambda d: d.update({"js/one.js/x": d["js/one.js"]}), "auraseal.file-and-folder"),
        (lambda d: d.update({"x": []}), "auraseal.type"),
    ],
)
def test_a_wrong_manifest_is_refused_for_its_own_reason(change: Any, reason: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        parse_integrity_manifest(_change(change))
    assert caught.value.reason == reason


@pytest.mark.parametrize("data", [b"", b"[]", b"{ }", b'{"a":1}', b'{"a":1,"a":1}', b"\xff", b"null"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ContentRejected) as caught:
        parse_integrity_manifest(data)
    assert caught.value.reason.startswith("auraseal.")


def test_too_much_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_integrity_manifest(_ENTRIES)
    monkeypatch.setattr(limits, "INTEGRITY_MANIFEST_BYTES", len(data) - 1)
    with pytest.raises(ContentRejected) as caught:
        parse_integrity_manifest(data)
    assert caught.value.reason == "auraseal.too-large"
    with pytest.raises(ContentRejected) as caught:
        build_integrity_manifest(_ENTRIES)
    assert caught.value.reason == "auraseal.too-large"
    monkeypatch.undo()
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES", 1)
    with pytest.raises(ContentRejected) as caught:
        parse_integrity_manifest(data)
    assert caught.value.reason == "auraseal.too-large"


@given(st.binary(max_size=80), st.integers(0, 600), st.integers(1, 255))
def test_only_the_declared_error_escapes_the_manifest_reader(noise: bytes, at: int, flip: int) -> None:
    good = bytearray(build_integrity_manifest(_ENTRIES))
    good[at % len(good)] ^= flip
    for data in (noise, bytes(good)):
        try:
            entries = parse_integrity_manifest(data)
        except ContentRejected as error:
            assert error.reason.startswith("auraseal.")
        else:
            assert build_integrity_manifest(entries) == data


# --- names of services -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "diram.compress.obinexus.computing.memory.uk.org",
        "auraseal.verify.obinexus.security.authentication.us.org",
        "phenotrie.allocate.obinexus.systems.kernel.ng.org",
        f"{'a' * 63}.b-c.obinexus.0.9.de.org",
    ],
)
def test_a_service_name_is_read_as_it_is_written(text: str) -> None:
    assert str(ServiceName.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "diram",
        "diram.compress.obinexus.computing.memory.uk.com",
        "diram.compress.obinexus.computing.memory.uk.org.",
        "diram.compress.obinexuss.computing.memory.uk.org",
        "diram.compress.computing.memory.uk.org",
        "a.diram.compress.obinexus.computing.memory.uk.org",
        "Diram.compress.obinexus.computing.memory.uk.org",
        "diram..obinexus.computing.memory.uk.org",
        "-a.compress.obinexus.computing.memory.uk.org",
        "a-.compress.obinexus.computing.memory.uk.org",
        "a_b.compress.obinexus.computing.memory.uk.org",
        f"{'a' * 64}.compress.obinexus.computing.memory.uk.org",
        "diram.compress.obinexus.computing.memory.u1.org",
        "diram.compress.obinexus.computing.memory.gbr.org",
        "diram.compress.obinexus.computing.memory.uk.org\n",
        " diram.compress.obinexus.computing.memory.uk.org",
        "dirám.compress.obinexus.computing.memory.uk.org",
        "diram.compress.obinexus.computing.m٣mory.uk.org",
        ".".join(["a" * 63, "b" * 63, "obinexus", "c" * 63, "d" * 63, "uk", "org"]),
        None,
        7,
    ],
)
def test_what_is_no_service_name_is_refused(text: object) -> None:
    with pytest.raises(ContentRejected) as caught:
        ServiceName.parse(text)
    assert caught.value.reason == "auraseal.service-name"


def test_the_parts_of_a_name_are_named() -> None:
    name = ServiceName.parse("diram.package.obinexus.computing.memory.uk.org")
    assert name == ServiceName("diram", "package", "computing", "memory", "uk")
    assert hashlib.sha256(str(name).encode()).digest()  # it is plain ASCII
