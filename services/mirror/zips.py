"""The package zip of a .tgz: division 0, one ``.bin`` per component, behind its integrity manifest (auraseal.md, 5).

Components and not parts, because a zip's entries must be known in size before its first byte is sent, and parts are
compressed: the parts have paths of their own.
"""

from __future__ import annotations

import zlib

from libreseed import limits
from libreseed.auraseal.diram_package import MemberPath
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import INTEGRITY_MANIFEST_PATH, IntegrityEntry, build_integrity_manifest
from libreseed.auraseal.zip_layout import ZipEntry, ZipLayout
from libreseed.errors import NotFound

from .copies import Copy

__all__ = ["zip_layout"]

_COMPONENT_BYTES = limits.STRIPE_DATA_ROWS * limits.CHUNK_BYTES


def zip_layout(copy: Copy) -> tuple[bytes, ZipLayout]:
    """The integrity manifest and the layout of a whole copy's zip; raises :class:`NotFound` if it is too large."""
    if not copy.note.components:
        raise NotFound("mirror.absent", f"{copy.minimal.release} has more than {limits.COMPONENTS} components")
    files: list[tuple[str, int, int, bytes]] = []
    for number, component in enumerate(copy.note.components):
        size = min(_COMPONENT_BYTES, copy.minimal.size - number * _COMPONENT_BYTES)
        files.append((str(MemberPath(0, number)), size, component.crc32, component.sha512))
    manifest = build_integrity_manifest(
        {path: IntegrityEntry(Integrity(sha512), size) for path, size, _, sha512 in files}
    )
    first = ZipEntry(INTEGRITY_MANIFEST_PATH, len(manifest), zlib.crc32(manifest))
    return manifest, ZipLayout((first, *(ZipEntry(path, size, crc32) for path, size, crc32, _ in files)))
