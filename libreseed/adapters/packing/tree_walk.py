"""Walks a directory for packaging: finds its regular files and refuses everything that is none.

Each folder is opened relative to its parent without following links. ``.libreseedignore`` at the root (gitignore
syntax) takes names out before anything else is asked of them. Refusals name the path and have a reason each
(``tree.*``). File contents are not read here. Specification: ``package.md``, 6.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.errors import ContentRejected, NotFound
from libreseed.package.paths import MANIFEST_PATH, SRC_PATH, PathSet, check_path, path_key

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["IGNORE_FILE", "Found", "FoundFile", "Identity", "WalkRules", "open_root", "reading", "walk"]

IGNORE_FILE = ".libreseedignore"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISLNK, "tree.symlink", "a symbolic link"),
    (stat.S_ISFIFO, "tree.fifo", "a fifo"),
    (stat.S_ISSOCK, "tree.socket", "a socket"),
    (stat.S_ISBLK, "tree.device", "a block device"),
    (stat.S_ISCHR, "tree.device", "a character device"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What must stay the same while a file is read: which inode, how long, when it last changed."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """From ``lstat`` or ``fstat``."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file: its package path, its owner's x bit, its identity (the size in bytes is there)."""

    path: str
    executable: bool
    identity: Identity

    @property
    def size(self) -> int:
        """Bytes when it was found."""
        return self.identity.size


@dataclass(frozen=True, slots=True)
class Found:
    """Everything below a root: ``files`` in the archive's order, and what the package will not hold."""

    files: tuple[FoundFile, ...]
    empty_folders: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WalkRules:
    """What is taken although it is refused by default."""

    allow_git: bool = False


def walk(root: Path, rules: WalkRules) -> Found:
    """Find all files below ``root``; raises :class:`NotFound` or :class:`ContentRejected` (``tree.*``)."""
    descriptor = open_root(root)
    try:
        walker = _Walker(rules, _ignore_spec(descriptor))
        walker.folder(descriptor, "")
    finally:
        os.close(descriptor)
    return walker.found()


def open_root(root: Path) -> int:
    """A descriptor of the directory ``root``, which may itself be named by a link; the caller closes it."""
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound("notfound.file", f"no directory {root}") from error
    except NotADirectoryError as error:
        raise ContentRejected("tree.root", f"{root} is not a directory") from error
    except PermissionError as error:
        raise ContentRejected("tree.unreadable", f"{root} cannot be read: {error.strerror}") from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Translate what the system says while ``path`` is opened or read."""
    try:
        yield
    except FileNotFoundError as error:
        raise ContentRejected("tree.changed", f"{path!r} vanished while the tree was read") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):  # O_NOFOLLOW, O_DIRECTORY: something else stands there now
            raise ContentRejected("tree.changed", f"{path!r} changed while the tree was read") from error
        message = f"{path!r} cannot be read: {error.strerror}"
        raise ContentRejected("tree.unreadable", message, evidence={"path": path}) from error


class _Walker:
    def __init__(self, rules: WalkRules, ignore: GitIgnoreSpec | None) -> None:
        self._rules = rules
        self._ignore = ignore
        self._files: list[FoundFile] = []
        self._empty: list[str] = []
        self._ignored: list[str] = []
        self._tree = PathSet("tree")
        self._inodes: dict[tuple[int, int], str] = {}
        for path in (MANIFEST_PATH, SRC_PATH):
            self._tree.add(path)

    def found(self) -> Found:
        files = tuple(sorted(self._files, key=lambda file: path_key(file.path)))
        return Found(files, tuple(sorted(self._empty)), tuple(sorted(self._ignored)))

    def folder(self, descriptor: int, prefix: str) -> None:
        """Take in an open folder; ``prefix`` is its path with a slash behind it, or empty."""
        with reading(prefix or "."):
            names = sorted(os.listdir(descriptor))
        kept = 0
        for name in names:
            path = prefix + name
            if not prefix and name in (MANIFEST_PATH, SRC_PATH):
                message = f"{name!r} at the root is made by the packager: remove it, or rename it"
                raise ContentRejected("tree.reserved", message, evidence={"path": name})
            with reading(path):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if self._ignore is not None and self._ignore.match_file(path + "/" if is_folder else path):
                self._ignored.append(path)
                continue
            kept += 1
            self._check_name(name, path)
            if is_folder:
                self._enter(descriptor, name, path)
            else:
                self._file(path, status)
        if prefix and not kept:
            self._empty.append(prefix[:-1])

    def _check_name(self, name: str, path: str) -> None:
        check_path(path, "tree")
        if name.lower() == ".git" and not self._rules.allow_git:
            message = f"{path!r} is the history of a repository, not part of a package"
            raise ContentRejected("tree.git", message, evidence={"path": path})

    def _enter(self, parent: int, name: str, path: str) -> None:
        with reading(path):
            descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self.folder(descriptor, path + "/")
        finally:
            os.close(descriptor)

    def _file(self, path: str, status: os.stat_result) -> None:
        for test, reason, what in _KINDS:
            if test(status.st_mode):
                message = f"{path!r} is {what}; a package holds regular files only"
                raise ContentRejected(reason, message, evidence={"path": path})
        if status.st_nlink > 1:
            other = self._inodes.setdefault((status.st_dev, status.st_ino), path)
            if other != path:
                message = f"{other!r} and {path!r} are one file (a hard link)"
                raise ContentRejected("tree.hardlink", message, evidence={"paths": [other, path]})
        if status.st_size > limits.FILE_BYTES:
            raise ContentRejected("tree.file-size", f"{path!r} has more than {limits.FILE_BYTES} bytes")
        self._tree.add(path)
        self._files.append(FoundFile(path, bool(status.st_mode & stat.S_IXUSR), Identity.of(status)))
        if len(self._files) > limits.ARCHIVE_ENTRIES - 2:  # manifest.json and SRC come on top
            raise ContentRejected("tree.entries", f"a package holds at most {limits.ARCHIVE_ENTRIES - 2} files")


def _ignore_spec(root: int) -> GitIgnoreSpec | None:
    try:
        descriptor = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ContentRejected("tree.ignore-file", f"{IGNORE_FILE} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # fdopen would name a folder by its descriptor's number
        os.close(descriptor)
        raise ContentRejected("tree.ignore-file", f"{IGNORE_FILE} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limits.IGNORE_FILE_BYTES + 1)
    if len(data) > limits.IGNORE_FILE_BYTES:
        raise ContentRejected("tree.ignore-file", f"{IGNORE_FILE} has more than {limits.IGNORE_FILE_BYTES} bytes")
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore import GitIgnorePatternError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of re, about "[[" in the expressions that pathspec makes
            return GitIgnoreSpec.from_lines(line.removesuffix("\r") for line in data.decode("utf-8").split("\n"))
    except (UnicodeDecodeError, GitIgnorePatternError, re.error) as error:
        raise ContentRejected("tree.ignore-file", f"{IGNORE_FILE}: {error}") from error
