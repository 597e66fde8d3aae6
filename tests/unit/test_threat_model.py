"""docs/threat-model.md keeps its word: the tests and reason codes that it names exist, and no claim stands alone."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from libreseed.reasons import REASONS

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED_TESTS = sorted(set(re.findall(r"`([\w/]+::\w+)`", DOCUMENT)))
AREAS = {code.partition(".")[0] for code in REASONS if "." in code}
GUARANTEES = re.findall(r"^\| (G\d) \|(.*)\|$", DOCUMENT, re.MULTILINE)


def attacks() -> list[list[str]]:
    """The cells of every row of section 4: attack, verdict, defence, reason, tests."""
    section = DOCUMENT.partition("## 4. Attacks")[2].partition("\n## 5.")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows if "| verdict |" not in line]


@cache
def functions_of(file: str) -> frozenset[str]:
    """The test functions that ``tests/<file>.py`` defines, read and not imported."""
    tree = ast.parse((TESTS / f"{file}.py").read_bytes())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def named_codes(text: str) -> set[str]:
    """What is written as a reason code: an area, a dot and a fault; file names are none."""
    quoted = re.findall(r"`([a-z]+\.[a-z0-9-]+)`", text)
    return {code for code in quoted if code.partition(".")[0] in AREAS and not code.endswith((".json", ".md", ".py"))}


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED_TESTS) > 80
    missing = []
    for named in NAMED_TESTS:
        file, _, name = named.partition("::")
        if not (TESTS / f"{file}.py").is_file() or name not in functions_of(file):
            missing.append(named)
    assert missing == []


def test_every_reason_that_is_named_is_declared() -> None:
    codes = named_codes(DOCUMENT)
    assert len(codes) > 40
    assert codes - REASONS.keys() == set()


def test_the_reason_column_holds_reasons_only() -> None:
    for attack, _, _, reasons, _ in attacks():
        assert set(re.findall(r"`([^`]*)`", reasons)) <= REASONS.keys(), attack


def test_every_row_has_five_cells_and_a_known_verdict() -> None:
    rows = attacks()
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 5, row
        assert row[1] in {"holds", "partly", "no"}, row
        assert row[0] and row[2], row


def test_what_is_said_to_hold_names_a_test() -> None:
    for attack, verdict, _, _, tests in attacks():
        if verdict in {"holds", "partly"}:
            assert "::test_" in tests, attack


def test_every_guarantee_is_tested_or_is_not_part_of_this_version() -> None:
    assert [name for name, _ in GUARANTEES] == [f"G{number}" for number in range(1, 9)]
    for name, row in GUARANTEES:
        assert "::test_" in row or "Not part of this version" in row, name
