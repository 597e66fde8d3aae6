"""``libreseed-silexium init``: what it refuses, it refuses before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.silexium_server_support import run


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "line\nbreak", "x" * 300])
def test_what_can_be_no_logs_name_is_a_mistake_of_the_caller(tmp_path: Path, origin: str) -> None:
    answer = run("init", tmp_path / "log", "--origin", origin, "--embedded", code=2)
    assert (answer["reason"], list(tmp_path.iterdir())) == ("usage", [])
