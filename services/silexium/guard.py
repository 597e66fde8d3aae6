"""Guarantee G2: a log, its mirror or a witness that can read somebody else's private key refuses to start.

The reason is ``key.on-log`` (exit 3). Looked at: the environment; the user's configuration directory of LibreSeed; the
files beside the settings. Its own keys, which it needs to sign heads or to speak TLS, and its own authorities are no
reason. What this process cannot read, it does not hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from libreseed.adapters.command.keys import KEY_VARIABLE, find_private_keys
from libreseed.adapters.command.settings import default_directory
from libreseed.errors import UsageFault

__all__ = ["refuse_private_keys"]


def refuse_private_keys(
    own: Collection[Path | None], *, settings: Path | None = None, environ: Mapping[str, str] | None = None
) -> None:
    """Raise :class:`UsageFault` ``key.on-log`` that names the first key found; blocks while it looks.

    ``own`` are files, and folders with all below them, that may hold keys; ``settings`` is the configuration file.
    """
    environ = os.environ if environ is None else environ
    if environ.get(KEY_VARIABLE):
        raise UsageFault("key.on-log", f"{KEY_VARIABLE} is set: this process could sign with it")
    ours = {path.resolve() for path in own if path is not None}
    for path in _readable_keys(settings, environ):
        place = path.resolve()
        if ours.isdisjoint((place, *place.parents)):
            raise UsageFault("key.on-log", f"{path} looks like a private key and this process can read it")


def _readable_keys(settings: Path | None, environ: Mapping[str, str]) -> Iterator[Path]:
    yield from find_private_keys(default_directory("config", environ))
    if settings is not None:
        yield from find_private_keys(settings.absolute().parent, below=False)
