"""Guarantee G2: a process that needs no private key but its own refuses to start where it can read another.

Looked at, for every process: the environment; the user's configuration directory of LibreSeed with all below it; the
files beside the settings. Each names its own places besides. What a process cannot read, it does not hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from libreseed.adapters.command.keys import KEY_VARIABLE, find_private_keys
from libreseed.adapters.command.settings import default_directory
from libreseed.errors import UsageFault

__all__ = ["refuse_readable_keys"]


def refuse_readable_keys(
    reason: str,
    environ: Mapping[str, str],
    *,
    settings: Path | None = None,
    places: Iterable[Path] = (),
    own: Collection[Path | None] = (),
) -> None:
    """Raise :class:`UsageFault` ``reason`` that names the first key found; blocks while it looks.

    ``settings`` is the configuration file; ``places`` are further files that look like private keys; ``own`` are files,
    and folders with all below them, that may hold keys.
    """
    if environ.get(KEY_VARIABLE):
        raise UsageFault(reason, f"{KEY_VARIABLE} is set: this process could sign with it")
    ours = {path.resolve() for path in own if path is not None}
    for path in chain(places, _usual(settings, environ)):
        place = path.resolve()
        if ours.isdisjoint((place, *place.parents)):
            raise UsageFault(reason, f"{path} looks like a private key and this process can read it")


def _usual(settings: Path | None, environ: Mapping[str, str]) -> Iterator[Path]:
    yield from find_private_keys(default_directory("config", environ))
    if settings is not None:
        yield from find_private_keys(settings.absolute().parent, below=False)
