"""Loads the public test vectors: ``LIBRESEED_VECTORS``, or the copy in ``tests/vectors``.

A file without rows and a row of an unknown kind are failures, never skips.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("LIBRESEED_VECTORS") or Path(__file__).parent / "vectors")
Row = dict[str, Any]


def rows(file: str, *kinds: str) -> list[Any]:
    """Rows of ``file`` as pytest parameters; only those of ``kinds`` when some are named."""
    vectors = json.loads((FOLDER / file).read_text(encoding="utf-8"))["vectors"]
    assert vectors, f"{file} holds no vectors"
    chosen = [row for row in vectors if not kinds or kind_of(row) in kinds]
    return [pytest.param(row, id=f"{row['id']}-{row['expect']}") for row in chosen]


def kind_of(row: Row) -> str:
    """What to call for ``row``: its id without the number."""
    return str(row["id"]).partition("-")[2]


def dispatch(row: Row, table: dict[str, Callable[[Row], None]]) -> None:
    """Call the function for the row's kind; an unknown kind fails."""
    assert kind_of(row) in table, f"unknown kind of vector: {row['id']}"
    table[kind_of(row)](row)


def document(row: Row) -> bytes:
    """The document of a row: ``text`` as UTF-8, or ``hex``."""
    return bytes.fromhex(row["hex"]) if "hex" in row else str(row["text"]).encode("utf-8", "surrogatepass")
