"""Section 3.8: the BEP 44 item of a release, its salt, target and signing buffer, and the record files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pytest

from libreseed import bencode
from libreseed.dht import records
from libreseed.dht.items import SignedItem, sign_item, signing_buffer
from libreseed.errors import Malformed, RecordRejected
from libreseed.ids import PackageName, PublicKey, ReleaseId, Signature, Version
from libreseed.keys.ed25519 import PrivateKey
from tests.vectors_support import Row, dispatch, rows


@dataclass(frozen=True)
class Minimal:
    """What the record functions read of a minimal manifest, without its own checks."""

    data: bytes
    release: ReleaseId
    pubkey: PublicKey
    timestamp: int


def _minimal(text: str) -> Minimal:
    fields = json.loads(text)
    release = ReleaseId(PackageName(fields["name"]), Version(fields["version"]))
    return Minimal(text.encode(), release, PublicKey.parse(fields["pubkey"]), fields["timestamp"])


def _salt(row: Row) -> None:
    release = ReleaseId(PackageName(row["name"]), Version(row["version"]))
    assert records.manifest_salt(release).decode() == row["salt"]


def _record(row: Row) -> None:
    minimal = _minimal(row["minimal"])
    if row["expect"] == "reject":
        with pytest.raises(RecordRejected) as caught:
            records.parse_dht_record(row["text"].encode(), minimal)
        assert caught.value.reason.startswith("dhtrecord.")
        return
    item = records.parse_dht_record(row["text"].encode(), minimal)
    assert signing_buffer(item.salt, item.seq, item.value).hex() == row["buffer"]
    assert item.target.hex() == row["target"]
    assert records.build_dht_record(minimal, PrivateKey(bytes.fromhex(row["seed"]))) == row["text"].encode()


@pytest.mark.parametrize("row", rows("dht-record.json"))
def test_dht_record_vector(row: Row) -> None:
    dispatch(row, {"salt": _salt, "record": _record})


KEY = PrivateKey(b"\x07" * 32)


def _release(version: str, timestamp: int, name: str = "tool") -> Minimal:
    return Minimal(b"{}", ReleaseId(PackageName(name), Version(version)), KEY.public, timestamp)


def test_signing_buffer_of_bep_44_without_a_salt_has_no_salt_part() -> None:
    assert signing_buffer(b"", 1, b"12:Hello World!") == b"3:seqi1e1:v12:Hello World!"
    assert signing_buffer(b"foobar", 1, b"12:Hello World!") == b"4:salt6:foobar3:seqi1e1:v12:Hello World!"


def test_item_of_the_bep_44_test_vectors() -> None:
    key = PublicKey(bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"))
    salted = Signature(
        bytes.fromhex(
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
            "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
        )
    )
    item = SignedItem(key, b"foobar", 1, b"12:Hello World!", salted)
    assert item.target.hex() == "411eba73b6f087ca51a3795d9c8c938d365e32c1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"salt": b"n:x"}, "signature.invalid"),
        ({"seq": 8}, "signature.invalid"),
        ({"value": b"1:b"}, "signature.invalid"),
        ({"salt": b"s" * 65}, "encoding.too-large"),
        ({"seq": -1}, "encoding.number"),
        ({"seq": 2**63}, "encoding.number"),
        ({"value": b"999:" + b"v" * 999}, "encoding.too-large"),
        ({"value": b"1:ab"}, "encoding.bencode"),
    ],
)
def test_an_item_that_does_not_hold_cannot_be_made(change: dict[str, object], reason: str) -> None:
    good = sign_item(KEY, b"m:x", 7, b"1:a")
    fields = {"pubkey": good.pubkey, "salt": good.salt, "seq": 7, "value": good.value, "signature": good.signature}
    with pytest.raises(Malformed) as caught:
        SignedItem(**(fields | change))  # type: ignore[arg-type]  # the changes are of the fields' types
    assert caught.value.reason == reason


def test_index_orders_versions_by_precedence_and_round_trips() -> None:
    data = records.build_index(
        PackageName("tool"), [_release(v, t) for v, t in (("1.9.0", 5), ("1.10.0", 9), ("2.0.0-rc.1", 7))], KEY
    )
    index = records.parse_index(data, KEY.public)
    assert [str(version) for version in index.versions] == ["2.0.0-rc.1", "1.10.0", "1.9.0"]
    assert str(index.newest) == "1.10.0"
    assert (index.item.seq, index.item.salt) == (9, b"i:tool")
    assert set(json.loads(data)) == {"salt", "seq", "sig", "v"}


def test_index_keeps_as_many_of_the_newest_as_fit_1000_bytes() -> None:
    data = records.build_index(PackageName("tool"), [_release(f"1.{n}.0", n + 1) for n in range(500)], KEY)
    index = records.parse_index(data, KEY.public)
    assert len(index.item.value) <= 1000 < len(index.item.value) + len('"1.000.0",')
    assert str(index.newest) == "1.499.0"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"name":"tool","protocol":"libreseed-index-v1","versions":[]}', "index.versions"),
        ('{"name":"tool","protocol":"libreseed-index-v1","versions":["1.0.0","2.0.0"]}', "index.versions"),
        ('{"name":"tool","protocol":"libreseed-index-v1","versions":["1.0.0","1.0.0"]}', "index.versions"),
        ('{"name":"tool","protocol":"libreseed-index-v1","versions":["1.0"]}', "index.version"),
        ('{"name":"tool","protocol":"libreseed-index-v1","versions":"1.0.0"}', "index.type"),
        ('{"name":"tool","protocol":"libreseed-index-v2","versions":["1.0.0"]}', "index.type"),
        ('{"name":"other","protocol":"libreseed-index-v1","versions":["1.0.0"]}', "index.name"),
        ('{"name":"tool","protocol":"libreseed-index-v1","versions":["1.0.0"],"x":1}', "index.unknown-member"),
        ('{"name":"tool", "protocol":"libreseed-index-v1","versions":["1.0.0"]}', "index.not-canonical"),
    ],
)
def test_a_signed_index_that_breaks_a_rule_is_refused(text: str, reason: str) -> None:
    item = sign_item(KEY, b"i:tool", 3, bencode.encode(text.encode()))
    with pytest.raises(RecordRejected) as caught:
        records.index_from_item(item)
    assert caught.value.reason == reason


def test_an_index_file_under_another_key_is_refused() -> None:
    data = records.build_index(PackageName("tool"), [_release("1.0.0", 5)], KEY)
    with pytest.raises(RecordRejected) as caught:
        records.parse_index(data, PrivateKey(b"\x08" * 32).public)
    assert caught.value.reason == "index.signature"


def test_index_of_another_name_or_key_is_not_built() -> None:
    with pytest.raises(RecordRejected) as caught:
        records.build_index(PackageName("other"), [_release("1.0.0", 5)], KEY)
    assert caught.value.reason == "index.name"
    with pytest.raises(RecordRejected) as caught:
        records.build_index(PackageName("tool"), [_release("1.0.0", 5)], PrivateKey(b"\x08" * 32))
    assert caught.value.reason == "index.key"


def test_salts_of_the_longest_names_fit() -> None:
    assert len(records.index_salt(PackageName("n" * 64))) == 64
    assert records.index_salt(PackageName("n" * 62)) == b"i:" + b"n" * 62


def test_name_discovery_target_is_sha1_of_the_raw_sha256() -> None:
    digest = hashlib.sha256(b"libreseed:name-index:tool").digest()
    assert records.name_discovery_target(PackageName("tool")) == hashlib.sha1(digest).digest()
