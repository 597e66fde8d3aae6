"""Where the demo plays: its folders, the other commands as real processes, and damage done to real files.

Everything lives below one folder and on loopback addresses; ports are chosen by the system. The commands are run as a
user would, by this interpreter, with the user's own settings kept out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import trio

from libreseed.errors import ContentRejected

__all__ = ["Outcome", "Stage"]

_MODULES = {
    "mirror": "libreseed_services.mirror.cli",
    "packager": "libreseed_services.packager.cli",
    "seeder": "libreseed_services.seeder.cli",
    "resolve": "libreseed_services.resolver.cli",
    "silexium": "libreseed_services.silexium.cli",
    "user": "libreseed_services.user.cli",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code, its JSON object, its last words on stderr."""

    exit_code: int
    data: Mapping[str, Any]
    stderr: str

    def demand(self) -> Mapping[str, Any]:
        """The JSON object of a command that had to succeed; raises :class:`ContentRejected` with its own words."""
        if self.exit_code != 0:
            raise ContentRejected("demo.command-failed", f"a command of the demo failed: {self.stderr.strip()[-800:]}")
        return self.data


class Stage:
    """The demo's folder ``root`` and the processes in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, *parts: str) -> Path:
        """A folder below the root, made when it is missing."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def command(self, program: str, *arguments: object) -> Outcome:
        """Run a command to its end with ``--json``; blocks (call it in a thread)."""
        done = subprocess.run(
            self._line(program, [*arguments, "--json"]),
            env=self._environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        data = json.loads(lines[-1]) if lines else {}
        return Outcome(done.returncode, data, done.stderr)

    async def run(self, program: str, *arguments: object) -> Outcome:
        """:meth:`command` in a thread."""
        return await trio.to_thread.run_sync(partial(self.command, program, *arguments), abandon_on_cancel=True)

    def daemon(self, program: str, log: IO[bytes], *arguments: object) -> subprocess.Popen[bytes]:
        """Start a command that stays; its output goes to ``log``."""
        return subprocess.Popen(
            self._line(program, arguments),
            env=self._environment(),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    @staticmethod
    def _line(program: str, arguments: Sequence[object]) -> list[str]:
        start = f"import sys; from {_MODULES[program]} import main; sys.exit(main())"
        return [sys.executable, "-c", start, *map(str, arguments)]

    def _environment(self) -> dict[str, str]:
        """The caller's environment without settings of ours, with every default place below the root."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LIBRESEED_")}
        home = self.root / "home"
        places = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE", "DATA")}
        return {**kept, "HOME": str(home), **places}
