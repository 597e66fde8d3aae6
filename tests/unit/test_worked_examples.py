"""The example of package.md and archive.md, made again and found in the text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from libreseed.adapters.packing.archive_build import write_archive
from libreseed.adapters.packing.gzip_stream import zlib_ng_version
from libreseed.adapters.packing.tree import collect
from libreseed.ids import Blake3Digest, PackageName, TorrentV2Hash, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.minimal import MinimalManifest

_DOCS = Path(__file__).parents[2] / "docs" / "specification"
_KEY = PrivateKey(bytes(range(32)))


def _text(name: str) -> str:
    return (_DOCS / name).read_text("utf-8")


def _joined(name: str) -> str:
    return _text(name).replace("\n", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hello").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "bin" / "hello").chmod(0o755)
    (tmp_path / "grüße.txt").write_text("hallo\n")
    return tmp_path


def test_the_example_is_what_the_code_makes(root: Path) -> None:
    tree = collect(root)
    assert tree.src.decode() in _text("package.md")
    manifest = tree.sign(name=PackageName("hello"), version=Version("1.0.0"), timestamp=1700000000000, key=_KEY)
    assert manifest.data.decode() in _joined("package.md")
    assert f"contentHash = {manifest.content_hash}" in _text("package.md")
    for path, digest in manifest.files.items():
        assert f"{path:9}  {digest}" in _text("package.md")
    out: list[bytes] = []
    report = write_archive(tree, manifest, out.append, mtime=1700000000)
    assert f"{report.tar_size} bytes, `tarHash` `{report.tar_hash}`" in _text("archive.md")
    tar = gzip.decompress(b"".join(out))
    for offset, name in ((0, b"manifest.json"), (1536, b"SRC"), (2560, b"bin/hello"), (4608, b"gr??e.txt")):
        assert tar[offset : offset + 100].rstrip(b"\0") == name
        assert f"| {offset} | header: `{name.decode()}`" in _text("archive.md")
    if zlib_ng_version() != "2.3.3":
        pytest.skip("the .tgz of the example is of zlib-ng 2.3.3")
    assert str(report.infohash) in _text("archive.md")
    minimal = MinimalManifest.build(
        name=manifest.name,
        version=manifest.version,
        infohash=report.infohash,
        size=report.size,
        chunks=Blake3Digest(bytes(32)),
        torrent=TorrentV2Hash(bytes(32)),
        timestamp=manifest.timestamp,
        key=_KEY,
    )
    assert minimal.data.decode() in _joined("package.md")
