"""The commands ``log``, ``mirror`` and ``witness`` as processes, against each other, as operators run them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libreseed.keys.keyfile import KeyFile
from libreseed.silexium.log_entry import LogEntry
from libreseed.silexium.tree_head import parse_checkpoint
from services.silexium.cli import main
from tests.daemon_support import DaemonProcess, daemon_process
from tests.log_kill_support import Told, kill_cosigners, kill_writers
from tests.log_support import exported, files
from tests.silexium_support import LOG, LOG_KEY, WITNESS_KEYS, WITNESSES, Draft
from tests.tools import require_program

pytestmark = pytest.mark.integration


@dataclass
class Desk:
    """The working folder with the log's key and some entries; ``run`` runs a command in it, in this process."""

    root: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: object, code: int = 0) -> dict[str, Any]:
        found = main([*map(str, words), "--json"])
        output, errors = self.capture.readouterr()
        assert found == code, (found, output, errors)
        return dict(json.loads(output)) if output else {}

    def append(self, *numbers: int) -> dict[str, Any]:
        return self.run(
            *("log", "append", *(f"e{number}.json" for number in numbers)),
            *("--origin", LOG.name, "--log-key", "log.key"),
        )

    @contextmanager
    def serving(self, *words: object) -> Iterator[str]:
        line = [sys.executable, "-m", "libreseed_services.silexium.cli", *map(str, words)]
        process = subprocess.Popen(line, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, process.communicate(timeout=10)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors, errors


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LIBRESEED_")]:
        monkeypatch.delenv(name)
    for kind in ("DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    for name, key in (("log", LOG_KEY), *WITNESS_KEYS.items()):
        (tmp_path / f"{name}.key").write_bytes(KeyFile(key.public, seed=key.seed).data)
        (tmp_path / f"{name}.key").chmod(0o600)
    first = Draft().bundle().entry
    for number in range(5):
        (tmp_path / f"e{number}.json").write_bytes(LogEntry(first.replace(b"1.0.0", b"1.0.%d" % number)).data)
    return Desk(tmp_path, capsys)


IDENTITY = ("--log", LOG.name, LOG.key)


def test_a_log_is_kept_proven_checked_and_exported(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.append(0, 1)["indices"] == [0, 1]
    assert desk.append(1, 2)["indices"] == [1, 2]  # the known one stays where it is
    monkeypatch.setattr(sys, "stdin", (desk.root / "e3.json").open())
    desk.run("log", "append", "-", "--no-sign", "--origin", LOG.name, "--log-key", "log.key")
    sys.stdin.close()
    head = desk.run("log", "head")
    assert head["sth"]["tree_size"] == 3
    assert parse_checkpoint(head["checkpoint"].encode(), LOG).sth.members() == head["sth"]
    desk.run("log", "head", "--sign", "--origin", LOG.name, "--log-key", "log.key")
    by_index, by_file = desk.run("log", "prove", "2"), desk.run("log", "prove", "e2.json")
    assert by_index == by_file and by_index["inclusion"]["tree_size"] == 4
    assert desk.run("log", "prove", by_index["entry_hash"]) == by_index
    assert desk.run("log", "prove", "--old", "3")["consistency"]["old_size"] == 3
    assert desk.run("log", "fsck")["size"] == 4
    assert desk.run("log", "audit")["entries"] == 4
    assert desk.run("log", "export", "public")["new_entries"] == 4
    assert desk.run("log", "backup", "b.db")["bytes"] > 0
    assert (desk.root / "data" / "silexium" / "silexium.db").is_file()


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("log", "head", "--database", "none.db"), 10, "notfound.file"),
        (("log", "prove", "9"), 10, "notfound.log"),
        (("log", "prove", "blake3:00"), 2, "usage"),
        (("log", "prove"), 2, "usage"),
        (("log", "prove", "--old", "x"), 2, "usage"),
        (("log", "prove", "--old", "0"), 40, "silexium.consistency"),
        (("log", "append", "log.key", "--origin", LOG.name, "--log-key", "log.key"), 40, "silexium.entry"),
        (("log", "append", "e1.json", "--origin", "x", "--log-key", "log.key"), 3, "config.log"),
        (("log", "append", "e1.json", "--origin", LOG.name), 3, "config.value"),
        (("log", "backup", "e0.json"), 50, "storage.exists"),
        (("log", "backup", "none/b.db"), 10, "notfound.file"),
        (("log", "recover", "none"), 10, "notfound.file"),
        (("log", "cosign"), 3, "config.value"),
        (("mirror", "public", "--out", "m"), 2, "usage"),
        (("mirror", "public", "--out", "m", "--log", LOG.name, "ed25519:x"), 2, "usage"),
        (("mirror", "public", "--out", "m", "--serve", "127.0.0.1:0", "--every", "0", *IDENTITY), 2, "usage"),
        (("mirror", "ftp://x/", "--out", "m", *IDENTITY), 2, "usage"),
        (("mirror", "none", "--out", "m", *IDENTITY), 10, "notfound.log"),
        (("mirror", "http://127.0.0.75:9", "--out", "m", *IDENTITY), 11, "http.unreachable"),
        (
            ("witness", "cosign", "none", "--name", "w", "--key", f"{WITNESSES[0].name}.key", *IDENTITY),
            10,
            "notfound.file",
        ),
        (("witness", "cosign", "none", "--name", "w", "--key", "log.key", *IDENTITY), 3, "config.value"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(desk: Desk, words: tuple[str, ...], code: int, reason: str) -> None:
    desk.append(0)
    outcome = desk.run(*words, code=code)
    assert outcome["reason"] == reason and outcome["remedy"]
    assert not (desk.root / "m" / "checkpoint").exists()


def test_a_mirror_is_served_and_mirrored_again(desk: Desk) -> None:
    desk.append(0, 1, 2)
    desk.run("log", "export", "public")
    assert desk.run("mirror", "public", "--out", "one", *IDENTITY)["new_entries"] == 3
    assert desk.run("mirror", "public", "--out", "one", *IDENTITY)["new_entries"] == 0
    with desk.serving("mirror", "public", "--out", "two", "--serve", "127.0.0.76:0", *IDENTITY) as url:
        assert desk.run("mirror", url, "--out", "three", *IDENTITY)["size"] == 3
        curl = require_program("curl")
        for path, status in (
            ("checkpoint", "200"),
            ("entries/2", "200"),
            ("entries/02", "404"),
            (".silexium/memory.json", "404"),
        ):
            line = [curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", f"{url}/{path}"]
            assert subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout == status
    assert files(desk.root / "public") == files(desk.root / "one") == files(desk.root / "three")


def test_a_mirror_starts_and_serves_what_it_has_when_its_source_is_away(desk: Desk) -> None:
    desk.append(0, 1)
    desk.run("log", "export", "public")
    away = "http://127.0.0.75:9"
    served = ("--serve", "127.0.0.76:0", *IDENTITY)
    assert desk.run("mirror", away, "--out", "m", *served, code=11)["reason"] == "http.unreachable"  # it has nothing
    desk.run("mirror", "public", "--out", "m", *IDENTITY)
    with desk.serving("mirror", away, "--out", "m", *served) as url:
        assert desk.run("mirror", url, "--out", "again", *IDENTITY)["size"] == 2


@pytest.mark.parametrize(("branch", "size", "reason"), [("", 2, "silexium.rollback"), ("b", 4, "silexium.fork")])
def test_a_log_that_takes_back_what_it_showed_cannot_keep_its_mirror_from_starting(
    desk: Desk, branch: str, size: int, reason: str
) -> None:
    """Whoever controls the log waits until the mirror's machine starts anew: the copy would be gone from the net."""
    exported(desk.root / "public", [3])
    exported(desk.root / "other", [size], branch=branch)
    served = ("--serve", "127.0.0.76:0", *IDENTITY)
    desk.run("mirror", "public", "--out", "m", *IDENTITY)
    assert desk.run("mirror", "other", "--out", "m", *IDENTITY, code=40)["reason"] == reason
    with desk.serving("mirror", "other", "--out", "m", *served) as url:
        assert desk.run("mirror", url, "--out", "again", *IDENTITY)["size"] == 3
    assert files(desk.root / "again") == files(desk.root / "public")


@pytest.mark.parametrize("command", ["mirror", "witness"])
def test_the_service_manager_is_told_when_it_serves_and_when_it_stops(desk: Desk, command: str) -> None:
    desk.append(0)
    desk.run("log", "export", "public")
    name = WITNESSES[0].name
    words = {
        "mirror": ("mirror", "public", "--out", "m", "--serve", "127.0.0.76:0"),
        "witness": ("witness", "serve", "--name", name, "--key", f"{name}.key", "--listen", "127.0.0.77:0"),
    }[command]
    line = [sys.executable, "-m", "libreseed_services.silexium.cli", *words, *map(str, IDENTITY)]
    environment = {**os.environ, "WATCHDOG_USEC": "400000"}
    with daemon_process(line, desk.root / "log.txt", environment, cwd=desk.root) as (process, notify):
        daemon = DaemonProcess(process, desk.root / "log.txt", notify)
        daemon.wait_ready()
        while "WATCHDOG=1" not in daemon.hear():
            assert process.poll() is None, daemon.text()
        assert daemon.stop() == 0
        assert "STOPPING=1" in daemon.hear()


def test_an_old_database_is_refused_by_its_own_commands_by_mirror_and_by_witness(desk: Desk) -> None:
    """Yesterday's backup is put back; then the log is recovered from its mirror, and goes on."""
    database = desk.root / "data" / "silexium" / "silexium.db"
    name = WITNESSES[0].name
    witness = ("witness", "cosign", "public", "--name", name, "--key", f"{name}.key", *IDENTITY)
    desk.append(0)
    desk.run("log", "backup", "yesterday.db")
    desk.append(1, 2)
    desk.run("log", "export", "public")
    desk.run("mirror", "public", "--out", "m", *IDENTITY)
    assert desk.run(*witness)["size"] == 3
    for path in database.parent.glob("silexium.db*"):
        if path.suffix != ".head":
            path.unlink()
    shutil.copy(desk.root / "yesterday.db", database)
    assert (
        desk.run("log", "append", "e3.json", "--origin", LOG.name, "--log-key", "log.key", code=40)["reason"]
        == "silexium.shrunk"
    )
    assert desk.run("log", "export", "public", code=40)["reason"] == "silexium.shrunk"
    (database.parent / "silexium.db.head").unlink()  # who removes it, or moves to a new machine, meets the others
    desk.append(3)
    desk.run("log", "export", "old")
    assert desk.run("mirror", "old", "--out", "m", *IDENTITY, code=40)["reason"] == "silexium.fork"
    assert desk.run(*witness[:2], "old", *witness[3:], code=40)["reason"] == "silexium.rollback"
    for path in database.parent.glob("silexium.db*"):
        path.unlink()
    shutil.copy(desk.root / "yesterday.db", database)
    assert desk.run("log", "recover", "m")["new_entries"] == 2
    assert desk.append(4)["indices"] == [3]
    desk.run("log", "export", "public")
    assert desk.run(*witness)["size"] == 4


def test_cosignatures_reach_the_checkpoint_over_the_wire_and_by_hand(desk: Desk) -> None:
    desk.append(0, 1)
    first, second = WITNESSES[:2]
    with desk.serving(
        *("witness", "serve", "--name", first.name, "--key", f"{first.name}.key", "--database", "w0.db"),
        *("--listen", "127.0.0.77:0", *IDENTITY),
    ) as url:
        table = [
            f'[[witnesses]]\nname = "{witness.name}"\nkey = "{witness.key}"\nurl = "{url}"\n'
            for witness in (first, second)
        ]
        (desk.root / "silexium.toml").write_text("\n".join(table))
        answer = desk.run(
            "log", "cosign", "--config", "silexium.toml", code=40
        )  # the second key is not behind that URL
        assert answer["cosigned"] == [first.name] and answer["failed"] == {second.name: "silexium.witness"}
    desk.run("log", "export", "public")
    line = desk.run(
        *("witness", "cosign", "public", "--name", second.name, "--key", f"{second.name}.key", "--database", "w1.db"),
        *IDENTITY,
    )["line"]
    (desk.root / "line.txt").write_text(line + "\n")
    assert desk.run("log", "cosign", "line.txt", "--config", "silexium.toml")["added"] == [second.name]
    note = desk.run("log", "head")["checkpoint"].encode()
    assert {one.signer for one in parse_checkpoint(note, LOG, WITNESSES).cosignatures} == {first, second}


@pytest.mark.slow
def test_killed_at_any_moment_a_log_and_its_witness_lose_and_contradict_nothing(tmp_path: Path) -> None:
    """A few of the kills of bench/kill_silexium.py."""
    draw, told, asked = random.Random(7), Told(), Told()
    (tmp_path / "log").mkdir()
    (tmp_path / "witness").mkdir()
    for number in range(40):
        kill_writers(tmp_path / "log", draw, told)
        kill_cosigners(tmp_path / "witness", draw, asked)
        seen = told.counts["appended"] and told.counts["signed"] and asked.counts["cosigned"]
        if seen and number >= 4:  # a slow disk takes more rounds until each was done once
            return
    raise AssertionError("killed too early to show anything")
