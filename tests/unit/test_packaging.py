"""What a wheel holds: every package of ours, and none that is not there."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_on_disk_is_in_the_wheel_and_no_other() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = []
    for folder, name in (("libreseed", "libreseed"), ("services", "libreseed_services")):
        for marker in (ROOT / folder).rglob("__init__.py"):
            found.append(".".join([name, *marker.parent.relative_to(ROOT / folder).parts]))
    assert sorted(declared) == sorted(found)


def test_every_folder_with_code_is_a_package() -> None:
    for folder in ("libreseed", "services"):
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), module
