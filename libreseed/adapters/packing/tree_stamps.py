"""Whether a tree is still as it was written, without reading its files: by their inodes and times of change.

The system sets the time of change whenever a file's bytes, name or mode change, and lets nobody choose it. A file
system that changes it on its own makes a good tree look touched, never the other way round.
``docs/specification/resolver.md``, "Extraction beside the download".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from libreseed.errors import LocalFault

__all__ = ["Stamp", "require_untouched", "stamp_of"]

Stamp = tuple[int, int]  # inode, time of change in nanoseconds


def stamp_of(descriptor: int) -> Stamp:
    """Of an open file whose bytes and mode are what they shall be."""
    found = os.fstat(descriptor)
    return found.st_ino, found.st_ctime_ns


def require_untouched(root: Path, stamps: Mapping[str, Stamp]) -> None:
    """Below ``root`` lie exactly the files of ``stamps``, by path, untouched since, in folders of mode 0755.

    Raises :class:`LocalFault` ``storage.changed``; ``OSError`` passes.
    """
    met, folders = 0, {above for path in stamps for above in _above(path)}
    for folder, names, files in os.walk(root, onerror=_pass_on):
        here = Path(folder)
        for inner in map(here.joinpath, names):
            mode, path = inner.lstat().st_mode, inner.relative_to(root).as_posix()
            if path not in folders or not stat.S_ISDIR(mode) or mode & 0o777 != 0o755:
                raise _touched(root, path)
        for file in map(here.joinpath, files):
            found, path = file.lstat(), file.relative_to(root).as_posix()
            if stamps.get(path) != (found.st_ino, found.st_ctime_ns):
                raise _touched(root, path)
        met += len(files)
    if met != len(stamps):
        raise _touched(root, f"{len(stamps) - met} files are missing")


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _pass_on(error: OSError) -> None:
    raise error


def _touched(root: Path, what: str) -> LocalFault:
    return LocalFault("storage.changed", f"{root} was changed while it was made: {what!r:.200}")
