"""Durable writes: a file or a directory appears whole, or not at all, and is on the disk once the call returns.

Invariants: a file is written to a temporary name in its own directory, synced, renamed, and then the directory is
synced; a directory is filled under a hidden staging name beside its final place and published by one rename after its
files and itself are synced. Staging that a crash leaves behind starts with ``STAGING_PREFIX``; ``remove_leftovers``
clears what no living process holds locked. Nothing here verifies content. docs/specification/commands.md.

Every function blocks; trio code calls it in a thread. ``OSError`` passes through untranslated.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from libreseed.errors import LocalFault

__all__ = [
    "STAGING_PREFIX",
    "DurableBatch",
    "begin_writing",
    "durable_create",
    "durable_write",
    "publish_directory",
    "publish_file",
    "remove_leftovers",
    "replace_directory",
    "staging_directory",
    "sync_directory",
    "sync_file",
    "sync_tree",
]

STAGING_PREFIX = ".libreseed-staging-"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
_SYNC_THREADS = 8
_SYNC_EACH = 1000  # files of a batch that are synced one by one


def durable_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace or create the file ``path`` with ``data`` in one step; a crash leaves the old content or the new."""
    _replace(path, data, mode)
    sync_directory(path.parent)


def durable_create(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Create the file ``path`` with ``data`` in one step; raises ``FileExistsError`` rather than replace anything.

    The whole file gets its name by ``link``, which never replaces, so even two creators at once cannot mix.
    """
    temporary = _write_temporary(path, data, mode)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def _replace(path: Path, data: bytes, mode: int, *, sync: bool = True) -> None:
    temporary = _write_temporary(path, data, mode, sync=sync)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_temporary(path: Path, data: bytes, mode: int, *, sync: bool = True) -> Path:
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if sync:
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


class DurableBatch:
    """Files below ``root`` that become durable together: whoever says that they are there does so after ``commit``.

    Each appears whole under its name at once; a crash before ``commit`` may leave any of them empty or absent.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: set[Path] = set()
        self._files: list[Path] = []
        self._many = False

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write or replace the file ``path``, a relative path of our own making."""
        target = self._root / path
        self._make(target.parent)
        _replace(target, data, mode, sync=False)
        self._many = self._many or len(self._files) >= _SYNC_EACH
        if not self._many:
            self._files.append(target)

    def _make(self, folder: Path) -> None:
        """Make what is missing of ``folder``, below the root and itself, for everybody to read like the files."""
        if folder in self._folders:
            return
        if folder != self._root:
            self._make(folder.parent)
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        self._folders.add(folder)

    def commit(self) -> None:
        """Everything written so far is on the disk on return."""
        if self._many:
            os.sync()  # one by one they would take a journal transaction for every few
        else:
            _sync_all(self._files, sorted(self._folders))
        self._files.clear()
        self._folders.clear()
        self._many = False


@contextlib.contextmanager
def staging_directory(parent: Path) -> Iterator[Path]:
    """A new empty directory in ``parent`` (which must exist), removed on exit unless it was published.

    It is on the same file system as its final place, so that :func:`publish_directory` is one rename. Meanwhile the
    directory is locked (``flock``), by which :func:`remove_leftovers` tells a crash from a running process.
    """
    staging = parent / (STAGING_PREFIX + secrets.token_hex(8))
    descriptor = None
    try:  # from the first moment on: an interruption can come at any
        while descriptor is None:
            staging = parent / (STAGING_PREFIX + secrets.token_hex(8))
            descriptor = _make_locked(staging)
        yield staging
    finally:
        try:
            _remove_tree(staging)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _make_locked(staging: Path) -> int | None:
    """Make and lock the directory; None when :func:`remove_leftovers` came between: another name is to be taken."""
    staging.mkdir(mode=0o700)
    try:
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if staging.is_dir():
        return descriptor
    os.close(descriptor)
    return None


def publish_directory(staging: Path, final: Path, *, mode: int = 0o755) -> None:
    """Make ``staging`` visible as ``final`` by one rename, after syncing all that it holds.

    Raises :class:`LocalFault` ``storage.exists`` when ``final`` exists in any form. (Between check and rename only an
    empty directory could be replaced: ``rename`` itself refuses all else.)
    """
    staging.chmod(mode)
    sync_tree(staging)
    if os.path.lexists(final):
        raise LocalFault("storage.exists", f"{final} exists already and is never replaced")
    try:
        staging.rename(final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise LocalFault("storage.exists", f"{final} exists already and is never replaced") from error
        raise
    sync_directory(final.parent)


def replace_directory(staging: Path, final: Path, *, mode: int = 0o755) -> None:
    """As :func:`publish_directory`, or in the place of the directory ``final``: one of the two is there at any moment.

    What was there is in ``staging`` afterwards. Where the file system cannot exchange names there is a moment without.
    """
    if not final.is_dir() or final.is_symlink():
        publish_directory(staging, final, mode=mode)
        return
    staging.chmod(mode)
    sync_tree(staging)
    if not _exchange(staging, final):
        aside = staging.with_name(STAGING_PREFIX + secrets.token_hex(8))
        final.rename(aside)
        staging.rename(final)
        aside.rename(staging)
    sync_directory(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (``renameat2``, Linux 3.15); False where that cannot be had."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def publish_file(staged: Path, final: Path, *, mode: int = 0o644) -> None:
    """Make the file ``staged``, in a staging directory on the same file system, visible as ``final`` in one step.

    Raises :class:`LocalFault` ``storage.exists`` when ``final`` exists: it gets its name by ``link``, which never
    replaces anything. The staged name goes with its directory.
    """
    staged.chmod(mode)
    sync_file(staged)
    try:
        os.link(staged, final)
    except FileExistsError as error:
        raise LocalFault("storage.exists", f"{final} exists already and is never replaced") from error
    sync_directory(final.parent)


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove staging directories in ``parent`` whose process is gone; returns what was removed."""
    removed = []
    for staging in sorted(parent.glob(STAGING_PREFIX + "*")):
        try:
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):  # its own process has just finished with it; or not ours
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_tree(staging)
            removed.append(staging)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return removed


def _remove_tree(root: Path) -> None:
    """Remove ``root``, also when it holds directories without the owner's write bit."""
    if not root.is_dir() or root.is_symlink():
        return
    root.chmod(0o700)
    for folder, names, _ in os.walk(root):
        for inner in (Path(folder, name) for name in names):
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(root)


def begin_writing(descriptor: int) -> None:
    """Let the system begin to write what is in an open file, so that a later sync finds it written: a mere hint."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux writes what it may not forget yet


def sync_file(path: Path) -> None:
    """``fsync`` one regular file by name."""
    _fsync(path, os.O_RDONLY | os.O_NOFOLLOW)


def sync_directory(path: Path) -> None:
    """``fsync`` one directory, so that the names in it are on the disk."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(root: Path) -> None:
    """``fsync`` every file and every directory below ``root``, and itself.

    Several at once: each ``fsync`` waits for the disk's journal, and those that wait together share one write of it
    (446 files in 0.2 s instead of 1.6 s).
    """
    folders, files = [], []
    for folder, _, names in os.walk(root):
        folders.append(Path(folder))
        files += [Path(folder, name) for name in names]
    _sync_all(files, folders)


def _sync_all(files: list[Path], folders: list[Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(sync_file, files):
            pass
        for _ in pool.map(sync_directory, folders):
            pass


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
