"""Guarantee G2 from the inside: what runs as seeder or resolver has no code path that reads or uses a private key.

The seeder's refusal to start beside a key is tested with the daemon; this is about the code. It is read, not run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIGNS = {
    "PrivateKey",
    "build_release",
    "create_key",
    "read_key_file",
    "sign",
    "sign_document",
    "sign_item",
    "signing_key",
}
KEYLESS = [
    "services/seeder",
    "services/resolver",
    "services/mirror",
    "libreseed/resolve",
    "libreseed/adapters/torrent",
    "libreseed/adapters/dht",
    "libreseed/adapters/resolving",
    "libreseed/adapters/http",
    "libreseed/adapters/mirrors",
]


def _keyless_modules() -> list[Path]:
    places = [ROOT / place for place in KEYLESS]
    return [path for place in places for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def test_a_keyless_process_has_no_code_that_signs() -> None:
    modules = _keyless_modules()
    assert len(modules) > len(KEYLESS)
    found = {str(path): SIGNS.intersection(_names(ast.parse(path.read_bytes()))) for path in modules}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_names_looked_for_are_those_that_sign() -> None:
    """Else the test above would find nothing whatever the code did."""
    packager = [*(ROOT / "services/packager").glob("*.py"), ROOT / "libreseed/adapters/release/release_build.py"]
    used = {name for path in packager for name in _names(ast.parse(path.read_bytes()))}
    declared = {
        node.name
        for path in (ROOT / "libreseed").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert declared >= SIGNS
    assert used & SIGNS >= {"PrivateKey", "signing_key", "create_key", "build_release"}
