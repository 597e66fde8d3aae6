"""``libreseed demo --mirror`` as a user runs it: real exports on real servers, real damage; every claim must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

_START = "import sys; from libreseed_services.user.cli import main; sys.exit(main())"


def test_every_claim_of_the_mirror_demo_holds(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "tool").write_text("#!/bin/sh\necho hello\n")
    (source / "tool").chmod(0o755)
    (source / "noise.bin").write_bytes(b"".join(number.to_bytes(4) for number in range(0, 2**32, 9973)))
    line = [sys.executable, "-c", _START, "demo", str(source), "--mirror", "--keep", str(tmp_path / "stage"), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=200)
    answer = json.loads(done.stdout)
    assert [claim for claim in answer.get("claims", []) if not claim["holds"]] == [], done.stderr
    assert (done.returncode, answer["ok"]) == (0, True), done.stderr
    acts = ["Export", "Disaster", "Alone", "Together"]
    assert list(dict.fromkeys(claim["act"] for claim in answer["claims"])) == acts
    assert answer["facts"]["Together"]["received"] < 1.2
