"""``--help`` and a mistyped command are answered at once: no command imports what only its work needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = ("mirror", "packager", "resolver", "seeder", "silexium", "user")
HEAVY = {"asyncio", "blake3", "cryptography", "httpx", "hypercorn", "libtorrent", "sqlite3", "ssl", "starlette", "trio"}
_HELP = """
import contextlib, importlib, io, sys
cli = importlib.import_module(f"libreseed_services.{sys.argv[1]}.cli")
for line in (["--help"], ["no such command"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            cli.main(line)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    line = [sys.executable, "-c", _HELP, command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    imported = set(done.stdout.split())
    assert "libreseed_services" in imported
    assert imported & HEAVY == set()
