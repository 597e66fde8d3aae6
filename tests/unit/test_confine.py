"""The one place where a path from outside becomes a path on this disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed.adapters.files.confine import ConfinedDirectory, confine
from libreseed.errors import ContentRejected

_EVIL = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "C:\\x",
    "c:x",
    "a\\..\\b",
    "a\0b",
]
_EVIL += ["a\nb", "\u202e", "a" * 256, "/".join("a" * 65), "a\udc80"]


@pytest.mark.parametrize("path", _EVIL)
def test_evil_paths_are_refused_not_rewritten(path: str, tmp_path: Path) -> None:
    with pytest.raises(ContentRejected):
        confine(path)
    with ConfinedDirectory(tmp_path) as directory, pytest.raises(ContentRejected):
        directory.create(path)
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.sampled_from("a./\\:~\0é"), max_size=12))
def test_what_is_accepted_stays_below_its_root(path: str) -> None:
    try:
        segments = confine(path)
    except ContentRejected:
        return
    assert "/".join(segments) == path
    assert os.path.normpath(path) == path
    assert not path.startswith(("/", "../"))


def _write(directory: ConfinedDirectory, path: str) -> None:
    descriptor = directory.create(path)
    os.write(descriptor, path.encode())
    os.close(descriptor)


def test_files_are_made_with_their_folders(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with ConfinedDirectory(tmp_path) as directory:
        for path in ("a", "d-e", "d/e/f", "d/e/g", "d/h", "z/y/x"):
            _write(directory, path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a", "d-e", "d/e/f", "d/e/g", "d/h", "z/y/x"}
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("target", ["file", "folder", "dangling link", "link to a folder"])
def test_nothing_that_is_there_is_used_or_replaced(target: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    if target == "file":
        (root / "d").touch()
    elif target == "folder":
        (root / "d").mkdir()
    else:
        (root / "d").symlink_to("../nowhere" if target == "dangling link" else "../outside")
    for path in ("d", "d/e"):
        with ConfinedDirectory(root) as directory, pytest.raises(ContentRejected) as caught:
            directory.create(path)
        assert caught.value.reason == "archive.collision"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["d", "outside", "root"]


def test_a_folder_renamed_away_under_us_does_not_redirect_later_files(tmp_path: Path) -> None:
    """The open descriptor is the folder, not its name: files follow the folder that was made, never a planted link."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    with ConfinedDirectory(root) as directory:
        _write(directory, "d/a")
        (root / "d").rename(root / "moved")
        (root / "d").symlink_to(tmp_path / "outside")
        _write(directory, "d/b")
    assert sorted(path.name for path in (root / "moved").iterdir()) == ["a", "b"]
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        ConfinedDirectory(tmp_path / "link")
