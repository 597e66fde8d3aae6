"""``libreseed-packager auraseal``: packages on disk that heal, and nothing left behind when one does not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libreseed import limits
from libreseed.adapters.auraseal import package_files
from libreseed.adapters.files.watcher import Nobody
from libreseed.auraseal.diram_package import build_package
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.zip_layout import Data, ZipEntry, ZipLayout
from libreseed.errors import ContentRejected
from libreseed_services.packager import auraseal
from libreseed_services.packager.cli import main

_TEXT = b"all that is written here is written twice, all that is written here is written twice. " * 300
_NOISE = hashlib.shake_256(b"noise").digest(70_000)
_LARGE = hashlib.shake_256(b"large").digest(244 * limits.CHUNK_BYTES + 1)
COMPONENTS = {
    "root/obinexus/src/diram-component-0.bin": _TEXT,
    "root/obinexus/src/diram-component-255.bin": _NOISE,
    "services/diram-service-3.bin": b"",
    "operations/diram-operation-0.bin": _LARGE,
    "country/diram-country-7.bin": b"x",
}
KEYS = {(0, 0): _TEXT, (0, 255): _NOISE, (1, 3): b"", (2, 0): _LARGE, (4, 7): b"x"}
COMMAND = [sys.executable, "-c", "import sys; from libreseed_services.packager.cli import main; sys.exit(main())"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for path, data in COMPONENTS.items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_bytes(data)
    return tmp_path


@pytest.fixture
def package(place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    file = place / "diram.zip"
    assert _run("build", place / "tree", "--out", file) == 0
    capsys.readouterr()
    return file


def _run(*arguments: object) -> int:
    return main(["auraseal", *map(str, arguments), "--quiet"])


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def _files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _entries(package: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _damage(package: Path, entry: str, at: int = 300, flip: int = 1) -> None:
    with zipfile.ZipFile(package) as archive:
        info = archive.getinfo(entry)
    data = bytearray(package.read_bytes())
    data[info.header_offset + 30 + len(entry) + at] ^= flip
    package.write_bytes(data)


# --- the main job ----------------------------------------------------------------------------------------------------


def test_build_verify_extract(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "new" / "diram.zip"
    assert _run("build", place / "tree", "--out", file, "--json") == 0
    built = _json(capsys)
    assert (built["ok"], built["path"], built["size"]) == (True, str(file), file.stat().st_size)
    assert built["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert built["components"]["country/diram-country-7.bin"] == {
        "integrity": str(Integrity.of(b"x")),
        "size": 1,
        "parts": 2,
    }
    assert built["components"]["operations/diram-operation-0.bin"]["parts"] == 1
    assert os.listdir(place / "new") == ["diram.zip"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644

    assert _run("verify", file, "--json") == 0
    verified = _json(capsys)
    assert (verified["path"], verified["healed"], verified["verifiedParts"]) == (None, [], verified["parts"])
    assert verified["contentSize"] == sum(map(len, COMPONENTS.values()))

    assert _run("extract", file, "--out", place / "restored" / "here", "--json") == 0
    assert _json(capsys)["path"] == str(place / "restored" / "here")
    assert _files(place / "restored" / "here") == COMPONENTS
    assert os.listdir(place / "restored") == ["here"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in (place / "restored/here").rglob("*.bin")} == {0o644}

    assert _run("build", place / "restored" / "here", "--out", place / "again.zip") == 0
    assert (place / "again.zip").read_bytes() == file.read_bytes()


def test_the_file_is_the_one_that_the_core_makes(package: Path) -> None:
    assert package.read_bytes() == build_package(KEYS, in_parts={key for key in KEYS if key != (2, 0)})
    with zipfile.ZipFile(package) as archive:  # and any other program reads it
        assert archive.testzip() is None


def test_without_parts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("build", place / "tree", "--out", place / "plain.zip", "--no-parts") == 0
    assert "whole and without parity: 5" in capsys.readouterr().out
    assert (place / "plain.zip").read_bytes() == build_package(KEYS)
    assert _run("extract", place / "plain.zip", "--out", place / "out") == 0
    assert _files(place / "out") == COMPONENTS


@pytest.mark.parametrize(("size", "parts"), [(0, 2), (5120, 2), (5121, 3), (244 * 5120, 256), (244 * 5120 + 1, 1)])
def test_how_many_parts_a_component_has(tmp_path: Path, size: int, parts: int) -> None:
    file = tmp_path / "services" / "diram-service-0.bin"
    file.parent.mkdir()
    with file.open("wb") as opened:
        opened.truncate(size)
    (found,) = package_files.collect_components(tmp_path)
    assert found.parts == parts
    (found,) = package_files.collect_components(tmp_path, in_parts=False)
    assert found.parts == 1


def test_the_reports_for_people(package: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["auraseal", "build", str(place / "tree"), "--out", str(place / "b.zip")]) == 0
    out, err = capsys.readouterr()
    assert "content    components: 5, " in out and "packaging" in err
    assert "diram-operation-0.bin is too large for parts" in err
    _damage(package, "root/obinexus/src/diram-component-0.part.1")
    _damage(package, "root/obinexus/src/diram-component-255.part.0", at=5)
    assert _run("verify", package) == 0
    out = capsys.readouterr().out
    assert "healed     root/obinexus/src/diram-component-0.bin: part 1 (auraseal.part-checksum)" in out
    assert "healed     root/obinexus/src/diram-component-255.bin: part 0 (header)" in out
    assert "The package is damaged but nothing is lost" in out


# --- damage ----------------------------------------------------------------------------------------------------------


def test_damaged_parts_heal_and_are_told(package: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _damage(package, "root/obinexus/src/diram-component-0.part.1")
    _damage(package, "country/diram-country-7.part.0", at=256)
    for command in (["verify", package], ["extract", package, "--out", place / "out"]):
        assert _run(*command, "--json") == 0
        report = _json(capsys)
        assert report["healed"] == ["country/diram-country-7.bin", "root/obinexus/src/diram-component-0.bin"]
        assert report["verifiedParts"] == report["parts"] - 2
        found = report["components"]["root/obinexus/src/diram-component-0.bin"]
        assert (found["healed"], found["rejected"]) == ([1], {"1": "auraseal.part-checksum"})
        assert found["verified"] == found["parts"] - 1
    assert _files(place / "out") == COMPONENTS


def test_one_component_beyond_repair_refuses_all_and_leaves_nothing(
    package: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (0, 1):
        _damage(package, f"root/obinexus/src/diram-component-0.part.{part}")
    before = set(place.iterdir())
    for command in (["verify", package], ["extract", package, "--out", place / "new" / "out"]):
        assert _run(*command, "--json") == 31
        report = _json(capsys)
        assert report["reason"] == "repair.beyond"
        assert "root/obinexus/src/diram-component-0.bin: 6 parts are needed; coherence 5/7" in report["message"]
        assert len(report["details"]) == 1
    assert set(place.iterdir()) == before


def test_every_component_that_fails_is_named(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _damage(package, "operations/diram-operation-0.bin", at=len(_LARGE) - 1)
    for part in (0, 1):
        _damage(package, f"services/diram-service-3.part.{part}", at=256)
    assert _run("verify", package, "--json") == 31
    report = _json(capsys)
    assert [line.rpartition("[")[2] for line in report["details"]] == ["repair.beyond]", "auraseal.zip-crc]"]
    assert "(2 of 5 components are refused)" in report["message"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "auraseal.zip-form"),
        (lambda data: data + b"x", "auraseal.zip-form"),
        (lambda data: b"x" + data, "auraseal.zip-form"),
        (lambda data: b"", "auraseal.zip-size"),
        (lambda data: data.replace(b"integrity-manifest.json", b"integrity-manifest.jsoN"), "auraseal.zip-path"),
        (lambda data: data.replace(b'"size":1}', b'"size":2}', 1), "auraseal.zip-crc"),
        (lambda data: data.replace(b"PK\x03\x04", b"PK\x03\x05", 1), "auraseal.zip-form"),
    ],
)
def test_a_package_of_another_form_is_refused(
    package: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[bytes], bytes],
    reason: str,
) -> None:
    package.write_bytes(change(package.read_bytes()))
    before = set(place.iterdir())
    for command in (["verify", package], ["extract", package, "--out", place / "out"]):
        assert _run(*command, "--json") == 30
        assert _json(capsys)["reason"] == reason
    assert set(place.iterdir()) == before


def test_a_forged_component_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every checksum holds, the parts agree with each other; only the manifest says that the data are others."""
    files = _entries(build_package({(0, 0): _TEXT}, in_parts={(0, 0)}))
    lie = _entries(build_package({(0, 0): _TEXT.replace(b"twice", b"never")}, in_parts={(0, 0)}))
    files |= {path: lie[path] for path in files if ".part." in path}
    layout = ZipLayout(tuple(ZipEntry(path, len(file), zlib.crc32(file)) for path, file in files.items()))
    data = list(files.values())
    forged = b"".join(data[piece.entry] if isinstance(piece, Data) else piece for piece in layout.pieces())
    (place / "forged.zip").write_bytes(forged)
    assert _run("verify", place / "forged.zip", "--json") == 30
    assert _json(capsys)["reason"] == "auraseal.integrity"


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        (lambda tree: (tree / "README").write_text("x"), "tree.path", 30),
        (lambda tree: (tree / "services/diram-service-256.bin").write_text("x"), "tree.path", 30),
        (lambda tree: (tree / "services/diram-service-01.bin").write_text("x"), "tree.path", 30),
        (lambda tree: (tree / "services/diram-component-1.bin").write_text("x"), "tree.path", 30),
        (lambda tree: (tree / "services/diram-service-1.part.0").write_text("x"), "tree.path", 30),
        (lambda tree: (tree / "services/diram-service-1.bin").symlink_to("/etc/passwd"), "tree.symlink", 30),
        (lambda tree: os.mkfifo(tree / "services/diram-service-1.bin"), "tree.fifo", 30),
        (lambda tree: tree.rename(tree.with_name("elsewhere")), "notfound.file", 10),
        (lambda tree: (tree.rename(tree.with_name("elsewhere")), tree.mkdir()), "tree.root", 30),
    ],
)
def test_a_tree_that_is_no_package_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], reason: str, code: int
) -> None:
    change(place / "tree")
    before = set(place.iterdir())
    assert _run("build", place / "tree", "--out", place / "new" / "x.zip", "--json") == code
    assert _json(capsys)["reason"] == reason
    assert set(place.iterdir()) == before


@pytest.mark.parametrize("flags", [[], ["--no-parts"]])
def test_a_private_key_is_refused_unless_told_otherwise(
    place: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["keygen", "--out", str(place / "tree/services/diram-service-9.bin"), "--no-passphrase"]) == 0
    capsys.readouterr()
    before = set(place.iterdir())
    assert _run("build", place / "tree", "--out", place / "x.zip", "--json", *flags) == 30
    assert _json(capsys)["reason"] == "tree.secret"
    assert set(place.iterdir()) == before
    assert _run("build", place / "tree", "--out", place / "x.zip", "--allow-secrets", *flags) == 0


def test_nothing_that_exists_is_replaced(package: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = package.read_bytes()
    (place / "out").mkdir()
    for command in (["build", place / "tree", "--out", package], ["extract", package, "--out", place / "out"]):
        assert _run(*command, "--json") == 50
        assert _json(capsys)["reason"] == "storage.exists"
    assert package.read_bytes() == before
    assert not any((place / "out").iterdir())


@pytest.mark.parametrize("what", ["nothing", "a folder", "a pipe"])
def test_no_package_is_10(place: Path, what: str) -> None:
    if what == "a folder":
        (place / "x.zip").mkdir()
    if what == "a pipe":
        os.mkfifo(place / "x.zip")
    assert _run("verify", place / "x.zip") == 10
    assert _run("extract", place / "x.zip", "--out", place / "out") == 10
    assert not (place / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["build"], ["build", "tree"], ["extract", "x.zip"], ["heal", "x.zip"]])
def test_bad_usage_is_2(arguments: list[str]) -> None:
    assert main(["auraseal", *arguments]) == 2


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ([], ["build"], ["verify"], ["extract"]):
        assert main(["auraseal", *action, "--help"]) == 0
        assert "examples:\n  libreseed-packager auraseal" in capsys.readouterr().out


def _inspect(path: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    assert main(["inspect", str(path), "--json"]) == code
    return _json(capsys)


def test_inspect_shows_packages_parts_and_manifests(
    package: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = _inspect(package, capsys)
    assert shown["kind"] == "DIRAM package"
    assert shown["says"] == {
        "size": package.stat().st_size,
        "components": 5,
        "inParts": 4,
        "parts": 7 + 15 + 2 + 2,
        "partsHere": 26,
        "contentSize": sum(map(len, COMPONENTS.values())),
    }
    files = _entries(package.read_bytes())
    part = place / "diram-component-0.part.6"
    part.write_bytes(b"\xff" + files["root/obinexus/src/diram-component-0.part.6"][1:])
    shown = _inspect(part, capsys)
    assert (shown["kind"], shown["says"]["parity"], shown["says"]["headerHealed"]) == ("part file", True, True)
    assert (shown["says"]["part"], shown["says"]["parts"], shown["says"]["division"]) == (6, 7, "root/obinexus/src")
    assert "part" in shown["unverified"]
    part.write_bytes(part.read_bytes()[:-1])
    assert _inspect(part, capsys, 30)["reason"] == "auraseal.part-footer"
    manifest = place / "integrity-manifest.json"
    manifest.write_bytes(files["integrity-manifest.json"])
    shown = _inspect(manifest, capsys)
    assert shown["says"]["country/diram-country-7.bin"] == str(Integrity.of(b"x"))
    assert set(shown["unverified"]) == set(shown["says"])
    manifest.write_bytes(b"[]")
    assert _inspect(manifest, capsys, 30)["reason"] == "auraseal.type"
    package.write_bytes(b"PK")
    assert _inspect(package, capsys, 30)["reason"] == "auraseal.zip-size"


# --- faults on the way -----------------------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collected = auraseal.collect_components

    def then_changed(root: Path, *, in_parts: bool) -> object:
        found = collected(root, in_parts=in_parts)
        (root / "country/diram-country-7.bin").write_bytes(b"yy")
        return found

    monkeypatch.setattr(auraseal, "collect_components", then_changed)
    before = set(place.iterdir())
    assert _run("build", place / "tree", "--out", place / "x.zip", "--json") == 30
    assert _json(capsys)["reason"] == "tree.changed"
    assert set(place.iterdir()) == before


def test_a_package_that_shrinks_while_it_is_read_is_refused(package: Path) -> None:
    for entry in ("operations/diram-operation-0.bin", "country/diram-country-7.part.0"):
        with package_files.opened_package(package) as opened:
            whole = package.read_bytes()
            os.truncate(package, whole.index(entry.encode()) + 10)
            with pytest.raises(ContentRejected):
                package_files.extract_package(opened, None, Nobody())
            package.write_bytes(whole)


@pytest.mark.parametrize("action", ["build", "extract"])
def test_a_full_disk_leaves_nothing(
    package: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    source = place / "tree" if action == "build" else package
    before = set(place.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        assert _run(action, source, "--out", place / "new" / "x") == 50
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert "storage.full" in capsys.readouterr().err
    assert set(place.iterdir()) == before


def test_ctrl_c_while_building_leaves_nothing(place: Path) -> None:
    large = place / "tree" / "operations" / "diram-operation-1.bin"
    with large.open("wb") as file:
        file.truncate(2 * 2**30)
    command = [*COMMAND, "auraseal", "build", str(place / "tree"), "--out", str(place / "x.zip")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 60
            while not any(place.glob(".libreseed-staging-*/package")):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert {path.name for path in place.iterdir()} == {"tree"}


def test_a_large_component_is_not_held_in_memory(place: Path) -> None:
    large = place / "tree" / "operations" / "diram-operation-1.bin"
    with large.open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        assert _run("build", place / "tree", "--out", place / "x.zip") == 0
        assert _run("extract", place / "x.zip", "--out", place / "out") == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20
    assert (place / "out/operations/diram-operation-1.bin").stat().st_size == 64 * 2**20
