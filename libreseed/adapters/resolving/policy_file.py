"""Reads a policy file, TOML or JSON by its name; what it means is :mod:`libreseed.resolve.policy`'s matter.

Paths in it are relative to the folder that it lies in.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import UsageFault
from libreseed.resolve.policy import Policy, parse_policy

__all__ = ["read_policy"]


def read_policy(path: Path) -> Policy:
    """The policy in ``path`` (``.json``: JSON, else TOML); raises ``config.policy`` or ``notfound.file``."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.POLICY_BYTES + 1)
    except OSError as error:
        raise from_oserror(error, "reading the policy") from error
    if len(data) > limits.POLICY_BYTES:
        raise UsageFault("config.policy", f"{path} is larger than {limits.POLICY_BYTES} bytes")
    members = _json(path, data) if path.suffix == ".json" else _toml(path, data)
    if not isinstance(members, dict):
        raise UsageFault("config.policy", f"{path} holds no object")
    policy = parse_policy(members)
    sources = tuple(source if "://" in source else _beside(path, source) for source in policy.sources)
    return replace(policy, sources=sources, headers=tuple(_beside(path, header) for header in policy.headers))


def _beside(path: Path, named: str) -> str:
    return str(path.absolute().parent / Path(named).expanduser())


def _toml(path: Path, data: bytes) -> object:
    import tomli

    try:
        return tomli.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomli.TOMLDecodeError, RecursionError) as error:
        raise UsageFault("config.policy", f"{path} is not TOML: {error}") from error


def _json(path: Path, data: bytes) -> object:
    try:
        return json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UsageFault("config.policy", f"{path} is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members
