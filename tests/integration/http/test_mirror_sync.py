"""Sync: releases come from other mirrors or the swarm, are judged, and only then are there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libreseed.adapters.release.release_folder import ReleaseFiles, verify_release
from libreseed.keys.ed25519 import PrivateKey
from services.mirror import cli
from services.mirror.library import STATE_FOLDER
from tests.mirror_daemon_support import big_release, mirror_process
from tests.release_support import KEY, TIMESTAMP
from tests.release_support import make_release as make_files
from tests.seeder_support import command, flip, loopback, make_release, running, until

pytestmark = pytest.mark.integration


def sync(store: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    code = cli.main(["sync", "--store", str(store), "--quiet", "--json", "--silence", "10", *arguments])
    return code, json.loads(capsys.readouterr().out)


def shown(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name != STATE_FOLDER)


def test_everything_listed_is_pulled_whole_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big_release(tmp_path / "store", size=2_000_000)
    big_release(tmp_path / "store", "tiny@2.0.0", size=10, seed=2)
    (tmp_path / "mine").mkdir()
    with mirror_process(tmp_path / "store") as source:
        until(lambda: source.text().count(": whole") == 2)
        line = ("--from", source.url, "--publisher", str(KEY.public))
        code, first = sync(tmp_path / "mine", *line, capsys=capsys)
        assert code == 0, first
        code, again = sync(tmp_path / "mine", *line, capsys=capsys)
    assert code == 0 and again == {"ok": True, "added": [], "failed": {}, "kept": ["hello@1.0.0", "tiny@2.0.0"]}
    for name in ("hello@1.0.0", "tiny@2.0.0"):
        for path in (tmp_path / "store" / name).iterdir():
            assert (tmp_path / "mine" / name / path.name).read_bytes() == path.read_bytes()
        assert verify_release(ReleaseFiles(tmp_path / "mine" / name, name)).complete
    assert shown(tmp_path / "mine") == ["hello@1.0.0", "tiny@2.0.0"]
    assert not list((tmp_path / "mine" / STATE_FOLDER / "sync").iterdir())


@pytest.mark.slow
def test_two_damaged_mirrors_together_suffice_and_a_damaged_copy_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = big_release(tmp_path / "one", size=2_000_000)
    whole = files.tgz.read_bytes()
    for name in ("two", "mine"):
        shutil.copytree(files.folder, tmp_path / name / "hello@1.0.0")
    for name, chunks in (("one", range(0, 200)), ("two", range(200, 380)), ("mine", range(0, 380))):
        flip(tmp_path / name / "hello@1.0.0/hello@1.0.0.tgz", *(chunk * 5120 for chunk in chunks))
    with mirror_process(tmp_path / "one") as one, mirror_process(tmp_path / "two") as two:
        until(lambda: "damaged, coherence" in one.text() and "damaged, coherence" in two.text())
        line = ("hello@1.0.0", "--from", one.url, "--from", two.url, "--any-publisher")
        code, result = sync(tmp_path / "mine", *line, capsys=capsys)
    assert code == 0, result
    assert (tmp_path / "mine/hello@1.0.0/hello@1.0.0.tgz").read_bytes() == whole
    assert shown(tmp_path / "mine") == ["hello@1.0.0"]


@pytest.mark.parametrize(
    "damage",
    [pytest.param("beyond-repair", marks=pytest.mark.slow), "other-publisher", "unknown", "not-json", "dead"],
)
def test_what_fails_leaves_nothing_visible(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    files = big_release(tmp_path / "store", size=2_000_000)
    (tmp_path / "mine").mkdir()
    if damage == "beyond-repair":
        flip(files.tgz, *(chunk * 5120 for chunk in range(60)))
    publisher = PrivateKey(bytes(32)).public if damage == "other-publisher" else KEY.public
    with mirror_process(tmp_path / "store") as source:
        until(lambda: "hello@1.0.0: " in source.text())
        url = {"not-json": f"{source.url}/seed", "dead": "http://127.0.0.1:1"}.get(damage, source.url)
        names = {"unknown": ["other@1.0.0"], "not-json": []}.get(damage, ["hello@1.0.0"])
        line = [*names, "--from", url, "--publisher", str(publisher)]
        line += ["--silence", "3"] if damage == "beyond-repair" else []  # which alone waits for it
        code, result = sync(tmp_path / "mine", *line, capsys=capsys)
    expected = {"beyond-repair": (11, 31), "other-publisher": (21,), "unknown": (10,), "not-json": (10,), "dead": (11,)}
    assert code in expected[damage], result
    assert shown(tmp_path / "mine") == []


def test_another_release_under_a_held_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big_release(tmp_path / "store", size=20_000)
    mine = big_release(tmp_path / "mine", size=20_000, seed=2)
    before = mine.tgz.read_bytes()
    with mirror_process(tmp_path / "store") as source:
        until(lambda: ": whole" in source.text())
        code, result = sync(tmp_path / "mine", "--from", source.url, "--any-publisher", capsys=capsys)
    assert code == 20 and "mirror.other-release" in str(result["failed"])
    assert (result["ok"], result["reason"], result["exit"]) == (False, "mirror.other-release", 20)
    assert mine.tgz.read_bytes() == before


@pytest.mark.parametrize("broken", [False, True])
def test_a_publisher_who_is_mirrored_does_not_displace_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    """The sync of today may be told of other publishers than that of yesterday, and rot gives nobody a right."""
    stranger = PrivateKey(bytes(32))
    make_files(tmp_path, key=stranger, timestamp=TIMESTAMP + 1000)
    (tmp_path / "store").mkdir()
    (tmp_path / "hello@1.0.0").rename(tmp_path / "store/hello@1.0.0")
    mine = big_release(tmp_path / "mine", size=20_000)
    if broken:  # nothing of it can be judged
        mine.path(".chunks").write_bytes(b"")
        mine.path(".parity").unlink()
    before = mine.tgz.read_bytes()
    with mirror_process(tmp_path / "store") as source:
        until(lambda: ": whole" in source.text())
        for more in ((), ("--max-package-bytes", "10000")):  # less than the one that is here
            line = ("--from", source.url, "--publisher", str(stranger.public), *more)
            code, result = sync(tmp_path / "mine", *line, capsys=capsys)
            assert (code, result["reason"]) == (20, "mirror.other-release")
            assert (tmp_path / "mine/hello@1.0.0/hello@1.0.0.tgz").read_bytes() == before


def test_a_release_that_is_replaced_is_there_at_any_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the disk it takes seconds; a reader, or a kill, between two renames would find neither."""
    mine = big_release(tmp_path / "mine", size=20_000)
    (newer, _) = make_files(tmp_path, timestamp=TIMESTAMP + 1000)
    (tmp_path / "store").mkdir()
    newer.folder.rename(tmp_path / "store/hello@1.0.0")
    gaps: list[str] = []
    for name in ("fsync", "fdatasync", "mkdir"):
        original = getattr(os, name)

        def watched(*arguments: Any, original: Any = original, name: str = name, **options: Any) -> None:
            original(*arguments, **options)
            if not mine.tgz.exists():
                gaps.append(name)

        monkeypatch.setattr(os, name, watched)
    with mirror_process(tmp_path / "store") as source:
        until(lambda: ": whole" in source.text())
        code, result = sync(tmp_path / "mine", "--from", source.url, "--any-publisher", capsys=capsys)
    assert code == 0 and result["added"] == ["hello@1.0.0"]
    assert mine.tgz.read_bytes() == (tmp_path / "store/hello@1.0.0/hello@1.0.0.tgz").read_bytes()
    assert gaps == []
    assert shown(tmp_path / "mine") == ["hello@1.0.0"]
    assert list((tmp_path / "mine" / STATE_FOLDER / "sync").iterdir()) == []


@pytest.mark.slow
def test_a_sync_that_is_killed_shows_nothing_and_the_next_one_completes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = big_release(tmp_path / "store", size=30_000_000)
    mine = tmp_path / "mine"
    mine.mkdir()
    with mirror_process(tmp_path / "store") as source:
        until(lambda: ": whole" in source.text())
        line = ["sync", "--store", str(mine), "--from", source.url, "--any-publisher", "--quiet"]
        process = subprocess.Popen([sys.executable, "-m", "libreseed_services.mirror.cli", *line])
        until(lambda: process.poll() is not None or list((mine / STATE_FOLDER / "sync").glob("*/swarm/*.tgz")))
        process.kill()
        process.wait()
        assert shown(mine) in ([], ["hello@1.0.0"])
        code, result = sync(mine, "--from", source.url, "--any-publisher", capsys=capsys)
    assert code == 0, result
    assert (mine / "hello@1.0.0/hello@1.0.0.tgz").read_bytes() == files.tgz.read_bytes()
    assert shown(mine) == ["hello@1.0.0"]


@pytest.mark.slow
def test_a_release_comes_from_the_swarm_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = make_release(tmp_path / "made", size=2_000_000)
    minimal = json.loads((release / "demo@1.0.0.minimal.json").read_bytes())
    (tmp_path / "mine").mkdir()
    capsys.readouterr()
    with running(tmp_path / "seeder", "--bootstrap", "127.0.0.1:9") as seeder:
        assert command("add", release, "--state-dir", seeder.state).returncode == 0
        until(lambda: seeder.only()["state"] == "seeding")
        host, port = seeder.tcp()
        line = ["demo@1.0.0", "--publisher", minimal["pubkey"], "--listen-host", loopback()]
        line += ["--bootstrap", seeder.dht(), "--peer", f"{host}:{port}"]
        code, result = sync(tmp_path / "mine", *line, capsys=capsys)
    assert code == 0, result
    for path in release.iterdir():
        assert (tmp_path / "mine/demo@1.0.0" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--any-publisher"],
        ["--from", "https://a.example"],
        ["--from", "https://a.example", "--any-publisher", "--publisher", "ed25519:x"],
        ["hello", "--from", "https://a.example", "--any-publisher"],
        ["--bootstrap", "127.0.0.1:1", "--any-publisher"],
        ["--from", "https://a.example", "--any-publisher", "--silence", "0"],
    ],
)
def test_a_users_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cli.main(["sync", "--store", str(tmp_path), *arguments]) == 2
    assert "[usage]" in capsys.readouterr().err
