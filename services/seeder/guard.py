"""Guarantee G2: a seeder that can read a private key refuses to start (``key.on-seeder``, exit 3).

Looked at: the environment, the state directory and the watch folder with all below them, and the files beside the
configuration file. What this process cannot read, it does not hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from libreseed.adapters.keys import KEY_VARIABLE, find_private_keys, looks_like_private_key
from libreseed.errors import UsageFault

from .config import SeederConfig

__all__ = ["refuse_private_keys"]


def refuse_private_keys(config: SeederConfig, environ: Mapping[str, str] | None = None) -> None:
    """Raise :class:`UsageFault` ``key.on-seeder`` that names the first key found; blocks while it looks."""
    environ = os.environ if environ is None else environ
    if environ.get(KEY_VARIABLE):
        raise UsageFault("key.on-seeder", f"{KEY_VARIABLE} is set: this process could sign")
    for path in _readable_keys(config):
        raise UsageFault("key.on-seeder", f"{path} looks like a private key and this process can read it")


def _readable_keys(config: SeederConfig) -> Iterator[Path]:
    yield from find_private_keys(config.state_dir)
    if config.watch is not None:
        yield from find_private_keys(config.watch)
    if config.config_file is not None:
        beside = config.config_file.parent
        yield from (path for path in sorted(beside.iterdir()) if path.is_file() and looks_like_private_key(path))
