"""``libreseed demo`` as a user runs it: real daemons, a real DHT, real damage; every claim must hold."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

_START = "import sys; from libreseed_services.user.cli import main; sys.exit(main())"


def test_every_claim_of_the_demo_holds(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "tool").write_text("#!/bin/sh\necho hello\n")
    (source / "bin" / "tool").chmod(0o755)
    (source / "data.bin").write_bytes(bytes(range(256)) * 4000)
    (source / "noise.bin").write_bytes(b"".join(number.to_bytes(4) for number in range(0, 2**32, 9973)))
    line = [sys.executable, "-c", _START, "demo", str(source), "--keep", str(tmp_path / "stage"), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=200)
    answer = json.loads(done.stdout)
    assert [claim for claim in answer.get("claims", []) if not claim["holds"]] == [], done.stderr
    assert (done.returncode, answer["ok"]) == (0, True), done.stderr
    assert "Warning" not in done.stderr
    acts = ["Package", "Attest", "Seed", "Resolve", "Disaster", "Heal", "Refuse"]
    assert list(dict.fromkeys(claim["act"] for claim in answer["claims"])) == acts
    checks = [f"check 10.{number}" for number in range(1, 14)]
    shown = {name: fact for name, fact in answer["facts"]["Resolve"].items() if name.startswith("check")}
    assert list(shown) == checks
    assert {row["verdict"] for row in shown.values()} == {"passed"}
    assert answer["facts"]["Disaster"]["chunks"]["repaired"] == answer["facts"]["Disaster"]["damage"]


def test_a_demo_that_is_terminated_leaves_no_daemon_behind(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    line = [sys.executable, "-c", _START, "demo", str(tmp_path / "source"), "--keep", str(tmp_path / "stage")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for told in process.stdout:
            if "a stranger's DHT node finds" in told:  # so the seeders run
                break
        locks = sorted((tmp_path / "stage").glob("seeder-*/seeder.lock"))
        pids = [int(lock.read_text()) for lock in locks]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert (process.returncode, len(pids)) == (130, 2)
    for pid in pids:
        assert not Path(f"/proc/{pid}/cmdline").exists() or b"seeder" not in Path(f"/proc/{pid}/cmdline").read_bytes()
