"""Schemathesis against the OpenAPI document of a real server: nothing that it can think of gives a 5xx."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.silexium_server_support import Shop, starting, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_no_request_makes_the_server_fail(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    shop.ingest(shop.attested("hello@1.0.0"))
    line = [str(Path(sys.executable).with_name("schemathesis")), "run", "--no-color"]
    # JSON Schema takes 1.0 for an integer, and has no word for what we take: texts of numbers without a fraction.
    line += ["--exclude-checks", "positive_data_acceptance"]
    line += ["--max-examples", os.environ.get("SILEXIUM_SCHEMATHESIS_EXAMPLES", "15"), "--seed", "1"]
    line += ["--generation-database", "none", "--phases", "examples,coverage,fuzzing"]
    with starting(shop) as server:
        wait_until(shop, ["hello@1.0.0"], server=server)
        done = subprocess.run(
            [*line, f"{server.url}/openapi.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert server.stop() == 0
    log = server.text()
    assert "Traceback" not in log, log[-4000:]
