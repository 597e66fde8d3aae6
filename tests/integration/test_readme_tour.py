"""README.md's tour by hand, command by command as it is written there: each prints what the README shows."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.daemon_support import PATIENCE_S, clean_environment
from tests.seeder_support import loopback
from tests.tools import require_program

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "README.md"
_ELSEWHERE = "# in another terminal"


@dataclass
class Step:
    """A command line and the lines that are shown below it."""

    line: str
    shown: list[str] = field(default_factory=list)


def steps() -> list[Step]:
    text = README.read_text("utf-8")
    tour = text[text.index("## In 60 seconds") : text.index("## How it compares")]
    found: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", tour, re.DOTALL):
        for line in re.sub(r"\\\n *", "", block).splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            else:
                found[-1].shown.append(line)
    return found


def plain(text: str, folder: Path) -> str:
    """What differs from run to run is not compared: keys, hashes, the folder, the .tgz's size (a key is in it)."""
    text = text.replace(str(folder), "/home/me")
    text = re.sub(r"ed25519:[A-Za-z0-9+/]{43}=", "KEY", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)
    return re.sub(r"\(\d+ B\)", "(SIZE)", text)


@dataclass
class Terminal:
    """A shell in ``folder`` with our commands, and one more for each that stays; ``host`` is its 127.0.0.1."""

    folder: Path
    host: str
    variables: dict[str, str]
    staying: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def take(self, step: Step) -> None:
        line = step.line.replace("127.0.0.1", self.host)
        if line.startswith("libreseed-silexium init"):
            line = line.partition("#")[0] + f" --listen {self.host}:8440"  # by default 127.0.0.1, which others use
        if _ELSEWHERE in line:
            self._stay(line, step.shown or ["ready: "])
            return
        if assigned := re.fullmatch(r"([A-Z]+)=\$\((.*)\)", line):
            line = assigned[2]
        words = ["bash", "-c", line]
        done = subprocess.run(
            words, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=120, check=False
        )
        if assigned:
            self.variables[assigned[1]] = done.stdout.strip()
        said = plain(done.stdout + done.stderr, self.folder).splitlines()
        assert [shown for shown in step.shown if plain(shown, self.folder) not in said] == [], (line, said)
        assert done.returncode == (40 if "[silexium." in "".join(step.shown) else 0), (line, said)

    def _stay(self, line: str, told: list[str]) -> None:
        log = self.folder / f"terminal-{len(self.staying)}"
        with log.open("wb") as file:
            words = ["bash", "-c", "exec " + line]
            self.staying.append(subprocess.Popen(words, cwd=self.folder, env=self.variables, stdout=file, stderr=file))
        deadline = time.monotonic() + PATIENCE_S
        while not all(text in log.read_text() for text in told):
            assert self.staying[-1].poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


@contextlib.contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    here = Terminal(folder, loopback(), clean_environment() | {"HOME": str(folder), "PATH": path})
    try:
        yield here
        for process in here.staying:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
    finally:
        for process in here.staying:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_the_tour_goes_as_it_is_written(tmp_path: Path) -> None:
    require_program("curl")
    with terminal(tmp_path) as here:
        for step in steps():
            here.take(step)
    assert (tmp_path / "vendor" / "hello@1.0.0" / "README").read_text() == "hello, world\n"
    assert (tmp_path / "store" / "packages" / "hello@1.0.0" / "README").is_file()
