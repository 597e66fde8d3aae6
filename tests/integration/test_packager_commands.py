"""``libreseed-packager`` as people and scripts use it: files, reports, exit codes, and nothing left after a failure."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libreseed.adapters.silexium.releases.release_set import measure_source, read_release_sheet
from libreseed.ids import PublicKey
from libreseed_services.packager.cli import main
from tests.release_support import write_tree
from tests.silexium_support import Draft

SUFFIXES = {".tgz", ".chunks", ".parity", ".torrent", ".minimal.json", ".dht.json"}
COMMAND = [sys.executable, "-c", "import sys; from libreseed_services.packager.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LIBRESEED_")] + ["SOURCE_DATE_EPOCH"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a tree and a plain key."""
    write_tree(tmp_path / "tree")
    assert main(["keygen", "--out", str(tmp_path / "key"), "--no-passphrase"]) == 0
    capsys.readouterr()
    return tmp_path


def _build(place: Path, *more: str, tree: str = "tree", out: str = "out") -> int:
    named = ["--name", "hello", "--version", "1.0.0", "--key", str(place / "key")]
    return main(["build", str(place / tree), *named, "--out", str(place / out), *more])


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# --- the main job ------------------------------------------------------------------------------------------------


def test_build_verify_inspect(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--json", "--description", "Grüße", "--license", "MIT", "--dependency", "left-pad=^1.2.0") == 0
    report = _json(capsys)
    folder = place / "out" / "hello@1.0.0"
    assert (report["ok"], report["release"], report["path"]) == (True, "hello@1.0.0", str(folder))
    assert {path.name.removeprefix("hello@1.0.0") for path in folder.iterdir()} == SUFFIXES
    assert os.listdir(place / "out") == ["hello@1.0.0"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755

    tgz = folder / "hello@1.0.0.tgz"
    assert main(["verify", str(tgz), "--json"]) == 0
    verified = _json(capsys)
    assert verified["complete"] and not verified["absent"] and set(verified["verified"]) == SUFFIXES
    assert (verified["infohash"], verified["pubkey"]) == (report["infohash"], report["pubkey"])

    for path in sorted(folder.iterdir()):
        assert main(["inspect", str(path), "--json"]) == 0, path.name
        assert _json(capsys)["says"]
    assert main(["inspect", str(tgz), "--json"]) == 0
    says = _json(capsys)["says"]
    assert (says["description"], says["license"], says["dependencies"]) == ("Grüße", "MIT", {"left-pad": "^1.2.0"})


def test_the_report_for_people(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "tree" / "empty").mkdir()
    (place / "tree" / ".libreseedignore").write_text("*.log\n")
    (place / "tree" / "a.log").write_text("x")
    assert _build(place) == 0
    out, err = capsys.readouterr()
    assert "release    hello@1.0.0" in out
    assert "left out   1 empty folder: empty/" in out
    assert "ignored    1 name, as" in out
    assert "empty/ is empty and left out" in err
    assert main(["verify", str(place / "out/hello@1.0.0/hello@1.0.0.tgz")]) == 0
    assert "verified   .tgz .chunks .parity .torrent .minimal.json .dht.json" in capsys.readouterr().out


def test_verify_takes_the_release_folder_too(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the seeder's ``add`` does."""
    assert _build(place, "--quiet") == 0
    monkeypatch.chdir(place / "out" / "hello@1.0.0")
    for folder in (place / "out" / "hello@1.0.0", "."):
        capsys.readouterr()
        assert main(["verify", str(folder), "--json"]) == 0
        assert _json(capsys)["complete"]
    Path("hello@1.0.0.tgz").unlink()
    assert main(["verify", ".", "--json"]) == 2
    assert "hello@1.0.0.tgz" in _json(capsys)["message"]


def test_a_tree_without_a_file_is_noted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkout that failed would be published as a release of nothing."""
    (place / "nothing").mkdir()
    assert _build(place, tree="nothing") == 0
    assert "nothing holds no file: the package is empty" in capsys.readouterr().err


def test_what_inspect_shows_is_text_and_not_pythons_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--quiet", "--dependency", "left-pad=^1.2.0") == 0
    folder = place / "out" / "hello@1.0.0"
    capsys.readouterr()
    assert main(["inspect", str(folder / "hello@1.0.0.tgz")]) == 0
    assert 'dependencies: {"left-pad": "^1.2.0"}' in capsys.readouterr().out
    index = ["index", "hello", "--key", str(place / "key"), "--out", str(place)]
    assert main([*index, str(folder / "hello@1.0.0.minimal.json")]) == 0
    public = json.loads((folder / "hello@1.0.0.minimal.json").read_bytes())["pubkey"]
    capsys.readouterr()
    assert main(["inspect", str(place / "hello.index.dht.json"), "--publisher", public]) == 0
    assert "versions: 1.0.0\n" in capsys.readouterr().out


def test_quiet_says_nothing_on_stderr(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_verify_names_what_is_absent_and_what_only_the_archive_proves(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _build(place, "--quiet") == 0
    folder = place / "out" / "hello@1.0.0"
    (folder / "hello@1.0.0.parity").unlink()
    capsys.readouterr()
    assert main(["verify", str(folder / "hello@1.0.0.tgz"), "--json", "--quiet"]) == 0
    assert _json(capsys)["absent"] == [".parity"]
    lonely = str(shutil.copy(folder / "hello@1.0.0.tgz", place / "hello@1.0.0.tgz"))
    assert main(["verify", lonely, "--json", "--quiet"]) == 0
    report = _json(capsys)
    assert report["archiveOnly"] and report["infohash"] is None and not report["complete"]
    assert main(["verify", lonely, "--quiet"]) == 0
    assert "only the archive was checked" in capsys.readouterr().out
    minimal = str(folder / "hello@1.0.0.minimal.json")
    assert main(["verify", lonely, "--minimal", minimal, "--json", "--quiet"]) == 0
    assert not _json(capsys)["archiveOnly"]


@pytest.mark.parametrize(
    ("suffix", "exit_code"),
    [(".tgz", 30), (".chunks", 30), (".parity", 30), (".torrent", 30), (".minimal.json", 20), (".dht.json", 20)],
)
def test_verify_exits_as_documented_for_a_changed_file(
    place: Path, capsys: pytest.CaptureFixture[str], suffix: str, exit_code: int
) -> None:
    assert _build(place, "--quiet") == 0
    path = place / f"out/hello@1.0.0/hello@1.0.0{suffix}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", str(path.with_name("hello@1.0.0.tgz")), "--json", "--quiet"]) == exit_code
    out, err = capsys.readouterr()
    failure = json.loads(out)
    assert (failure["ok"], failure["exit"]) == (False, exit_code)
    assert set(failure) == {"ok", "reason", "exit", "step", "message", "remedy"}
    assert "Traceback" not in err and err.count("\n") == 1


def test_verify_of_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(place / "no.tgz"), "--json"]) == 10
    assert _json(capsys)["reason"] == "notfound.file"
    assert main(["verify", str(place / "key"), "--json"]) == 2
    assert main(["verify", str(place / "tree"), "--json"]) == 2


# --- reproducibility ---------------------------------------------------------------------------------------------


def test_copies_with_other_times_owners_and_order_give_equal_bytes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"d{n % 7}/f{n}.txt": os.urandom(n * 40) for n in range(60)}
    write_tree(place / "one", files)
    write_tree(place / "two", dict(reversed(files.items())))
    for n, path in enumerate(sorted((place / "two").rglob("*"))):
        if os.geteuid() == 0:
            os.chown(path, 1000 + n, 2000 + n)
        if path.is_file():
            path.chmod(0o664)
        os.utime(path, (n * 1000, n * 1000))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    reports = []
    for tree, out in (("one", "out1"), ("two", "out2")):
        assert _build(place, "--json", "--quiet", tree=tree, out=out) == 0
        reports.append(_json(capsys))
    first, second = place / "out1" / "hello@1.0.0", place / "out2" / "hello@1.0.0"
    assert sorted(os.listdir(first)) == sorted(os.listdir(second))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    assert reports[0]["torrent"] == reports[1]["torrent"]
    assert reports[0]["timestamp"] == 1_700_000_000_000


def test_the_timestamp_rule(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--json", "--quiet", "--timestamp", "5", out="a") == 0
    assert _json(capsys)["timestamp"] == 5
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert _build(place, "--json", "--quiet", "--timestamp", "5", out="b") == 0
    assert _json(capsys)["timestamp"] == 7000
    for bad in ("", "-1", "1.5", "0x10", " 7", "９", "9" * 17):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", bad)
        assert _build(place, "--json", "--quiet", out="c") == 3
        assert _json(capsys)["reason"] == "config.value"
    assert not (place / "c").exists()


# --- keys --------------------------------------------------------------------------------------------------------


def test_keygen_prints_the_public_key_and_never_overwrites(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(place / "key"), "--json"]) == 0
    public = _json(capsys)["says"]["pubkey"]
    before = (place / "key").read_bytes()
    assert main(["keygen", "--out", str(place / "key"), "--no-passphrase", "--json"]) == 3
    assert _json(capsys)["reason"] == "key.exists"
    assert (place / "key").read_bytes() == before
    assert public.startswith("ed25519:")


def test_a_sealed_key_from_keygen_to_build(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "pass").write_text("correct horse\n")
    (place / "wrong").write_text("incorrect horse\n")
    sealed = str(place / "sealed")
    assert main(["keygen", "--out", sealed, "--passphrase-file", str(place / "pass")]) == 0
    public = capsys.readouterr().out.strip()
    assert stat.S_IMODE(os.stat(sealed).st_mode) == 0o600
    assert _build(place, "--key", sealed, "--passphrase-file", str(place / "wrong"), "--json") == 3
    assert _json(capsys)["reason"] == "key.passphrase"
    assert not (place / "out").exists()
    assert _build(place, "--key", sealed, "--passphrase-file", str(place / "pass"), "--json", "--quiet") == 0
    assert _json(capsys)["pubkey"] == public


def test_the_key_from_the_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(place / "tree"), "--name", "hello", "--version", "1.0.0", "--quiet", "--json"]
    assert main([*arguments, "--out", str(place / "out")]) == 3
    assert _json(capsys)["reason"] == "key.missing"
    for n, value in enumerate((str(place / "key"), (place / "key").read_text())):
        monkeypatch.setenv("LIBRESEED_KEY", value)
        assert main([*arguments, "--out", str(place / f"out{n}")]) == 0
    monkeypatch.setenv("LIBRESEED_KEY", "{}")
    assert main([*arguments, "--out", str(place / "out")]) == 3
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "reason", "exit_code"),
    [
        (lambda key: key.chmod(0o644), "key.permissions", 3),
        (lambda key: key.write_bytes(b"rubbish\n"), "key.malformed", 3),
        (lambda key: key.unlink(), "notfound.file", 10),
    ],
)
def test_a_key_that_cannot_be_used(
    place: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], reason: str, exit_code: int
) -> None:
    spoil(place / "key")
    assert _build(place, "--json") == exit_code
    assert _json(capsys)["reason"] == reason
    assert not (place / "out").exists()


# --- bad input: one line, the right exit, nothing left ----------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        ["--name", "Hello"],
        ["--name", ""],
        ["--version", "1.0"],
        ["--version", "01.0.0"],
        ["--timestamp", "soon"],
        ["--dependency", "left-pad"],
        ["--dependency", "left-pad=not a range"],
        ["--dependency", "Left=1.0.0"],
        ["--dependency", "a=1.0.0", "--dependency", "a=2.0.0"],
        ["--no-such-flag"],
        ["--nam", "hello"],
        ["--description", "not UTF-8: \udcff"],
    ],
)
def test_usage_errors(place: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    assert _build(place, *more, "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["reason"] == "usage"
    assert err.count("\n") == 1
    assert not (place / "out").exists()


def _refuse(place: Path, capsys: pytest.CaptureFixture[str], *more: str, tree: str = "tree") -> tuple[int, str]:
    before = sorted(place.rglob("*"))
    code = _build(place, *more, "--json", "--quiet", tree=tree)
    reason = _json(capsys)["reason"]
    assert sorted(place.rglob("*")) == before, "something was left behind"
    return code, reason


def test_a_missing_tree(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _refuse(place, capsys, tree="nowhere") == (10, "notfound.file")


def test_a_file_for_a_tree(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _refuse(place, capsys, tree="key") == (30, "tree.root")


def _link(tree: Path) -> None:
    (tree / "link").symlink_to("README")


def _hard_link(tree: Path) -> None:
    os.link(tree / "README", tree / "twin")


def _own_manifest(tree: Path) -> None:
    (tree / "manifest.json").write_text("{}")


def _git(tree: Path) -> None:
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").write_text("ref")


def _secret(tree: Path) -> None:
    (tree / "deploy.key").write_bytes((tree.parent / "key").read_bytes())


def _bomb(tree: Path) -> None:
    with (tree / "zeros").open("wb") as file:
        file.truncate(40 * 2**20)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_link, "tree.symlink"),
        (_hard_link, "tree.hardlink"),
        (_own_manifest, "tree.reserved"),
        (_git, "tree.git"),
        (_secret, "tree.secret"),
        (_bomb, "tree.ratio"),
        (lambda tree: os.mkfifo(tree / "pipe"), "tree.fifo"),
        (lambda tree: (tree / "a\\b").write_text("x"), "tree.path"),
        (lambda tree: (tree / "readme").write_text("x"), "tree.collision"),
    ],
)
def test_a_tree_that_cannot_be_packaged(
    place: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(place / "tree")
    assert _refuse(place, capsys) == (30, reason)


def test_what_is_refused_by_default_can_be_allowed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _git(place / "tree")
    _secret(place / "tree")
    assert _build(place, "--allow-git", "--allow-secrets", "--quiet", "--json") == 0
    assert _json(capsys)["files"] == 6


def test_a_release_is_never_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--quiet") == 0
    capsys.readouterr()
    assert _refuse(place, capsys) == (50, "storage.exists")
    assert _build(place, "--version", "1.0.1", "--quiet") == 0, "OUT itself may exist"


def test_a_dry_run_leaves_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    assert _build(place, "--dry-run", "--json", "--quiet", out="a/b/c") == 0
    report = _json(capsys)
    assert report["path"] is None and report["infohash"].startswith("sha256:")
    assert sorted(place.rglob("*")) == before


def test_out_inside_the_tree_is_not_packaged_into_itself(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--quiet", out="tree/out") == 0
    capsys.readouterr()
    assert _build(place, "--version", "1.0.1", "--json", "--quiet", out="tree/out") == 2
    assert ".libreseedignore" in _json(capsys)["message"]
    (place / "tree" / ".libreseedignore").write_text("/out\n")
    assert _build(place, "--version", "1.0.1", "--quiet", out="tree/out") == 0


def test_leftovers_of_a_killed_build_are_cleared_by_the_next(place: Path) -> None:
    stale = place / "out" / ".libreseed-staging-0123"
    stale.mkdir(parents=True)
    (stale / "hello@1.0.0.tgz").write_bytes(b"half")
    assert _build(place, "--quiet") == 0
    assert os.listdir(place / "out") == ["hello@1.0.0"]


# --- storage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EROFS, "storage.read-only"), (errno.EACCES, "storage.permission"), (errno.ENOSPC, "storage.full")],
)
def test_out_that_cannot_be_made(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def mkdir(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        assert _refuse(place, capsys) == (50, reason)


@pytest.mark.parametrize("out", ["out", "out/below"])
def test_a_file_where_out_should_be(place: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    (place / "out").write_text("mine")
    assert _build(place, "--json", "--quiet", out=out) == 50
    refused = _json(capsys)
    assert refused["reason"] == "storage.exists"
    assert refused["message"] == f"{place / 'out'} is not a directory"
    assert (place / "out").read_text() == "mine"


def test_a_key_for_a_folder_that_is_not_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", "--out", str(place / "nowhere" / "key"), "--no-passphrase"]) == 10
    assert f"no directory {place / 'nowhere'}" in capsys.readouterr().err
    assert not (place / "nowhere").exists()


# Linux's root may write anywhere by a capability; without it root is held to the permission bits like everybody.
_WITHOUT_CAPABILITIES = """
import ctypes, struct
header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)  # _LINUX_CAPABILITY_VERSION_3, this process
assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0
"""


def test_a_read_only_out(place: Path) -> None:
    (place / "out").mkdir(mode=0o500)
    before = sorted(place.rglob("*"))
    line = ["build", "tree", "--name", "n", "--version", "1.0.0", "--key", "key", "--out", "out", "--json"]
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT_CAPABILITIES + COMMAND[2], *line],
        cwd=place,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 50, result.stderr
    assert json.loads(result.stdout)["reason"] == "storage.permission"
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("room", [4096, 60_000, 131_072])
def test_a_full_disk_leaves_nothing(place: Path, room: int) -> None:
    """RLIMIT_FSIZE stops the .tgz, or the parity, in the middle of a write."""
    (place / "tree" / "noise").write_bytes(os.urandom(120_000))
    before = sorted(place.rglob("*"))
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); {COMMAND[2]}"
    line = ["build", "tree", "--name", "n", "--version", "1.0.0", "--key", "key", "--out", "out", "--json"]
    result = subprocess.run(
        [sys.executable, "-c", limited, *line], cwd=place, capture_output=True, check=False, timeout=60
    )
    if room < 131_072:
        assert result.returncode == 50
        assert json.loads(result.stdout)["reason"] == "storage.full"
        assert sorted(place.rglob("*")) == before
    else:
        assert result.returncode == 0, "the control: with room enough it works"


def test_a_disk_that_dies_at_the_last_sync_leaves_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from libreseed.adapters.files import durable

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable.os, "fsync", fsync)
    assert _refuse(place, capsys) == (50, "storage.io")


# --- interruption ------------------------------------------------------------------------------------------------

# The real command, made to wait at a chosen seam: the .tgz is written, parity is not.
_WAITING = """
import sys, time
from libreseed.adapters.release import release_build
from libreseed.adapters.silexium.releases.release_set import measure_source, read_release_sheet
from libreseed.ids import PublicKey
from libreseed_services.packager.cli import main
def wait(*_, **__):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(600)
release_build.make_repair_files = wait
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing(place: Path, number: signal.Signals) -> None:
    before = sorted(place.rglob("*"))
    arguments = ["build", "tree", "--name", "n", "--version", "1.0.0", "--key", "key", "--out", "deep/out", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING, *arguments, "--quiet"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        assert list((place / "deep" / "out").iterdir()), "it is in the middle of its work"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["reason"] == "interrupted"
    assert "Traceback" not in err and err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_a_killed_build_leaves_no_release_and_the_next_one_works(place: Path) -> None:
    arguments = ["build", "tree", "--name", "hello", "--version", "1.0.0", "--key", "key", "--out", "out", "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING, *arguments], cwd=place, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.kill()
    assert not (place / "out" / "hello@1.0.0").exists()
    assert _build(place, "--quiet") == 0
    assert os.listdir(place / "out") == ["hello@1.0.0"]


# --- index -------------------------------------------------------------------------------------------------------


def _releases(place: Path, *versions: str) -> list[str]:
    for n, version in enumerate(versions):
        assert _build(place, "--version", version, "--timestamp", str(1000 + n), "--quiet") == 0
    return [str(place / f"out/hello@{version}/hello@{version}.minimal.json") for version in versions]


def _index(place: Path, *minimals: str) -> int:
    return main(["index", "hello", "--key", str(place / "key"), "--out", str(place / "out"), "--json", *minimals])


def test_an_index_lists_the_newest_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minimals = _releases(place, "1.0.0", "2.0.0-rc.1", "1.10.0", "1.9.0")
    capsys.readouterr()
    assert _index(place, *minimals) == 0
    report = _json(capsys)
    assert report["versions"] == ["2.0.0-rc.1", "1.10.0", "1.9.0", "1.0.0"]
    assert (report["newest"], report["seq"], report["leftOut"]) == ("1.10.0", 1003, 0)
    index = place / "out" / "hello.index.dht.json"
    assert main(["inspect", str(index), "--publisher", report["pubkey"], "--json"]) == 0
    assert _json(capsys)["says"]["versions"] == report["versions"]
    assert main(["inspect", str(index), "--json"]) == 0
    assert "v" in _json(capsys)["unverified"]
    other = "ed25519:" + "A" * 43 + "="
    assert main(["inspect", str(index), "--publisher", other, "--json"]) == 20


def test_the_folder_of_an_index_is_made_as_that_of_a_build_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minimals = _releases(place, "1.0.0")
    line = ["index", "hello", "--key", str(place / "key"), *minimals]
    assert main([*line, "--out", str(place / "new/deep")]) == 0
    assert [path.name for path in (place / "new/deep").iterdir()] == ["hello.index.dht.json"]
    assert main([*line, "--out", str(place / "key/deep")]) == 50  # below a file
    assert "is not a directory" in capsys.readouterr().err


def test_a_changed_index_gets_a_higher_sequence_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minimals = _releases(place, "1.0.0", "1.1.0")
    capsys.readouterr()
    assert _index(place, *minimals) == 0
    first = (place / "out" / "hello.index.dht.json").read_bytes()
    assert _json(capsys)["seq"] == 1001
    assert _index(place, *minimals) == 0
    assert (place / "out" / "hello.index.dht.json").read_bytes() == first, "the same list is the same index"
    capsys.readouterr()
    assert _index(place, minimals[1]) == 0
    assert _json(capsys)["seq"] == 1002


def test_an_index_of_what_does_not_belong(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (minimal,) = _releases(place, "1.0.0")
    assert main(["keygen", "--out", str(place / "other"), "--no-passphrase"]) == 0
    capsys.readouterr()
    assert main(["index", "other", "--key", str(place / "key"), "--json", minimal]) == 20
    assert _json(capsys)["reason"] == "index.name"
    assert main(["index", "hello", "--key", str(place / "other"), "--json", minimal]) == 20
    assert _json(capsys)["reason"] == "index.key"
    assert main(["index", "Hello", "--key", str(place / "key"), "--json", minimal]) == 2
    capsys.readouterr()
    assert main(["index", "hello", "--key", str(place / "key"), "--json", str(place / "no.json")]) == 10
    capsys.readouterr()
    assert not list(place.rglob("*.index.dht.json"))


# --- inspect -----------------------------------------------------------------------------------------------------


def test_inspect_marks_what_a_lone_file_cannot_prove(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--quiet") == 0
    capsys.readouterr()
    lone = place / "lone"
    lone.mkdir()
    for path in (place / "out" / "hello@1.0.0").iterdir():
        shutil.copy(path, lone / path.name.replace("hello@1.0.0", path.suffixes[-1][1:] + str(len(path.suffixes))))
    for path in sorted(lone.iterdir()):
        assert main(["inspect", str(path), "--json"]) == 0, path.name
        assert _json(capsys)["unverified"], path.name


def test_inspect_shows_no_secret(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = json.loads((place / "key").read_bytes())["seed"]
    assert main(["inspect", str(place / "key")]) == 0
    out, err = capsys.readouterr()
    assert seed not in out + err
    assert "ed25519:" in out


@pytest.mark.parametrize(
    ("name", "content", "exit_code"),
    [
        ("x.minimal.json", b"{}", 20),
        ("x.dht.json", b"{}", 20),
        ("x.index.dht.json", b"[]", 20),
        ("x.chunks", b"", 30),
        ("x.parity", b"x", 30),
        ("x.torrent", b"d1:ai1ee", 30),
        ("x.torrent", b"d4:infode", 30),
        ("x.torrent", b"d4:infod4:name1:x12:piece lengthleee", 30),
        ("x.tgz", b"", 30),
        ("x.tgz", b"PK", 30),
        ("manifest.json", b"{}", 30),
        ("notes.txt", b"hello", 2),
        ("x.silexium.json", b"{}", 40),
        ("x.release.json", b"[]", 40),
        ("x.author.json", b"{}", 40),
        ("x.server.json", b'{"created_at":1}', 40),
    ],
)
def test_inspect_of_rubbish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, exit_code: int
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["inspect", str(tmp_path / name), "--json"]) == exit_code
    assert _json(capsys)["exit"] == exit_code
    (tmp_path / name).unlink()
    assert main(["inspect", str(tmp_path / name), "--json"]) == 10


def test_the_command_as_a_process(place: Path) -> None:
    """Entry point, stdout and stderr as the system sees them."""
    program = shutil.which("libreseed-packager", path=os.path.dirname(sys.executable))
    assert program is not None
    result = subprocess.run(
        [program, "build", "tree", "--name", "hello", "--version", "1.0.0", "--key", "key", "--out", "out"],
        cwd=place,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("release    hello@1.0.0\n")
    result = subprocess.run([program, "--help"], capture_output=True, check=False, text=True, timeout=60)
    assert result.returncode == 0
    assert "examples:" in result.stdout
    assert subprocess.run([program], capture_output=True, check=False, timeout=60).returncode == 2


@pytest.mark.slow
def test_ctrl_c_at_any_moment_leaves_the_whole_release_or_nothing(place: Path) -> None:
    """No seam is chosen here: the real program, interrupted ever later until it finishes unharmed."""
    (place / "tree" / "noise").write_bytes(os.urandom(8 * 2**20))
    before = sorted(place.rglob("*"))
    line = [*COMMAND, "build", "tree", "--name", "hello", "--version", "1.0.0", "--key", "key", "--out", "a/out"]
    codes = []
    for n in range(40):
        with subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                process.wait(timeout=0.15 + 0.05 * n)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        codes.append(process.returncode)
        if process.returncode == 0:
            assert os.listdir(place / "a" / "out") == ["hello@1.0.0"]
            break
        if "libreseed-packager: interrupted" in err:  # else it came while Python itself was starting
            assert process.returncode == 130
            assert "Traceback" not in err
        if (place / "a" / "out" / "hello@1.0.0").exists():  # it came behind the rename: the release is whole
            assert len(os.listdir(place / "a" / "out" / "hello@1.0.0")) == 6
            break
        assert sorted(place.rglob("*")) == before
    assert codes[-1] in (0, 130) and 130 in codes


@pytest.mark.parametrize(("second", "code"), [("sesame", 0), ("sesamo", 3), ("", 3)])
def test_a_person_types_the_passphrase_twice(place: Path, second: str, code: int) -> None:
    terminal, end = os.openpty()
    with subprocess.Popen(
        [*COMMAND, "keygen", "--out", "typed"],
        cwd=place,
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that /dev/tty is not the tester's own
    ) as process:
        assert process.stderr is not None
        for prompt, answer in (("New passphrase: ", "sesame"), ("The same again: ", second)):
            assert process.stderr.read(len(prompt)) == prompt
            os.write(terminal, answer.encode() + b"\n")
            assert process.stderr.read(1) == "\n"
        out, err = process.communicate(timeout=60)
    os.set_blocking(terminal, False)
    with contextlib.suppress(BlockingIOError):  # nothing at all was echoed
        assert b"sesam" not in os.read(terminal, 1000)
    os.close(end)
    os.close(terminal)
    assert process.returncode == code, err
    assert (place / "typed").exists() == (code == 0)
    assert out.startswith("ed25519:") == (code == 0)


# --- what a Silexium server takes in -------------------------------------------------------------------------------


def test_build_writes_the_folder_of_a_silexium_server_only_when_asked(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert _build(place, "--silexium", "--license", "MIT", "--channel", "beta", "--json") == 0
    report = _json(capsys)
    out = place / "out"
    assert sorted(os.listdir(out)) == ["hello@1.0.0", "hello@1.0.0.silexium"]
    assert {path.name.removeprefix("hello@1.0.0") for path in (out / "hello@1.0.0").iterdir()} == SUFFIXES
    made, sheet = read_release_sheet(out / "hello@1.0.0.silexium")
    assert sorted(os.listdir(made.folder)) == ["hello@1.0.0.author.json", "hello@1.0.0.release.json", "release.toml"]
    assert (sheet.channel, sheet.license, sheet.created_at) == ("beta", "MIT", 1_700_000_000)
    manifest = made.build_manifest(sheet, measure_source(made.find_tgz()))
    assert manifest.data == made.manifest.read_bytes()
    attestation = made.read_author(manifest, PublicKey.parse(report["pubkey"]))  # the packager's key
    assert report["silexium"] == {
        "path": str(made.folder),
        "attestation": str(attestation.digest),
        "keyId": str(attestation.key_id),
    }
    assert _build(place, "--silexium", "--license", "MIT", "--channel", "beta", out="again") == 0
    for path in made.folder.iterdir():
        assert path.read_bytes() == (place / "again" / made.folder.name / path.name).read_bytes()


def test_inspect_of_silexiums_files_says_what_each_cannot_prove(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _build(place, "--silexium", "--license", "MIT", "--json") == 0
    pubkey = _json(capsys)["pubkey"]
    folder = place / "out" / "hello@1.0.0.silexium"
    author = str(folder / "hello@1.0.0.author.json")
    assert main(["inspect", author, "--json"]) == 0
    alone = _json(capsys)
    assert (alone["kind"], alone["says"]["role"], set(alone["unverified"])) == (
        "attestation",
        "author",
        {"role", "keyId", "createdAt", "payload"},
    )
    assert main(["inspect", author, "--publisher", pubkey, "--json"]) == 0
    assert set(_json(capsys)["unverified"]) == {"createdAt", "payload"}
    other = "ed25519:" + "A" * 42 + "E="
    assert main(["inspect", author, "--publisher", other, "--json"]) == 40
    assert _json(capsys)["reason"] == "silexium.key-unknown"
    assert main(["inspect", str(folder / "hello@1.0.0.release.json"), "--json"]) == 0
    manifest = _json(capsys)
    assert (manifest["kind"], manifest["says"]["release"]) == ("release manifest", "hello@1.0.0")
    assert "manifest" not in manifest["unverified"]

    bundle = place / "hello@1.0.0.silexium.json"
    bundle.write_bytes(Draft().bundle().data)
    assert main(["inspect", str(bundle), "--json"]) == 0
    shown = _json(capsys)
    assert (shown["kind"], shown["says"]["log"]) == (
        "Silexium bundle",
        "log.example/silexium-b3, 16 entries, 2026-09-21T16:13:20Z",
    )
    assert shown["unverified"].keys() == shown["says"].keys()  # whoever made a bundle is not trusted


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--silexium"], (2, "usage")),
        (["--channel", "beta"], (2, "usage")),
        (["--silexium", "--license", "MIT", "--channel", "No Channel"], (40, "silexium.manifest")),
    ],
)
def test_a_release_that_cannot_be_attested_is_not_built_at_all(
    place: Path, capsys: pytest.CaptureFixture[str], flags: list[str], expected: tuple[int, str]
) -> None:
    code = _build(place, *flags, "--json")
    assert (code, _json(capsys)["reason"]) == expected
    assert not (place / "out").exists()


def test_a_silexium_folder_that_exists_is_never_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "out" / "hello@1.0.0.silexium").mkdir(parents=True)
    code = _build(place, "--silexium", "--license", "MIT", "--json")
    assert (code, _json(capsys)["reason"]) == (50, "storage.exists")
    assert os.listdir(place / "out") == ["hello@1.0.0.silexium"]


def test_a_dry_run_leaves_no_silexium_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _build(place, "--silexium", "--license", "MIT", "--dry-run", "--json") == 0
    assert _json(capsys)["silexium"]["path"] is None
    assert not (place / "out").exists()
