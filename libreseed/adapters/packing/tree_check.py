"""An installed tree judged again: still exactly what its manifest lists, byte for byte and mode for mode.

It trusts nothing in the tree but what the publisher's signatures cover, follows no link and writes nothing. It is what
"already installed" rests on. Blocks; trio code calls it in a thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from libreseed import limits
from libreseed.errors import ContentRejected, LocalFault
from libreseed.ids import Sha256Digest
from libreseed.package.archive_check import check_same_release
from libreseed.package.manifest import FullManifest, parse_manifest
from libreseed.package.minimal import MinimalManifest
from libreseed.package.paths import MANIFEST_PATH

__all__ = ["check_tree_on_disk"]

_READ_BYTES = 2**20


def check_tree_on_disk(root: Path, minimal: MinimalManifest, tree: Sha256Digest | None = None) -> FullManifest:
    """Verify the tree at ``root``; raises :class:`LocalFault` (``storage.changed``) naming the first thing wrong.

    ``tree`` is the SHA-256 of the one manifest.json that will do; without it any that the publisher signed for this
    release does.
    """
    try:
        manifest = parse_manifest(_manifest(root))
        check_same_release(manifest, minimal)
        if tree is not None and manifest.digest != tree:
            raise _changed(root, MANIFEST_PATH, "it is another one than was installed")
    except FileNotFoundError as error:
        raise _changed(root, MANIFEST_PATH, "it is missing") from error
    except NotADirectoryError as error:
        raise _changed(root, MANIFEST_PATH, "it lies below what is no directory") from error
    except ContentRejected as error:
        raise _changed(root, MANIFEST_PATH, str(error)) from error
    executables = frozenset(manifest.executables)
    listed = set(manifest.files) | {MANIFEST_PATH}
    for path, entry in _walk(root, ""):
        if path not in listed:
            raise _changed(root, path, "it is not listed")
        listed.discard(path)
        _check_file(root, path, entry, manifest, 0o755 if path in executables else 0o644)
    if listed:
        raise _changed(root, min(listed), "it is missing")
    return manifest


def _manifest(root: Path) -> bytes:
    """The bytes of manifest.json, bounded; neither a link in its place is followed nor a pipe waited for."""
    try:
        descriptor = os.open(root / MANIFEST_PATH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise _changed(root, MANIFEST_PATH, "it is no regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _changed(root, MANIFEST_PATH, "it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limits.MANIFEST_BYTES + 1)
    finally:
        os.close(descriptor)


def _walk(root: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(root / prefix) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path + "/")
            else:
                yield path, entry


def _check_file(root: Path, path: str, entry: os.DirEntry[str], manifest: FullManifest, mode: int) -> None:
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise _changed(root, path, "it is no regular file")
    if stat.S_IMODE(status.st_mode) != mode:
        raise _changed(root, path, f"its mode is {stat.S_IMODE(status.st_mode):o}")
    if path == MANIFEST_PATH:
        return
    if status.st_size != manifest.sizes[path] or _sha256(entry.path) != manifest.files[path].raw:
        raise _changed(root, path, "its content differs")


def _sha256(path: str) -> bytes:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.digest()


def _changed(root: Path, path: str, what: str) -> LocalFault:
    said = f"{path!r:.200}: {what}"
    return LocalFault("storage.changed", f"{root}: {said}", evidence={"path": path, "what": said})
