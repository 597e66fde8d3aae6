"""Section 3.4: the same tree gives the same bytes, and what is packed is what was signed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from libreseed.adapters.packing.archive import extract_archive, verify_archive
from libreseed.adapters.packing.archive_build import ArchiveReport, write_archive
from libreseed.adapters.packing.tree import Tree, collect
from libreseed.adapters.packing.tree_walk import Identity
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, PackageName, TorrentV2Hash, Version
from libreseed.package.manifest import FullManifest
from libreseed.package.minimal import MinimalManifest
from tests.archive_forge import KEY
from tests.tools import require_program


def _fill(root: Path) -> None:
    noise = random.Random(5)
    files = {
        "README": b"read me\n" * 300,
        "bin/tool": b"#!/bin/sh\nexit 0\n",
        "data/big.bin": noise.randbytes(700_000) + bytes(600_000),
        "data/empty": b"",
        "data/" + "n" * 120: b"long name",
        "src/ü/😀.txt": b"x" * 513,
        "src/﴾": b"y" * 512,
        "S": b"before SRC",
        "SRD": b"after SRC",
    }
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "bin/tool").chmod(0o755)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    _fill(root)
    return root


def _sign(tree: Tree) -> FullManifest:
    return tree.sign(name=PackageName("pkg"), version=Version("1.0.0"), timestamp=7000, key=KEY)


def _build(root: Path, *, threads: int | None = None, mtime: int = 0) -> tuple[bytes, ArchiveReport]:
    tree = collect(root, threads=threads)
    out: list[bytes] = []
    report = write_archive(tree, _sign(tree), out.append, threads=threads, mtime=mtime)
    return b"".join(out), report


def _minimal(report: ArchiveReport) -> MinimalManifest:
    return MinimalManifest.build(
        name=PackageName("pkg"),
        version=Version("1.0.0"),
        infohash=report.infohash,
        size=report.size,
        chunks=Blake3Digest(bytes(32)),
        torrent=TorrentV2Hash(bytes(32)),
        timestamp=7000,
        key=KEY,
    )


def test_what_is_packed_comes_out_again(root: Path, tmp_path: Path) -> None:
    tgz, report = _build(root)
    assert report.infohash.raw == hashlib.sha256(tgz).digest()
    assert report.size == len(tgz)
    plain = gzip.decompress(tgz)
    assert (report.tar_size, report.tar_hash.raw) == (len(plain), hashlib.sha256(plain).digest())
    (tmp_path / "out").mkdir()
    extracted = extract_archive(io.BytesIO(tgz), _minimal(report), tmp_path / "out")
    assert extracted.size == sum(f.stat().st_size for f in (tmp_path / "out").rglob("*") if f.is_file())
    for path in (tmp_path / "out").rglob("*"):
        original = root / path.relative_to(tmp_path / "out")
        if path.is_file() and path.name not in ("SRC", "manifest.json"):
            assert path.read_bytes() == original.read_bytes()
            assert path.stat().st_mode & 0o7777 == (0o755 if original.stat().st_mode & 0o100 else 0o644)
    assert {p.name for p in (tmp_path / "out").iterdir()} - {p.name for p in root.iterdir()} == {"SRC", "manifest.json"}


def test_a_copy_with_other_times_owner_modes_and_order_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    files = [path for path in root.rglob("*") if path.is_file()]
    random.Random(9).shuffle(files)
    for path in files:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o500 if path.stat().st_mode & 0o100 else 0o466)
        os.utime(target, (1, 1))
        if os.geteuid() == 0:
            os.chown(target, 1234, 4321)
    assert _build(copy) == _build(root)


def test_bytes_do_not_depend_on_the_number_of_threads(root: Path) -> None:
    assert _build(root, threads=1) == _build(root, threads=4)


def test_entries_are_in_order_and_carry_nothing_of_the_machine(root: Path) -> None:
    tgz, _ = _build(root, mtime=1234567)
    with tarfile.open(fileobj=io.BytesIO(tgz), mode="r:gz") as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names[0] == "manifest.json"
    assert names[1:] == sorted(names[1:], key=str.encode)
    assert {"SRC", "S", "SRD"} < set(names)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.type) for m in members} == {(0, 0, "", "", 1234567, b"0")}
    assert {m.name: m.mode for m in members if m.mode != 0o644} == {"bin/tool": 0o755}


def test_tar_and_gzip_read_it(root: Path, tmp_path: Path) -> None:
    tgz, _ = _build(root)
    (tmp_path / "x.tgz").write_bytes(tgz)
    subprocess.run([require_program("gzip"), "-t", str(tmp_path / "x.tgz")], check=True)
    (tmp_path / "out").mkdir()
    subprocess.run([require_program("tar"), "xzf", str(tmp_path / "x.tgz"), "-C", str(tmp_path / "out")], check=True)
    (tmp_path / "out" / "SRC").unlink()
    (tmp_path / "out" / "manifest.json").unlink()
    subprocess.run([require_program("diff"), "-r", str(root), str(tmp_path / "out")], check=True)


def test_python_makes_the_same_tar_stream(root: Path) -> None:
    tgz, _ = _build(root)
    plain = gzip.decompress(tgz)
    again = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as archive,
        tarfile.open(fileobj=again, mode="w", format=tarfile.PAX_FORMAT) as copy,
    ):
        for member in archive:
            info = tarfile.TarInfo(member.name)
            info.size, info.mode = member.size, member.mode
            copy.addfile(info, archive.extractfile(member))
    assert again.getvalue()[: len(plain)] == plain
    assert plain.endswith(bytes(1024))


@pytest.mark.parametrize("change", ["content", "touch", "vanish", "link"])
def test_a_tree_that_changes_between_the_readings_makes_no_package(root: Path, change: str) -> None:
    tree = collect(root)
    manifest = _sign(tree)
    target = root / "README"
    if change == "content":
        target.write_bytes(b"READ ME\n" * 300)
    elif change == "touch":
        os.utime(target, (5, 5))
    else:
        target.unlink()
    if change == "link":
        target.symlink_to("S")
    with pytest.raises(ContentRejected) as caught:
        write_archive(tree, manifest, lambda _: None)
    assert caught.value.reason == "tree.changed"


def test_content_that_changes_behind_an_unchanged_inode_is_caught_by_its_hash(root: Path) -> None:
    """As if a clock were set back: same inode, size and times, other bytes."""
    tree = collect(root)
    manifest = _sign(tree)
    (root / "S").write_bytes(b"Before SRC")
    files = tuple(
        replace(file, found=replace(file.found, identity=Identity.of((root / file.found.path).lstat())))
        for file in tree.files
    )
    with pytest.raises(ContentRejected) as caught:
        write_archive(replace(tree, files=files), manifest, lambda _: None)
    assert caught.value.reason == "tree.changed"
    assert "between the two readings" in caught.value.message


def test_a_package_of_nothing_but_src(tmp_path: Path) -> None:
    tgz, report = _build(tmp_path)
    manifest = verify_archive(io.BytesIO(tgz), _minimal(report))
    assert dict(manifest.sizes) == {"SRC": 0}


_PACK = """
import hashlib, resource, sys
from pathlib import Path
from libreseed.adapters.packing.archive import verify_archive, extract_archive
from libreseed.adapters.packing.archive_build import write_archive
from libreseed.adapters.packing.tree import collect
from libreseed.ids import PackageName, Version
from tests.archive_forge import KEY
root, out = Path(sys.argv[1]), Path(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tree = collect(root)
manifest = tree.sign(name=PackageName("pkg"), version=Version("1.0.0"), timestamp=7000, key=KEY)
with out.open("wb") as file:
    write_archive(tree, manifest, file.write)
verify_archive(out, None)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_tree(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    block = random.Random(3).randbytes(2**14) * 64
    with (root / "big").open("wb") as file:
        for _ in range(200):
            file.write(block)
    run = subprocess.run(
        [sys.executable, "-c", _PACK, str(root), str(tmp_path / "x.tgz")], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 60
