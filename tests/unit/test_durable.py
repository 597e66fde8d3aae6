"""Durable writes: whole or not at all, never over what exists, nothing left behind, leftovers of a crash removable."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libreseed.adapters.files import durable
from libreseed.errors import LocalFault


def test_write_creates_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    durable.durable_write(path, b"one")
    durable.durable_write(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state.json"]


class _FullDisk:
    """Stands in for ``os.fsync``: the place where a full disk or a dying one shows itself."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, descriptor: int) -> None:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("write", [durable.durable_write, durable.durable_create])
def test_a_failed_write_leaves_the_old_content_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, write: object
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(durable.os, "fsync", _FullDisk(code))
    with pytest.raises(OSError) as caught:
        write(path, b"new")  # type: ignore[operator]  # one of two functions
    assert caught.value.errno == code
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_create_refuses_what_exists_even_a_dangling_link(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        durable.durable_create(path, b"new")
    assert os.listdir(tmp_path) == ["key"]


def test_a_temporary_name_is_no_longer_than_a_file_system_allows(tmp_path: Path) -> None:
    durable.durable_write(tmp_path / ("x" * 255), b"data")
    assert os.listdir(tmp_path) == ["x" * 255]


def test_publish_is_one_rename_of_all(tmp_path: Path) -> None:
    with durable.staging_directory(tmp_path) as staging:
        assert stat.S_IMODE(staging.stat().st_mode) == 0o700
        (staging / "a").write_bytes(b"a")
        durable.publish_directory(staging, tmp_path / "final")
    assert os.listdir(tmp_path) == ["final"]
    assert (tmp_path / "final" / "a").read_bytes() == b"a"
    assert stat.S_IMODE((tmp_path / "final").stat().st_mode) == 0o755


@pytest.mark.parametrize("occupied_by", ["file", "empty directory", "directory", "dangling link"])
def test_publish_never_replaces(tmp_path: Path, occupied_by: str) -> None:
    final = tmp_path / "final"
    if occupied_by == "file":
        final.write_bytes(b"old")
    elif occupied_by == "dangling link":
        final.symlink_to("nowhere")
    else:
        final.mkdir()
        if occupied_by == "directory":
            (final / "old").write_bytes(b"old")
    before = final.lstat()
    with pytest.raises(LocalFault) as caught, durable.staging_directory(tmp_path) as staging:
        durable.publish_directory(staging, final)
    assert caught.value.reason == "storage.exists"
    assert os.listdir(tmp_path) == ["final"]
    assert final.lstat().st_ino == before.st_ino


def test_staging_is_removed_on_every_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), durable.staging_directory(tmp_path) as staging:
        locked = staging / "deep" / "locked"
        locked.mkdir(parents=True)
        (locked / "file").write_bytes(b"x")
        locked.chmod(0o500)
        (staging / "link").symlink_to(tmp_path)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_living_one_kept(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from libreseed.adapters.files.durable import staging_directory\n"
        "with staging_directory(pathlib.Path(sys.argv[1])) as staging:\n"
        "    (staging / 'half').write_bytes(b'x')\n"
        "    print(staging, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        staging = Path(process.stdout.readline().strip())
        assert durable.remove_leftovers(tmp_path) == []
        assert (staging / "half").exists()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert durable.remove_leftovers(tmp_path) == [staging]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("moment", ["open", "flock"])
def test_who_clears_up_beside_a_process_that_begins_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before the directory is locked it looks like a dead process's; another one is taken then."""
    place = {"open": os, "flock": durable.fcntl}[moment]
    real, removed = getattr(place, moment), list[Path]()

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        removed.extend(durable.remove_leftovers(tmp_path))
        return real(*arguments)

    monkeypatch.setattr(place, moment, late)
    with durable.staging_directory(tmp_path) as staging:
        assert removed and staging not in removed
        assert list(tmp_path.iterdir()) == [staging]
        assert durable.remove_leftovers(tmp_path) == []
    assert os.listdir(tmp_path) == []


def test_a_planted_link_is_no_leftover(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / (durable.STAGING_PREFIX + "0")).symlink_to(precious)
    (tmp_path / (durable.STAGING_PREFIX + "1")).write_bytes(b"a file")
    assert durable.remove_leftovers(tmp_path) == []
    assert precious.is_dir()


def test_a_batch_writes_whole_files_for_everybody_to_read(tmp_path: Path) -> None:
    """Whatever the umask of who writes: a web server of another user serves them."""
    before = os.umask(0o077)
    try:
        batch = durable.DurableBatch(tmp_path / "log")
        for name, data in (("a/b/one", b"1"), ("a/b/two", b"2"), ("three", b"3"), ("three", b"33")):
            batch.write(name, data)
        batch.commit()
    finally:
        os.umask(before)
    found = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert found == {
        **dict.fromkeys(("log", "log/a", "log/a/b"), 0o755),
        **dict.fromkeys(("log/a/b/one", "log/a/b/two", "log/three"), 0o644),
    }
    assert (tmp_path / "log" / "three").read_bytes() == b"33"


def test_a_batch_is_synced_file_by_file_or_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(durable, "_sync_all", lambda files, folders: synced.extend(path.name for path in files))
    monkeypatch.setattr(durable.os, "sync", lambda: synced.append("everything"))
    monkeypatch.setattr(durable, "_SYNC_EACH", 2)
    batch = durable.DurableBatch(tmp_path)
    for names in (["a"], ["b", "c", "d"], ["e", "f"]):
        for name in names:
            batch.write(name, b"")
        batch.commit()
    assert synced == ["a", "everything", "e", "f"]


def test_a_file_of_a_batch_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    batch = durable.DurableBatch(tmp_path)
    with pytest.raises(OSError):
        batch.write("taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_directory_is_replaced_by_another_and_stays_in_its_staging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:  # a file system that cannot
        monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    final = tmp_path / "final"
    for content in ("one", "two"):
        with durable.staging_directory(tmp_path) as staging:
            (staging / "file").write_text(content)
            durable.replace_directory(staging, final)
            assert [path.read_text() for path in staging.glob("file")] == ["one"] * (content == "two")
        assert (final / "file").read_text() == content
        assert stat.S_IMODE(final.stat().st_mode) == 0o755
        assert os.listdir(tmp_path) == ["final"]


@pytest.mark.parametrize("what", ["file", "link"])
def test_nothing_but_a_directory_is_replaced(tmp_path: Path, what: str) -> None:
    final = tmp_path / "final"
    (tmp_path / "elsewhere").mkdir()
    if what == "file":
        final.write_text("mine")
    else:
        final.symlink_to(tmp_path / "elsewhere")
    with durable.staging_directory(tmp_path) as staging, pytest.raises(LocalFault) as raised:
        durable.replace_directory(staging, final)
    assert raised.value.reason == "storage.exists"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "final"]


def test_a_system_that_takes_no_hint_to_begin_writing_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a filter of system calls, or on a file system that has nothing of the kind."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    with (tmp_path / "file").open("wb") as file:
        file.write(b"data")
        durable.begin_writing(file.fileno())
