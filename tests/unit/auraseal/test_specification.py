"""The example of auraseal.md, made again and found in the text."""

from __future__ import annotations

import hashlib
from pathlib import Path

from libreseed.auraseal.code_table import table_codes
from libreseed.auraseal.component import build_component, reconstruct
from libreseed.auraseal.diram_package import DIVISIONS
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.part import part_files

_TEXT = (Path(__file__).parents[3] / "docs" / "specification" / "auraseal.md").read_text("utf-8")


def test_the_example_is_what_the_code_makes() -> None:
    data = b"abracadabra" * 40
    parts = build_component(data, component=7, division=2)
    files = part_files(parts)
    assert [len(file) for file in files] == [499, 5504]
    codes = {chr(symbol): code for symbol, code in table_codes(parts[0].head[8:]).items()}
    assert "    ".join(f"{symbol} {code}" for symbol, code in codes.items()) in _TEXT
    assert parts[0].payload[:4].hex(" ") in _TEXT
    assert files[0][16 + 48 : 16 + 51].hex(" ") in _TEXT
    for start, end in ((144, 176), (176, 208), (371, 379), (379, 383)):
        assert files[0][start:end].hex() in _TEXT
    for file in files:
        assert hashlib.sha256(file).hexdigest() in _TEXT
    assert parts[0].share == parts[1].share
    for number, file in enumerate(files):
        assert part_files(reconstruct({number: file}).parts) == files
    assert f"`{Integrity.of(data)}`" in _TEXT


def test_the_divisions_are_those_of_the_text() -> None:
    for number, (folder, stem) in enumerate(DIVISIONS):
        assert f"| `{folder}/{stem}-N.bin` | division {number} |" in _TEXT
