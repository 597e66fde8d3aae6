"""Parts of the seeder without a network: configuration, notifier, watch folder."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from libreseed.adapters.command.notify import Notifier
from libreseed.errors import ContentRejected, LibreSeedError, LocalFault
from services.seeder.config import load_config
from services.seeder.source import Source
from services.seeder.watch import WatchFolder

# --- configuration ------------------------------------------------------------------------------------------------


def test_flags_override_variables_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('dht-port = 1\nscrub-rate = 70000\nlisten = ["127.0.0.1:5"]\nbootstrap = ["a.example:9"]\n')
    environ = {"LIBRESEED_DHT_PORT": "2", "LIBRESEED_STATE_DIR": str(tmp_path / "s"), "LIBRESEED_SCRUB_RATE": "80000"}
    config = load_config(file, {"dht-port": "3", "watch": None}, environ)
    assert (config.dht_port, config.scrub_rate, config.state_dir) == (3, 80000, tmp_path / "s")
    assert [str(one) for one in (*config.listen, *config.bootstrap)] == ["127.0.0.1:5", "a.example:9"]
    assert config.control_socket == tmp_path / "s" / "control.sock"


def test_systemd_says_where_the_state_is(tmp_path: Path) -> None:
    config = load_config(None, {}, {"STATE_DIRECTORY": str(tmp_path)})
    assert config.state_dir == tmp_path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dht_port = 1", "config.unknown-key"),
        ('dht-port = "x"', "config.value"),
        ("dht-port = 65536", "config.value"),
        ("scrub-rate = 1", "config.value"),
        ("record-interval = 0", "config.value"),
        ("listen = [7]", "config.endpoint"),
        ("listen = []", "config.value"),
        ("= 1", "config.syntax"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.toml").write_text(text + "\n")
    with pytest.raises(LibreSeedError) as caught:
        load_config(tmp_path / "c.toml", {}, {})
    assert (caught.value.reason, caught.value.exit_code) == (reason, 3)


# --- notifier -----------------------------------------------------------------------------------------------------


def test_the_service_manager_is_told_by_datagrams(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        notifier.ready("2 releases")
        assert manager.recv(100) == b"READY=1\nSTATUS=2 releases"
        notifier.stopping()
        assert manager.recv(100).startswith(b"STOPPING=1")


def test_no_manager_or_one_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("x")
    assert list(tmp_path.iterdir()) == []


async def _hears_nothing(folder: Path, watchdog: dict[str, str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "n"))
        manager.setblocking(False)
        await Notifier({"NOTIFY_SOCKET": str(folder / "n"), **watchdog}).run_watchdog()
        with pytest.raises(BlockingIOError):
            manager.recv(100)


@pytest.mark.parametrize("usec", ["", "0", "-5", "x", "9" * 40])
async def test_without_a_watchdog_nothing_is_sent_in_vain(
    tmp_path: Path, usec: str, autojump_clock: trio.testing.MockClock
) -> None:
    await _hears_nothing(tmp_path, {"WATCHDOG_USEC": usec})


async def test_the_watchdog_is_fed_twice_per_period(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "60000000"})
        with trio.move_on_after(100):
            await notifier.run_watchdog()
        heard = 0
        with pytest.raises(BlockingIOError):
            while manager.recv(100) == b"WATCHDOG=1":
                heard += 1
        assert heard == 4  # at 0, 30, 60 and 90 seconds


async def test_a_watchdog_meant_for_another_process_is_ignored(tmp_path: Path) -> None:
    await _hears_nothing(tmp_path, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})


# --- watch folder -------------------------------------------------------------------------------------------------


class _Adds:
    """Stands for the library: notes what is added, fails as told."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.failure: LibreSeedError | None = None

    async def __call__(self, source: Source) -> None:
        self.paths.append(str(source.release))
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def _watching(tmp_path: Path, adds: _Adds) -> AsyncIterator[WatchFolder]:
    for name in ("watch", "state/quarantine"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    watch = WatchFolder(tmp_path / "watch", tmp_path / "state", adds, interval=5.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        yield watch
        nursery.cancel_scope.cancel()


async def _eventually(holds: Callable[[], object]) -> None:
    """Let virtual time pass until ``holds``: a real thread reads the folder, and virtual time does not wait for it."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await trio.sleep(1)


def _appear(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / "watch" / name
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(b"x")
    (folder / f"{name}.minimal.json").write_bytes(b"{}")
    return folder


async def test_a_folder_is_added_once_even_over_restarts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    adds = _Adds()
    _appear(tmp_path, "a@1.0.0")
    for name in (".hidden@1.0.0", "not-a-release", "B@1.0.0"):
        _appear(tmp_path, name)
    for _ in range(2):
        async with _watching(tmp_path, adds):
            await _eventually((tmp_path / "state" / "watched.json").exists)
            await trio.sleep(100)
    assert adds.paths == ["a@1.0.0"]


async def test_a_folder_that_changes_is_looked_at_again(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    adds = _Adds()
    folder = _appear(tmp_path, "a@1.0.0")
    async with _watching(tmp_path, adds):
        await _eventually((tmp_path / "state" / "watched.json").exists)
        (folder / "f").write_bytes(b"other")
        await _eventually(lambda: adds.paths == ["a@1.0.0", "a@1.0.0"])


async def test_a_fault_of_this_machine_is_tried_again_and_nothing_is_moved(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    adds = _Adds()
    adds.failure = LocalFault("storage.full", "no space")
    folder = _appear(tmp_path, "a@1.0.0")
    async with _watching(tmp_path, adds) as watch:
        await _eventually(lambda: len(adds.paths) >= 3)
        assert folder.exists() and not (tmp_path / "state" / "watched.json").exists()
        adds.failure = None
        await _eventually((tmp_path / "state" / "watched.json").exists)
        assert folder.exists() and watch.quarantined == 0


async def test_a_bad_release_is_moved_aside_with_its_reason(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    adds = _Adds()
    adds.failure = ContentRejected("archive.infohash", "wrong")
    folder = _appear(tmp_path, "a@1.0.0")
    async with _watching(tmp_path, adds) as watch:
        await _eventually((tmp_path / "state" / "watched.json").exists)
        await trio.sleep(100)
        assert adds.paths == ["a@1.0.0"] and watch.report()["quarantined"] == 1
    assert not folder.exists()
    (moved,) = (tmp_path / "watch" / ".quarantine").glob("a@1.0.0.*/f")
    reason = json.loads(moved.parent.with_name(moved.parent.name + ".reason.json").read_text())
    assert (reason["reason"], reason["exit"], reason["source"]) == ("archive.infohash", 30, str(folder))


async def test_a_bad_release_that_cannot_be_moved_is_noted_and_judged_once(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    adds = _Adds()
    adds.failure = ContentRejected("archive.infohash", "wrong")
    folder = _appear(tmp_path, "a@1.0.0")
    (tmp_path / "watch" / ".quarantine").write_text("a file is in the way")
    async with _watching(tmp_path, adds):
        await _eventually((tmp_path / "state" / "watched.json").exists)
        await trio.sleep(100)
    assert adds.paths == ["a@1.0.0"] and folder.exists()
    (note,) = (tmp_path / "state" / "quarantine").iterdir()
    assert json.loads(note.read_text())["reason"] == "archive.infohash"


async def test_a_watch_folder_that_goes_away_comes_back(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    adds = _Adds()
    async with _watching(tmp_path, adds) as watch:
        shutil.rmtree(tmp_path / "watch")
        await _eventually(lambda: watch.fault)
        _appear(tmp_path, "a@1.0.0")
        await _eventually(lambda: not watch.fault and adds.paths == ["a@1.0.0"])


@pytest.mark.parametrize("ledger", [b"junk", b"[]", b'{"a@1.0.0":7}', pytest.param(b"x" * 9_000_000, id="huge")])
async def test_a_damaged_ledger_only_means_another_look(
    tmp_path: Path, ledger: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    adds = _Adds()
    _appear(tmp_path, "a@1.0.0")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "watched.json").write_bytes(ledger)
    async with _watching(tmp_path, adds):
        await _eventually(lambda: adds.paths == ["a@1.0.0"])
