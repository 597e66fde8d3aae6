"""Real seeder daemons for tests: started as processes on loopback, awaited by systemd's own protocol, always ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libreseed.adapters.command import control
from libreseed.adapters.command.control import Request
from services.packager import cli as packager
from tests.daemon_support import PATIENCE_S, DaemonProcess, clean_environment, daemon_process

_HOSTS = itertools.count()


def loopback() -> str:
    """Another 127.x.y.z for every node of this test process."""
    number = next(_HOSTS) + 256 * (os.getpid() % 200)
    return f"127.{20 + number // 65025 % 200}.{number // 255 % 255}.{1 + number % 254}"


def make_release(
    folder: Path, name: str = "demo", version: str = "1.0.0", *, size: int = 300_000, key: Path | None = None
) -> Path:
    """A release of random bytes, made by the packager; returns its folder. The key lies in ``folder/key``."""
    folder.mkdir(parents=True, exist_ok=True)
    key = key or folder / "key"
    if not key.exists():
        assert packager.main(["keygen", "--out", str(key), "--no-passphrase"]) == 0
    tree = folder / f"tree-{name}-{version}"
    tree.mkdir()
    (tree / "data.bin").write_bytes(random.Random(f"{name}{version}{size}").randbytes(size))
    (tree / "README").write_text("a release for tests\n")
    line = ["build", str(tree), "--name", name, "--version", version, "--key", str(key), "--out", str(folder / "out")]
    assert packager.main([*line, "--quiet"]) == 0
    shutil.rmtree(tree)
    return folder / "out" / f"{name}@{version}"


def index(folder: Path, name: str, *minimals: Path, key: Path | None = None) -> None:
    """``name.index.dht.json`` beside the releases in ``folder/out``."""
    line = ["index", name, "--key", str(key or folder / "key"), *map(str, minimals)]
    with contextlib.chdir(folder / "out"):
        assert packager.main(line) == 0


@dataclass
class SeederProcess(DaemonProcess):
    """One ``libreseed-seeder run``."""

    state: Path = field(kw_only=True)

    def ask(self, command: str, **arguments: str) -> dict[str, Any]:
        return control.call(self.state / "control.sock", Request(command, arguments))

    def only(self) -> dict[str, Any]:
        """The one release that it lists."""
        (one,) = self.ask("list")["releases"]
        return dict(one)

    def tcp(self) -> tuple[str, int]:
        host, _, port = self.ask("status")["listen"][0].rpartition(":")
        return host, int(port)

    def dht(self) -> str:
        return str(self.ask("status")["dht"]["listen"][0])


@contextlib.contextmanager
def starting(
    state: Path,
    *arguments: str,
    host: str | None = None,
    listen: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    under: tuple[str, ...] = (),
    **popen: Any,
) -> Iterator[SeederProcess]:
    """Start a daemon on ``state``; it is killed at the end of the block if it still runs.

    It listens on any port of ``host`` (by default an address of its own), or on ``listen``.
    ``under``: a program that runs it in its own place (``setpriv``, ``prlimit``).
    """
    place = [part for one in listen or (f"{host or loopback()}:0",) for part in ("--listen", one)]
    line = [sys.executable, "-m", "libreseed_services.seeder.cli", "run", "--state-dir", str(state)]
    line = [*under, *line, *place, "--dht-port", "0", *arguments]
    log = state.with_name(state.name + ".log")
    with daemon_process(line, log, {**clean_environment(), **(env or {})}, **popen) as (process, notify):
        yield SeederProcess(process, log, notify, state=state)


@contextlib.contextmanager
def running(state: Path, *arguments: str, **options: Any) -> Iterator[SeederProcess]:
    """Like :func:`starting`, and ready."""
    with starting(state, *arguments, **options) as seeder:
        seeder.wait_ready()
        yield seeder


def command(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a ``libreseed-seeder`` command to its end."""
    line = [sys.executable, "-m", "libreseed_services.seeder.cli", *map(str, arguments)]
    environment = {**clean_environment(), **(env or {})}
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=False)


def until(holds: Callable[[], object], what: str = "") -> None:
    """Wait for another process to get there."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)


def flip(path: Path, *offsets: int) -> None:
    """Invert bytes of a file in place, as a rotting disk does, and put its times back."""
    status = path.stat()
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stored_file(seeder_state: Path, suffix: str) -> Path:
    """The file with ``suffix`` of the one stored release."""
    (path,) = (seeder_state / "releases").glob(f"*/*{suffix}")
    return path
