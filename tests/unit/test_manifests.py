"""Sections 3.2, 3.3 and 3.5: paths, SRC, contentHash, full and minimal manifest against the vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from libreseed import wire
from libreseed.errors import ContentRejected, Malformed, RecordRejected
from libreseed.ids import Blake3Digest, PackageName, Sha256Digest, TorrentV2Hash, Version
from libreseed.keys.ed25519 import MANIFEST_DOMAIN, MINIMAL_DOMAIN, PrivateKey
from libreseed.package.content import content_hash
from libreseed.package.manifest import FullManifest, parse_manifest
from libreseed.package.minimal import MinimalManifest, check_not_ahead, parse_minimal
from libreseed.package.paths import check_path, check_tree, path_key
from libreseed.package.src_index import SrcLine, build_src, check_src, parse_src, src_size
from tests.vectors_support import Row, dispatch, document, rows


def _contents(row: Row) -> dict[str, bytes]:
    return {path: bytes.fromhex(entry["hex"]) for path, entry in row["tree"].items()}


def _digests(contents: dict[str, bytes]) -> dict[str, Sha256Digest]:
    return {path: Sha256Digest(hashlib.sha256(data).digest()) for path, data in contents.items()}


def _tree(row: Row) -> None:
    contents = _contents(row)
    src = contents.pop("SRC")
    digests = {path: Blake3Digest(blake3(data).digest()) for path, data in contents.items()}
    lines = [SrcLine(path, len(contents[path]), digest) for path, digest in digests.items()]
    assert build_src(lines) == src == row["src"].encode()
    sizes = {path: len(data) for path, data in contents.items()}
    assert src_size(sizes) == len(src)
    assert {line.path: line.blake3 for line in parse_src(src)} == digests
    check_src(src, sizes, digests)
    files = _digests({**contents, "SRC": src})
    assert {path: str(digest) for path, digest in files.items()} == row["files"]
    assert sorted(files, key=path_key) == row["order"]
    assert str(content_hash(files)) == row["contentHash"]


def _hashes(row: Row) -> None:
    files = {path: Sha256Digest.parse(text) for path, text in row["files"].items()}
    assert str(content_hash(files)) == row["contentHash"]
    assert sorted(files, key=path_key) == row.get("order", list(files))


def _paths(row: Row) -> None:
    def check() -> None:
        for path in row["paths"]:
            check_path(path, "manifest")
        check_tree(row["paths"], "manifest")

    if row["expect"] == "accept":
        check()
    else:
        with pytest.raises(ContentRejected):
            check()


@pytest.mark.parametrize("row", rows("content-hash.json"))
def test_content_hash_vector(row: Row) -> None:
    dispatch(row, {"tree": _tree, "hashes": _hashes, "paths": _paths})


def _build_full(row: Row) -> None:
    contents = _contents(row)
    optional = dict(row["optional"])
    dependencies = optional.pop("dependencies", None)
    built = FullManifest.build(
        name=PackageName(row["name"]),
        version=Version(row["version"]),
        files=_digests(contents),
        sizes={path: len(data) for path, data in contents.items()},
        executables=[path for path, entry in row["tree"].items() if entry["executable"]],
        timestamp=row["timestamp"],
        key=PrivateKey(bytes.fromhex(row["seed"])),
        texts=optional,
        dependencies=dependencies,
    )
    assert built.data == document(row)
    assert parse_manifest(document(row)) == built
    assert built.texts == optional
    assert built.dependencies == (dependencies or {})


def _verify_full(row: Row) -> None:
    if row["expect"] == "accept":
        assert parse_manifest(document(row)).data == document(row)
    else:
        with pytest.raises(ContentRejected) as caught:
            parse_manifest(document(row))
        assert caught.value.exit_code == 30


@pytest.mark.parametrize("row", rows("full-manifest.json"))
def test_full_manifest_vector(row: Row) -> None:
    dispatch(row, {"build": _build_full, "verify": _verify_full})


def _build_minimal(row: Row) -> None:
    built = MinimalManifest.build(
        name=PackageName(row["name"]),
        version=Version(row["version"]),
        infohash=Sha256Digest.parse(row["infohash"]),
        size=row["size"],
        chunks=Blake3Digest.parse(row["chunks"]),
        torrent=TorrentV2Hash.parse(row["torrent"]),
        timestamp=row["timestamp"],
        key=PrivateKey(bytes.fromhex(row["seed"])),
    )
    assert built.data == document(row)
    assert parse_minimal(document(row)) == built


def _verify_minimal(row: Row) -> None:
    if row["expect"] == "accept":
        assert parse_minimal(document(row)).data == document(row)
    else:
        with pytest.raises(RecordRejected) as caught:
            parse_minimal(document(row))
        assert caught.value.exit_code == 20


@pytest.mark.parametrize("row", rows("minimal-manifest.json"))
def test_minimal_manifest_vector(row: Row) -> None:
    dispatch(row, {"build": _build_minimal, "verify": _verify_minimal})


_REASONS = {
    "003": "manifest.seal",
    "009": "manifest.signature",
    "010": "manifest.seal",
    "012": "manifest.signature",
    "013": "manifest.content-hash",
    "014": "manifest.protocol",
    "015": "manifest.sizes",
    "016": "manifest.files",
    "017": "manifest.files",
    "018": "manifest.executables",
    "019": "manifest.executables",
    "020": "manifest.range",
    "021": "manifest.type",
    "023": "manifest.hash-text",
    "024": "manifest.path",
    "025": "manifest.collision",
    "026": "manifest.name",
    "027": "manifest.version",
    "030": "manifest.missing-member",
    "033": "manifest.unknown-member",
    "035": "manifest.not-canonical",
    "037": "manifest.duplicate-member",
}
_PUBLIC_COPY = Path(__file__).parents[1] / "vectors" / "full-manifest.json"


@pytest.mark.parametrize("number", _REASONS)
def test_each_defect_has_its_own_reason(number: str) -> None:
    (row,) = [r for r in json.loads(_PUBLIC_COPY.read_text("utf-8"))["vectors"] if r["id"].startswith(number)]
    with pytest.raises(ContentRejected) as caught:
        parse_manifest(document(row))
    assert caught.value.reason == _REASONS[number]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**53) | st.text(max_size=8) | st.just("ed25519:" + "A" * 43 + "="),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEY = PrivateKey(b"m" * 32)


def _resealed(members: dict[str, wire.JsonValue], seal: str, domain: str) -> bytes:
    """The document with ``members``, signed anew over all of them."""
    fields = {name: value for name, value in members.items() if name != seal}
    return wire.canonical({**fields, seal: str(_KEY.sign_document(domain, fields))})


def _full() -> FullManifest:
    return FullManifest.build(
        name=PackageName("pkg"),
        version=Version("1.0.0"),
        files=_digests({"SRC": b"", "a": b"x"}),
        sizes={"SRC": 0, "a": 1},
        executables=["a"],
        timestamp=5,
        key=_KEY,
        texts={"license": "MIT"},
        dependencies={"left-pad": "^1.0.0"},
    )


def _short() -> MinimalManifest:
    return MinimalManifest.build(
        name=PackageName("pkg"),
        version=Version("1.0.0"),
        infohash=Sha256Digest(bytes(32)),
        size=1,
        chunks=Blake3Digest(bytes(32)),
        torrent=TorrentV2Hash(bytes(32)),
        timestamp=5,
        key=_KEY,
    )


@given(st.data())
def test_any_value_of_any_member_gives_a_manifest_or_the_declared_error(data: st.DataObject) -> None:
    members = wire.parse(_full().data, max_bytes=10**6)
    name = data.draw(st.sampled_from([*sorted(members), "author", "scripts"]))
    texts = {"author", "license"}
    members[name] = data.draw(_JSON)
    try:
        document = _resealed(members, "manifestSignature", MANIFEST_DOMAIN)
    except Malformed:
        return
    try:
        assert parse_manifest(document).data == document
        assert name in {"manifestSignature", "name", "version", "executables", "timestamp", "dependencies", *texts}
    except ContentRejected as error:
        assert error.reason.startswith("manifest.")
        assert name not in texts or type(members[name]) is not str


@given(st.data())
def test_any_value_of_any_member_gives_a_minimal_manifest_or_the_declared_error(data: st.DataObject) -> None:
    members = wire.parse(_short().data, max_bytes=10**6)
    name = data.draw(st.sampled_from([*sorted(members), "author"]))
    members[name] = data.draw(_JSON)
    try:
        document = _resealed(members, "binding", MINIMAL_DOMAIN)
    except Malformed:
        return
    try:
        assert parse_minimal(document).data == document
        assert name in ("binding", "name", "version", "size", "timestamp")
    except RecordRejected as error:
        assert error.reason.startswith("minimal.")


def test_every_changed_byte_of_either_manifest_rejects() -> None:
    for data, parse, error in (
        (_full().data, parse_manifest, ContentRejected),
        (_short().data, parse_minimal, RecordRejected),
    ):
        for at in range(len(data)):
            for mask in (0x01, 0x20, 0x80):
                with pytest.raises(error):
                    parse(data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :])  # type: ignore[operator]


def test_a_path_called_manifest_signature_is_a_path_like_any_other() -> None:
    files = _digests({"SRC": b"", "manifestSignature": b"x"})
    built = FullManifest.build(
        name=PackageName("pkg"),
        version=Version("1.0.0"),
        files=files,
        sizes={"SRC": 0, "manifestSignature": 1},
        executables=[],
        timestamp=5,
        key=_KEY,
    )
    assert parse_manifest(built.data).files == files


@pytest.mark.parametrize("path", ["a\ud800", "../x", "A", "manifest.json"])
def test_build_refuses_what_readers_refuse(path: str) -> None:
    with pytest.raises(ContentRejected):
        FullManifest.build(
            name=PackageName("pkg"),
            version=Version("1.0.0"),
            files=_digests({"SRC": b"", "a": b"x", path: b""}),
            sizes={"SRC": 0, "a": 1, path: 0},
            executables=[],
            timestamp=5,
            key=_KEY,
        )


def test_a_record_from_the_future_is_refused() -> None:
    row = rows("minimal-manifest.json", "build")[0].values[0]
    minimal = parse_minimal(document(row))
    day = 24 * 3600 * 1000
    check_not_ahead(minimal, minimal.timestamp - day)
    with pytest.raises(RecordRejected) as caught:
        check_not_ahead(minimal, minimal.timestamp - day - 1)
    assert (caught.value.reason, caught.value.exit_code) == ("minimal.ahead", 22)
