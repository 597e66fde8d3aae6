"""How a release comes in: found, copied, verified whole, published by one rename; or refused with nothing left behind.

The copy is verified, not the source, so that nothing can change between the check and the seeding. It is a copy and
never a hard link: a link would share its bytes with a file that its publisher may still write to. Where the file system
can share blocks copy-on-write (btrfs, XFS, bcachefs), ``copy_file_range`` does, and the copy costs no space.
DESIGN 4, "Seeder".
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.files.stopping import stop_if
from libreseed.adapters.files.watcher import Nobody
from libreseed.adapters.release.release_folder import ReleaseFiles, verify_release
from libreseed.adapters.release.seed_store import SeedNote
from libreseed.errors import LocalFault, NotFound, RecordRejected
from libreseed.ids import ReleaseId
from libreseed.package.minimal import MinimalManifest, check_not_ahead, parse_minimal

from .source import SUFFIXES, Source
from .stored import Stored

__all__ = ["Found", "copy_release", "find_release", "same_files", "take_in"]

_PORTION = 2**20  # bytes compared at a time
_STEP = 16 * 2**20  # bytes between two looks at whether the add was cancelled
# What copy_file_range answers where it is not possible: other file systems, special ones, old kernels, seccomp.
_NO_RANGE_COPY = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ETXTBSY})


@dataclass(frozen=True, slots=True)
class Found:
    """A source that has all six files and a minimal manifest whose signatures hold; no more is verified yet.

    ``total`` is the size of all files in bytes. ``index`` is the release index beside the folder, not verified yet.
    """

    source: Source
    minimal: MinimalManifest
    total: int
    index: bytes | None

    @property
    def release(self) -> ReleaseId:
        """``name@version``."""
        return self.source.release


def find_release(source: Source, *, now_ms: int, max_package_bytes: int) -> Found:
    """Look at a release before anything is copied; blocks.

    Raises NotFound (``notfound.file``) for what is not there, RecordRejected (``minimal.*``) for a bad manifest, and
    LocalFault (``storage.quota``) for a package above the operator's limit.
    """
    release = source.release
    total = sum(source.size(source.path(suffix)) for suffix in SUFFIXES)
    minimal = parse_minimal(source.read(source.path(".minimal.json"), limits.MINIMAL_BYTES))
    if minimal.release != release:
        message = f"the files are named {release}, the manifest says {minimal.release}"
        raise RecordRejected("minimal.other-release", message)
    check_not_ahead(minimal, now_ms)
    if minimal.size > max_package_bytes:
        message = f"{release} has {minimal.size} bytes, max-package-bytes is {max_package_bytes}"
        raise LocalFault("storage.quota", message)
    index = source.read(source.index, limits.INDEX_RECORD_BYTES) if source.has(source.index) else None
    return Found(source, minimal, total, index)


def copy_release(found: Found, into: Path, *, most: int, cancelled: threading.Event) -> None:
    """Copy the six files, at most ``most`` bytes of them; raises ``Stopped`` soon after ``cancelled`` is set."""
    left = most
    for suffix in SUFFIXES:
        path = found.source.path(suffix)
        left -= _copy(found.source.open(path), into / path.name, left, cancelled)


def same_files(found: Found, folder: Path, cancelled: threading.Event) -> bool:
    """Whether ``found`` has, byte for byte, the six files that are held in ``folder``; blocks."""
    for suffix in SUFFIXES:
        path = found.source.path(suffix)
        with os.fdopen(found.source.open(path), "rb") as offered:
            try:
                with (folder / path.name).open("rb") as held:
                    while data := offered.read(_PORTION):
                        stop_if(cancelled)
                        if held.read(len(data)) != data:
                            return False
                    if held.read(1):
                        return False
            except FileNotFoundError:
                return False
    return True


def take_in(found: Found, staging: Path, now_ms: int, cancelled: threading.Event) -> Stored:
    """Copy ``found`` into the empty directory ``staging`` and verify all of it there.

    Raises NotFound, RecordRejected or ContentRejected as the packager's ``verify`` does; OSError passes. The note of
    the result is not written yet.
    """
    copy_release(found, staging, most=found.total, cancelled=cancelled)
    files = ReleaseFiles.of_release(staging, found.release)
    verified = verify_release(files, watcher=_StopWatch(cancelled))
    if not verified.complete or verified.item is None:
        raise NotFound("notfound.file", f"{found.release} is not complete: it lacks {', '.join(verified.absent)}")
    if verified.minimal != found.minimal:
        raise LocalFault("storage.busy", f"{found.release} changed while it was copied")
    record = files.path(".dht.json").read_bytes()
    stored = Stored(
        folder=staging,
        minimal=found.minimal,
        item=verified.item,
        metainfo=verified.metainfo,
        chunk_map=verified.chunk_map,
        note=SeedNote(minimal=found.minimal.data, dht=record, added_ms=now_ms),
        trusted=True,
    )
    return replace(stored, note=replace(stored.note, stamps=stored.stamps()))


class _StopWatch(Nobody):
    """Ends a verification soon after the add was cancelled."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def update(self, done: int) -> None:
        """A portion was done."""
        stop_if(self._cancelled)


def _copy(reader: int, target: Path, most: int, cancelled: threading.Event) -> int:
    """Copy from ``reader``, which is closed afterwards."""
    try:
        writer = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            return _transfer(reader, writer, most, cancelled, target)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _transfer(reader: int, writer: int, most: int, cancelled: threading.Event, target: Path) -> int:
    step = _range_step
    done = 0
    while True:
        stop_if(cancelled)
        try:
            moved = step(reader, writer)
        except OSError as error:
            if step is _range_step and done == 0 and error.errno in _NO_RANGE_COPY:
                step = _plain_step
                continue
            raise from_oserror(error, f"copying to {target}") from error
        if not moved:
            return done
        done += moved
        if done > most:
            raise LocalFault("storage.busy", f"{target.name} grew while it was copied")


def _range_step(reader: int, writer: int) -> int:
    return os.copy_file_range(reader, writer, _STEP)


def _plain_step(reader: int, writer: int) -> int:
    data = os.read(reader, 2**20)
    view = memoryview(data)
    while view:
        view = view[os.write(writer, view) :]
    return len(data)
