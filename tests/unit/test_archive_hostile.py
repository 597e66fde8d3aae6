"""Section 3.4, reading: every hostile archive is refused for its own reason, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from libreseed.adapters.files.durable import staging_directory
from libreseed.adapters.packing.archive import extract_archive, verify_archive
from libreseed.errors import ContentRejected
from libreseed.ids import PackageName, Version
from libreseed.keys.ed25519 import PrivateKey
from tests.archive_forge import GZIP_HEADER, Forge, entry, gz, header, pax
from tests.hostile_archives import CASES


def _snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in sorted(root.rglob("*"))
    }


def _extract(tgz: bytes, forge: Forge, store: Path) -> ContentRejected:
    """Extract as a caller does, into a staging directory of ``store``; returns the refusal."""
    file = store.parent / "file.tgz"
    file.write_bytes(tgz)
    before = _snapshot(store.parent)
    with pytest.raises(ContentRejected) as caught, staging_directory(store) as staging:
        extract_archive(file, forge.minimal(tgz or b"-"), staging)
    assert _snapshot(store.parent) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "inflate"]
    return caught.value


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.mark.parametrize("name", CASES)
def test_hostile_archive_is_refused_for_its_own_reason(name: str, store: Path) -> None:
    make, reason = CASES[name]
    forge = Forge()
    error = _extract(make(forge), forge, store)
    assert (error.reason, error.exit_code) == (reason, 30)
    assert error.step in (8, 9)
    assert "\n" not in error.message


@pytest.mark.parametrize("name", CASES)
def test_verification_without_writing_gives_the_same_verdict(name: str) -> None:
    make, reason = CASES[name]
    with pytest.raises(ContentRejected) as caught:
        verify_archive(io.BytesIO(make(Forge())), None)
    assert caught.value.reason == reason


def test_the_forge_makes_good_archives(store: Path) -> None:
    """Else the cases above would be refused for the wrong thing."""
    forge = Forge()
    tgz = gz(forge.tar)
    assert verify_archive(io.BytesIO(tgz), forge.minimal(tgz)) == forge.manifest
    report = extract_archive(io.BytesIO(tgz), forge.minimal(tgz), store)
    assert {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()} == {
        **forge.contents,
        "manifest.json": forge.manifest.data,
    }
    assert report.files == len(forge.contents) + 1
    modes = {str(path.relative_to(store)): path.stat().st_mode & 0o7777 for path in store.rglob("*")}
    assert {path for path, mode in modes.items() if mode == 0o755} == {"bin", "bin/run", "d"}
    assert set(modes.values()) == {0o755, 0o644}


def test_owner_time_and_folder_entries_are_ignored(store: Path) -> None:
    forge = Forge()
    foreign = {"uid_field": b"0001750\0", "mtime_field": b"14675413471\0", "owner": b"mallory"}
    tar = forge.with_entry("a", entry("a", b"first", **foreign) + header(b"d/", typeflag=b"5", mode=0o700))
    tgz = gz(tar, head=bytes.fromhex("1f8b08000000000002ff"))
    extract_archive(io.BytesIO(tgz), forge.minimal(tgz), store)
    status = (store / "a").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (os.getuid(), 0o644)
    assert status.st_mtime > 10**9
    assert (store / "d").stat().st_mode & 0o7777 == 0o755


def test_the_umask_does_not_decide_modes(store: Path) -> None:
    forge = Forge()
    tgz = gz(forge.tar)
    old = os.umask(0o077)
    try:
        extract_archive(io.BytesIO(tgz), forge.minimal(tgz), store)
    finally:
        os.umask(old)
    assert (store / "bin").stat().st_mode & 0o777 == 0o755
    assert (store / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (store / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "changed",
    [
        {"name": PackageName("other")},
        {"version": Version("1.0.1")},
        {"timestamp": 1001},
        {"key": PrivateKey(b"k" * 32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_manifests_of_two_releases_do_not_mix(changed: dict[str, object], store: Path) -> None:
    forge = Forge()
    tgz = gz(forge.tar)
    with pytest.raises(ContentRejected) as caught:
        extract_archive(io.BytesIO(tgz), forge.minimal(tgz, **changed), store)
    assert (caught.value.reason, caught.value.step) == ("manifest.mismatch", 8)
    assert not list(store.iterdir())


def test_another_archive_than_the_signed_one_is_refused_before_it_is_parsed() -> None:
    forge = Forge()
    tgz = gz(forge.tar)
    for wrong, reason in (
        (tgz[:-1], "archive.size"),
        (tgz + b"\0", "archive.size"),
        (b"!" + tgz[1:], "archive.infohash"),
    ):
        with pytest.raises(ContentRejected) as caught:
            verify_archive(io.BytesIO(wrong), forge.minimal(tgz))
        assert (caught.value.reason, caught.value.step) == (reason, 7)


def test_a_link_planted_in_the_directory_is_not_followed(store: Path) -> None:
    forge = Forge()
    tgz = gz(forge.tar)
    (store / "d").symlink_to(store.parent)
    with pytest.raises(ContentRejected) as caught:
        extract_archive(io.BytesIO(tgz), forge.minimal(tgz), store)
    assert caught.value.reason == "archive.collision"
    assert not (store.parent / "e").exists()


def test_a_file_planted_in_the_directory_is_not_replaced(store: Path) -> None:
    forge = Forge()
    tgz = gz(forge.tar)
    (store / "z").write_text("mine")
    with pytest.raises(ContentRejected) as caught:
        extract_archive(io.BytesIO(tgz), forge.minimal(tgz), store)
    assert caught.value.reason == "archive.collision"
    assert (store / "z").read_text() == "mine"


def test_every_changed_byte_is_refused(store: Path) -> None:
    forge = Forge(files={"a": b"hello, hello, hello"}, executables=())
    tgz = gz(forge.tar)
    minimal = forge.minimal(tgz)
    for at in range(len(tgz)):
        for mask in (0x01, 0x80, 0xFF):
            flipped = bytearray(tgz)
            flipped[at] ^= mask
            with pytest.raises(ContentRejected):
                verify_archive(io.BytesIO(bytes(flipped)), minimal)


def test_without_the_signed_hash_a_changed_byte_changes_no_file() -> None:
    """Deflate has spare bits and XFL is free: such a copy is a different .tgz with the very same files."""
    forge = Forge(files={"a": b"hello, hello, hello"}, executables=())
    tgz = gz(forge.tar)
    accepted = 0
    for at in range(len(tgz)):
        flipped = tgz[:at] + bytes((tgz[at] ^ 0x10,)) + tgz[at + 1 :]
        try:
            assert verify_archive(io.BytesIO(flipped), None) == forge.manifest
            accepted += 1
        except ContentRejected:
            continue
    assert accepted <= 4


def test_progress_can_stop_the_work(store: Path) -> None:
    class Cancelled(Exception):
        pass

    def stop(_: int) -> None:
        raise Cancelled

    forge = Forge()
    tgz = gz(forge.tar)
    with pytest.raises(Cancelled):
        extract_archive(io.BytesIO(tgz), forge.minimal(tgz), store, progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name == "inflate"]


_MEASURED = """
import resource, sys
from pathlib import Path
from libreseed.adapters.packing.archive import verify_archive
from libreseed.errors import ContentRejected
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    verify_archive(Path(sys.argv[1]), None)
    verdict = "accepted"
except ContentRejected as error:
    verdict = error.reason
print(verdict, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def _measure(file: Path) -> tuple[str, int]:
    """The verdict on ``file`` in a process of its own, and by how many MiB its memory grew."""
    run = subprocess.run([sys.executable, "-c", _MEASURED, str(file)], capture_output=True, text=True, check=True)
    verdict, grown = run.stdout.split()
    return verdict, int(grown)


def _zeros_gz(tar_head: bytes, zeros: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = deflater.compress(tar_head) + deflater.flush(zlib.Z_FULL_FLUSH)
    mebibyte = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return GZIP_HEADER + head + mebibyte * (zeros // 2**20) + deflater.flush() + bytes(8)


@pytest.mark.parametrize("where", ["listed file", "manifest", "no tar at all"])
def test_a_bomb_of_a_gibibyte_is_refused_in_bounded_memory(where: str, tmp_path: Path) -> None:
    heads = {
        "listed file": Forge().entries()["manifest.json"] + header(b"SRC", 2**30),
        "manifest": header(b"manifest.json", 16 * 2**20),
        "no tar at all": b"",
    }
    file = tmp_path / "bomb.tgz"
    file.write_bytes(_zeros_gz(heads[where], 2**30))
    expected = {"listed file": "files.size", "manifest": "archive.ratio", "no tar at all": "archive.truncated"}
    verdict, grown = _measure(file)
    assert verdict == expected[where]
    assert grown < 60


def test_a_bomb_of_the_signed_size_is_stopped_by_its_ratio(tmp_path: Path) -> None:
    size = 2**26
    zeros = bytes(size)
    forge = Forge(files={"z": zeros}, executables=())
    file = tmp_path / "bomb.tgz"
    file.write_bytes(gz(forge.tar))
    verdict, grown = _measure(file)
    assert verdict == "archive.ratio"
    assert grown < 60


def test_a_flood_of_folder_entries_takes_no_memory(tmp_path: Path) -> None:
    forge = Forge()
    flood = b"".join(
        pax({"path": f"{number:06}/" + "é/" * 8 + "f" * 200}) + header(b"f/", typeflag=b"5") for number in range(40_000)
    )
    file = tmp_path / "flood.tgz"
    file.write_bytes(gz(forge.after("a", flood), level=1))
    verdict, grown = _measure(file)
    assert verdict == "archive.folder"
    assert grown < 40


def test_open_files_do_not_leak(store: Path) -> None:
    forge = Forge()
    tgz = CASES["content changed"][0](forge)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        _extract(tgz, forge, store)
    assert len(os.listdir("/proc/self/fd")) == before
