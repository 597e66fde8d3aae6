"""``name.index.dht.json``: every changed byte or member is refused as an index, exit 20."""

from __future__ import annotations

import pytest

from libreseed import wire
from libreseed.dht.records import build_index, parse_index
from libreseed.errors import RecordRejected
from libreseed.ids import Blake3Digest, PackageName, Sha256Digest, TorrentV2Hash, Version
from libreseed.package.minimal import MinimalManifest
from tests.release_support import KEY, TIMESTAMP

NAME = PackageName("hello")


def _minimal(version: str) -> MinimalManifest:
    return MinimalManifest.build(
        name=NAME,
        version=Version(version),
        infohash=Sha256Digest(bytes(32)),
        size=1,
        chunks=Blake3Digest(bytes(32)),
        torrent=TorrentV2Hash(bytes(32)),
        timestamp=TIMESTAMP,
        key=KEY,
    )


INDEX = build_index(NAME, [_minimal("1.0.0"), _minimal("1.1.0")], KEY)


def _reason(data: bytes) -> str:
    with pytest.raises(RecordRejected) as caught:
        parse_index(data, KEY.public)
    assert caught.value.exit_code == 20
    return caught.value.reason


def test_the_index_itself_is_accepted() -> None:
    assert [str(version) for version in parse_index(INDEX, KEY.public).versions] == ["1.1.0", "1.0.0"]


def test_every_flipped_cut_or_added_byte() -> None:
    for at in range(len(INDEX)):
        assert _reason(INDEX[:at] + bytes([INDEX[at] ^ (1 << at % 8)]) + INDEX[at + 1 :]).startswith("index.")
        assert _reason(INDEX[:at]).startswith("index.")
        assert _reason(INDEX[:at] + b" " + INDEX[at:]).startswith("index.")


@pytest.mark.parametrize("member", ["salt", "seq", "sig", "v"])
def test_every_member_changed_missing_or_of_another_type(member: str) -> None:
    members = wire.parse(INDEX, max_bytes=4096)
    assert _reason(wire.canonical({n: v for n, v in members.items() if n != member})) == "index.missing-member"
    assert _reason(wire.canonical({**members, "extra": 1})) == "index.unknown-member"
    for other in (None, [], "x", -1, 2**53 - 1):
        assert _reason(wire.canonical({**members, member: other})).startswith("index.")


def test_the_versions_cannot_be_reordered_or_extended() -> None:
    members = wire.parse(INDEX, max_bytes=4096)
    for versions in (["1.0.0", "1.1.0"], ["2.0.0", "1.1.0", "1.0.0"], ["1.1.0"], []):
        v = wire.canonical({"name": "hello", "protocol": "libreseed-index-v1", "versions": versions}).decode()
        assert _reason(wire.canonical({**members, "v": v})) == "index.signature"
