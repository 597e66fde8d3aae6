"""``libreseed-silexium headers``: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.silexium import cli
from tests.unit.silexium.test_header_store import mined

HEADERS = 30


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "headers.bin"
    path.write_bytes(mined(HEADERS))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, object]]:
    code = cli.main(["headers", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_file_is_imported_and_shown(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--dir", tmp_path / "store", "--network", "regtest"]
    code, told = run(capsys, "import", file, *place, "--quiet")
    assert (code, told["added"], told["tip"], told["settled"]) == (0, HEADERS + 1, HEADERS, 0)
    assert run(capsys, "import", file, *place)[1]["added"] == 0
    code, told = run(capsys, "status", *place)
    assert code == 0
    assert told == {
        "ok": True,
        "network": "regtest",
        "folder": str(tmp_path / "store"),
        "base": 0,
        "tip": HEADERS,
        "count": HEADERS + 1,
        "settled": 0,
        "work": f"{2 * (HEADERS + 1):x}",
        "tip_time": "2011-02-03T04:16:42Z",
    }
    assert cli.main(["headers", "status", *map(str, place)]) == 0
    assert "regtest proves nothing" in capsys.readouterr().out


def test_an_empty_store_is_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, "status", "--dir", tmp_path / "none")
    assert (code, told["count"], told["tip"], told["network"]) == (0, 0, None, "mainnet")
    assert not (tmp_path / "none").exists()  # looking makes nothing


def test_headers_of_another_network_are_refused(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, "import", file, "--dir", tmp_path / "store")
    assert (code, told["reason"]) == (40, "silexium.header-pin")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ([], 2, "usage"),
        (["x.bin", "--url", "http://127.0.0.1/"], 2, "usage"),
        (["x.bin", "--rpc-cookie", "c"], 2, "usage"),
        (["x.bin", "--base", "-1"], 2, "usage"),
        (["x.bin", "--network", "testnet"], 2, "usage"),
        (["missing.bin"], 10, "notfound.file"),
        (["--url", "ftp://127.0.0.1/"], 3, "http.url"),
        (["--rpc", "http://127.0.0.1:9", "--rpc-cookie", "missing"], 10, "notfound.file"),
        (["--rpc", "http://127.0.0.1:9"], 11, "http.unreachable"),
    ],
)
def test_mistakes_have_their_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, reason: str
) -> None:
    got, told = run(capsys, "import", *arguments, "--dir", tmp_path / "store")
    assert (got, told["reason"]) == (code, reason)


def test_a_damaged_store_is_told(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--dir", tmp_path / "store", "--network", "regtest"]
    run(capsys, "import", file, *place)
    with (tmp_path / "store" / "headers-regtest.bin").open("r+b") as data:
        data.write(b"x")
    code, told = run(capsys, "status", *place)
    assert (code, told["reason"]) == (50, "storage.headers")


def test_a_cookie_that_is_none_is_a_fault_of_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate((b"", b"no colon", b"a:\xff\n", b"a:b\x00", b"a:" + b"b" * 2000)):
        cookie = tmp_path / f"cookie{number}"
        cookie.write_bytes(content)
        more = ["--rpc", "http://127.0.0.1:9", "--rpc-cookie", cookie, "--dir", tmp_path / "store"]
        code, told = run(capsys, "import", *more)
        assert (code, told["reason"]) == (3, "config.node"), content
