"""Sections 3.2, 3.3 and 3.5: paths, SRC, contentHash, full and minimal manifest against the vectors."""

from __future__ import annotations

import hashlib

import pytest
from blake3 import blake3

from libreseed.errors import ContentRejected, RecordRejected
from libreseed.ids import Blake3Digest, PackageName, Sha256Digest, TorrentV2Hash, Version
from libreseed.keys.ed25519 import PrivateKey
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


def test_a_record_from_the_future_is_refused() -> None:
    row = rows("minimal-manifest.json", "build")[0].values[0]
    minimal = parse_minimal(document(row))
    day = 24 * 3600 * 1000
    check_not_ahead(minimal, minimal.timestamp - day)
    with pytest.raises(RecordRejected) as caught:
        check_not_ahead(minimal, minimal.timestamp - day - 1)
    assert (caught.value.reason, caught.value.exit_code) == ("minimal.ahead", 22)
