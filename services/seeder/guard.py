"""Guarantee G2: a seeder that can read a private key refuses to start (``key.on-seeder``, exit 3).

Looked at: the environment; the state directory, the watch folder and the user's configuration directory of LibreSeed
with all below them; the files beside the configuration file. Left out are the .tgz, .chunks, .parity and .torrent of
stored releases. What this process cannot read, it does not hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from libreseed.adapters.command.key_guard import refuse_readable_keys
from libreseed.adapters.command.keys import find_private_keys

from .config import SeederConfig
from .stored import BULKY

__all__ = ["refuse_private_keys"]


def refuse_private_keys(config: SeederConfig, environ: Mapping[str, str] | None = None) -> None:
    """Raise :class:`UsageFault` ``key.on-seeder`` that names the first key found; blocks while it looks."""
    environ = os.environ if environ is None else environ
    refuse_readable_keys("key.on-seeder", environ, settings=config.config_file, places=_places(config))


def _places(config: SeederConfig) -> Iterator[Path]:
    yield from find_private_keys(config.state_dir, but=partial(_bulky, config.state_dir / "releases"))
    if config.watch is not None:
        yield from find_private_keys(config.watch)


def _bulky(releases: Path, path: Path) -> bool:
    """Whether it is of a stored release: of these there are many, and what they hold is verified."""
    folder = path.parent
    release = folder.name[: -len(".") - 32]
    return folder.parent == releases and path.name in {f"{release}{suffix}" for suffix in (*BULKY, ".torrent")}
