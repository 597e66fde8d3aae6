"""The reason codes: well formed, each with a remedy, and documented as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from libreseed.errors import LibreSeedError
from libreseed.reasons import REASONS
from libreseed.testing.reason_table import with_table

ERRORS = Path(__file__).parents[2] / "docs" / "specification" / "errors.md"


def test_the_documented_table_is_current() -> None:
    document = ERRORS.read_text(encoding="utf-8")
    assert with_table(document) == document, "run: make docs"


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_is_well_formed(code: str) -> None:
    reason = REASONS[code]
    assert re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+(-[a-z0-9]+)*)?", code)
    assert reason.code == code
    assert reason.exit_code != 0
    assert reason.remedy.endswith(".")
    assert "\n" not in reason.remedy and "|" not in reason.remedy


def test_every_code_that_the_source_raises_is_declared() -> None:
    quoted = re.compile(
        r"(?:Malformed|NotFound|UsageFault|RecordRejected|ProofRejected|ContentRejected|TransportFault|LocalFault)\(\s*\"([a-z0-9.-]+)\""
    )
    root = Path(__file__).parents[2]
    raised = {
        code
        for folder in ("libreseed", "services")
        for path in (root / folder).rglob("*.py")
        for code in quoted.findall(path.read_text(encoding="utf-8"))
    }
    assert len(raised) > 20
    assert raised - REASONS.keys() == set()


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("silexium.unlogged", "name and version"),  # a slip of the keyboard is likelier than a log that lags
        ("http.certificate", "--ca-file"),
        ("silexium.consistency", "--silexium URL or DIR"),  # without a network nobody else can be asked
        ("tree.symlink", ".libreseedignore"),
        ("storage.occupied", "--store"),
        ("index.name", "one name"),
        ("index.key", "one key"),
    ],
)
def test_a_remedy_names_what_a_newcomer_does_not_know_yet(code: str, named: str) -> None:
    assert named in REASONS[code].remedy


def test_an_undeclared_reason_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        LibreSeedError("no.such-reason", "message")
