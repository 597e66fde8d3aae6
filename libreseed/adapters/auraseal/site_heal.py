"""Heals the folder of a website: a component or recovery file that is damaged or gone is written anew from its twin.

The manifest decides which of the two is right, and the bytes are hashed once more before they are written. Where both
are wrong, or where they are not meant to be equal, nothing is done: the check that follows says so. Specification:
``auraseal.md``, 8; blocking throughout.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.confine import confine
from libreseed.adapters.files.durable import durable_write
from libreseed.auraseal.integrity_manifest import (
    INTEGRITY_MANIFEST_PATH,
    IntegrityEntry,
    parse_integrity_manifest,
)
from libreseed.errors import ContentRejected, NotFound

__all__ = ["heal_site"]


def heal_site(root: Path) -> tuple[str, ...]:
    """Heal what can be healed below ``root``; returns the paths written.

    Raises :class:`NotFound` without a manifest, :class:`ContentRejected` (``auraseal.*``) if what is there is none.
    """
    manifest = parse_integrity_manifest(read_bounded(root / INTEGRITY_MANIFEST_PATH, limits.INTEGRITY_MANIFEST_BYTES))
    return tuple(healed for entry in manifest.values() if (healed := _heal(root, entry)) is not None)


def _heal(root: Path, entry: IntegrityEntry) -> str | None:
    if entry.recovery is None or entry.integrity.primary != entry.integrity.recovery:
        return None
    for path in entry.recovery:
        _refuse_links(root, path)
    good = {path: data for path in entry.recovery if (data := _read(root, path, entry)) is not None}
    bad = [path for path in entry.recovery if path not in good]
    if len(bad) != 1:
        return None
    target = root.joinpath(*confine(bad[0]))
    if target.is_dir():
        return None
    durable_write(target, next(iter(good.values())))
    return bad[0]


def _refuse_links(root: Path, path: str) -> None:
    """A link may lead out of the folder, and whoever made the manifest must not choose what is written there."""
    names = confine(path)
    for count in range(1, len(names) + 1):
        if root.joinpath(*names[:count]).is_symlink():
            raise ContentRejected(
                "tree.symlink", f"{path!r} is, or lies behind, a symbolic link", evidence={"path": path}
            )


def _read(root: Path, path: str, entry: IntegrityEntry) -> bytes | None:
    """The file's bytes if they are what the manifest says."""
    try:
        data = read_bounded(root.joinpath(*confine(path)), entry.size)
    except NotFound:
        return None
    return data if hashlib.sha512(data).digest() == entry.integrity.primary else None
