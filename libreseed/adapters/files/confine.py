"""The one place where a path that came from outside becomes a path on this disk.

``confine`` takes a path apart and refuses what could leave its root; :class:`ConfinedDirectory` creates files below an
open directory without ever resolving a name that it did not make itself. Neither reads content.
Specification: ``archive.md``, 5.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from libreseed.errors import ContentRejected
from libreseed.package.paths import check_path

__all__ = ["ConfinedDirectory", "confine"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def confine(path: str) -> list[str]:
    """The segments of a path that came from outside, each a plain name that stays below whatever it is opened in.

    Raises :class:`ContentRejected` (``archive.path``, ``archive.path-bounds``); nothing is rewritten.
    """
    return check_path(path, "archive").split("/")


class ConfinedDirectory:
    """Creates files below ``root``, each name resolved from an open directory, never following a link, never replacing.

    Folders are created as needed, mode 0755. Every folder must be used in one run of calls (the archive's order makes
    it so): a folder that is there already was made by someone else, or collides on this file system, and is refused.
    Holds one descriptor per level of the current path.
    """

    def __init__(self, root: Path) -> None:
        self._open: list[tuple[str, int]] = [("", os.open(root, _DIRECTORY))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._open:
            os.close(self._open.pop()[1])

    def create(self, path: str) -> int:
        """A descriptor, open for writing, of the new file ``path`` (mode 0600 for now); the caller closes it."""
        *folders, name = confine(path)
        self._enter(folders)
        try:
            return os.open(name, _NEW_FILE, 0o600, dir_fd=self._open[-1][1])
        except FileExistsError as error:
            raise _occupied(path) from error

    def _enter(self, folders: list[str]) -> None:
        shared = 0
        while shared < min(len(folders), len(self._open) - 1) and self._open[shared + 1][0] == folders[shared]:
            shared += 1
        while len(self._open) > shared + 1:
            os.close(self._open.pop()[1])
        for folder in folders[shared:]:
            parent = self._open[-1][1]
            try:
                os.mkdir(folder, 0o755, dir_fd=parent)
            except FileExistsError as error:
                raise _occupied(folder) from error
            descriptor = os.open(folder, _DIRECTORY, dir_fd=parent)
            self._open.append((folder, descriptor))
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o755:  # the umask took bits away
                os.fchmod(descriptor, 0o755)


def _occupied(path: str) -> ContentRejected:
    message = f"{path!r:.200} is there already: two names are one on this file system, or another process writes here"
    return ContentRejected("archive.collision", message, evidence={"path": path})
