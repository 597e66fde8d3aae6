"""Guarantee G2: a mirror that can read a publisher's private key refuses to start (``key.on-mirror``, exit 3).

Looked at: the environment; the store with its release folders, but for the files of releases; the user's configuration
directory of LibreSeed; the files beside the configuration file. The certificate's key is the mirror's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from libreseed.adapters.command.key_guard import refuse_readable_keys
from libreseed.adapters.command.keys import find_private_keys
from libreseed.adapters.release.release_folder import SUFFIXES

from .config import MirrorConfig
from .library import STATE_FOLDER

__all__ = ["refuse_private_keys"]


def refuse_private_keys(config: MirrorConfig, config_file: Path | None, environ: Mapping[str, str]) -> None:
    """Raise :class:`UsageFault` ``key.on-mirror`` that names the first key found; blocks while it looks."""
    others = (path for path in _places(config, config_file) if config.key is None or not path.samefile(config.key))
    refuse_readable_keys("key.on-mirror", environ, places=others, own=(config.key,))


def _places(config: MirrorConfig, config_file: Path | None) -> Iterator[Path]:
    yield from _keys_in(config.store)  # which may be a link itself
    for folder in sorted(config.store.iterdir()):
        if folder.name != STATE_FOLDER and not folder.is_symlink() and folder.is_dir():
            yield from _keys_in(folder)
    if config_file is not None:
        yield from _keys_in(config_file.absolute().parent)


def _keys_in(folder: Path) -> Iterator[Path]:
    """The files of releases are not ours to judge, wherever they lie."""
    return find_private_keys(folder, below=False, but=lambda path: path.name.endswith(SUFFIXES))
