"""Key files on disk: created once with mode 0600, read only when nobody else can; passphrases and LIBRESEED_KEY."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from libreseed.adapters.command import keys
from libreseed.errors import LibreSeedError, NotFound, UsageFault
from libreseed.keys.keyfile import Cost

CHEAP = Cost(1, 8 * 2**10)


def _never() -> bytes:
    raise AssertionError("no passphrase is needed")


def _reason(*arguments: object) -> str:
    with pytest.raises(LibreSeedError) as caught:
        keys.signing_key(*arguments)  # type: ignore[arg-type]  # rows of a table
    return caught.value.reason


def test_a_new_key_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.create_key(tmp_path / "key", None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("occupied_by", ["file", "directory", "dangling link"])
def test_nothing_is_ever_overwritten(tmp_path: Path, occupied_by: str) -> None:
    path = tmp_path / "key"
    if occupied_by == "file":
        path.write_bytes(b"precious")
    elif occupied_by == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageFault) as caught:
        keys.create_key(path, None)
    assert caught.value.reason == "key.exists"
    assert os.listdir(tmp_path) == ["key"]
    assert occupied_by != "file" or path.read_bytes() == b"precious"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    keys.create_key(path, None)
    path.chmod(mode)
    assert _reason(str(path), _never, {}) == "key.permissions"


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    keys.create_key(path, None)
    somebody_else = os.geteuid() + 1  # root alone could give the file away instead
    monkeypatch.setattr(keys.os, "geteuid", lambda: somebody_else)
    assert _reason(str(path), _never, {}) == "key.permissions"


def test_a_missing_key_a_directory_and_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        keys.read_key_file(tmp_path / "nothing")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(UsageFault) as caught:
            keys.read_key_file(tmp_path / name)
        assert caught.value.reason == "key.malformed"


def test_a_link_to_a_private_file_is_followed(tmp_path: Path) -> None:
    made = keys.create_key(tmp_path / "key", None)
    (tmp_path / "link").symlink_to("key")
    assert keys.signing_key(str(tmp_path / "link"), _never, {}) == made


def test_the_variable_holds_a_path_or_the_text(tmp_path: Path) -> None:
    made = keys.create_key(tmp_path / "key", None)
    text = (tmp_path / "key").read_text()
    for value in (str(tmp_path / "key"), text, text.strip(), f"\n {text}\n"):
        assert keys.signing_key(None, _never, {keys.KEY_VARIABLE: value}) == made


def test_the_flag_wins_over_the_variable(tmp_path: Path) -> None:
    made = keys.create_key(tmp_path / "key", None)
    assert keys.signing_key(str(tmp_path / "key"), _never, {keys.KEY_VARIABLE: "{}"}) == made


def test_sealed_text_in_the_variable_asks_for_the_passphrase(tmp_path: Path) -> None:
    made = keys.create_key(tmp_path / "key", b"sesame", cost=CHEAP)
    environ = {keys.KEY_VARIABLE: (tmp_path / "key").read_text()}
    assert keys.signing_key(None, lambda: b"sesame", environ) == made
    assert _reason(None, lambda: b"sesamo", environ) == "key.passphrase"


def test_no_key_and_bad_text(tmp_path: Path) -> None:
    assert _reason(None, _never, {}) == "key.missing"
    assert _reason(None, _never, {keys.KEY_VARIABLE: " \n"}) == "key.missing"
    assert _reason(None, _never, {keys.KEY_VARIABLE: "{}"}) == "key.malformed"
    assert _reason(None, _never, {keys.KEY_VARIABLE: str(tmp_path / "no")}) == "notfound.file"


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [(b"sesame", b"sesame"), (b"sesame\n", b"sesame"), (b"sesame\r\n", b"sesame"), (b" a b \n\n", b" a b \n")],
)
def test_passphrase_file(tmp_path: Path, content: bytes, passphrase: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    assert keys.passphrase_source(str(tmp_path / "p"), {})() == passphrase
    assert keys.new_passphrase(None, {"LIBRESEED_PASSPHRASE_FILE": str(tmp_path / "p")}) == passphrase


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 1025])
def test_passphrase_file_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(UsageFault) as caught:
        keys.new_passphrase(str(tmp_path / "p"), {})
    assert caught.value.reason == "key.passphrase"


def test_without_a_terminal_nothing_waits_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sesame\n"))
    with pytest.raises(UsageFault, match="no terminal"):
        keys.passphrase_source(None, {})()
