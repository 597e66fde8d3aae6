"""The unit files in contrib/systemd: their commands exist as written, systemd takes them, and all are confined."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tools import require_program

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "contrib/systemd").glob("*.service"))
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
CONFINED = {
    "LockPersonality=yes",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=strict",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
}
_PORTS_BELOW_1024 = "CAP_NET_BIND_SERVICE"


def lines_of(unit: Path) -> list[str]:
    """The unit's lines, continued ones joined, without comments."""
    text = unit.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_command_is_one_of_ours_and_takes_these_flags(unit: Path) -> None:
    [command] = [line.removeprefix("ExecStart=") for line in lines_of(unit) if line.startswith("ExecStart=")]
    program, *arguments = shlex.split(command)
    assert Path(program).parent == Path("/usr/local/bin")
    module = SCRIPTS[Path(program).name].partition(":")[0].replace("libreseed_services", "services")
    importlib.import_module(module)._parser().parse_args(arguments)  # or SystemExit


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_confined_and_runs_as_nobody_else(unit: Path) -> None:
    lines = lines_of(unit)
    assert set(lines) >= CONFINED
    assert any(line.startswith("User=") or line == "DynamicUser=yes" for line in lines)
    assert "User=root" not in lines
    [bounds] = [
        line.removeprefix("CapabilityBoundingSet=") for line in lines if line.startswith("CapabilityBoundingSet=")
    ]
    assert bounds in ("", _PORTS_BELOW_1024)


@pytest.mark.parametrize("unit", sorted(UNITS[0].parent.iterdir()), ids=lambda unit: unit.name)
def test_systemd_takes_it(tmp_path: Path, unit: Path) -> None:
    program = require_program("systemd-analyze")
    text = unit.read_text(encoding="utf-8")
    (tmp_path / unit.name).write_text(re.sub(r"/usr/local/bin/\S+", sys.executable, text), encoding="utf-8")
    if unit.suffix == ".timer":
        shutil.copy(unit.with_suffix(".service"), tmp_path)
        service = tmp_path / unit.with_suffix(".service").name
        service.write_text(re.sub(r"/usr/local/bin/\S+", sys.executable, service.read_text()))
    (tmp_path / "control.service").write_text(f"[Service]\nExecStart={sys.executable}\n")
    control, found = (verify(program, tmp_path / name) for name in ("control.service", unit.name))
    if control.returncode or control.stderr:
        pytest.skip("systemd-analyze does not work here")
    assert found.returncode == 0 and "ignoring" not in found.stderr, found.stderr  # what it does not know, it ignores


def verify(program: str, unit: Path) -> subprocess.CompletedProcess[str]:
    line = [program, "verify", "--man=no", str(unit)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
