"""DIRAM packages on disk: written from a tree of components, judged, and extracted again.

A package is written front to back in one pass over the tree: the manifest's length follows from the sizes, so the data
go to their places first, and the headers around them when their CRC-32 are known. It is read by ranges. In memory is
one component in parts at a time (1.2 MB and its parity), or one block of a component in one file. Whether a name is
given to the result is the caller's matter. Specification: ``auraseal.md``, 5; blocking throughout.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import opened_regular
from libreseed.adapters.files.confine import ConfinedDirectory
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.files.watcher import Tally, Watcher
from libreseed.adapters.packing.tree_hash import read_file, refuse_secret
from libreseed.adapters.packing.tree_walk import FoundFile, WalkRules, open_root, walk
from libreseed.auraseal.component import build_component
from libreseed.auraseal.diram_package import (
    BLOCK_BYTES,
    ComponentKey,
    ComponentReport,
    DiramPackage,
    MemberPath,
    read_package,
)
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import INTEGRITY_MANIFEST_PATH, IntegrityEntry, build_integrity_manifest
from libreseed.auraseal.part import least_parity, part_files
from libreseed.auraseal.zip_layout import Data, ZipEntry, ZipLayout
from libreseed.errors import ContentRejected
from libreseed.keys.lookalike import HEAD_BYTES

__all__ = [
    "ComponentFile",
    "WrittenPackage",
    "collect_components",
    "extract_package",
    "opened_package",
    "write_package",
]

_MOST_IN_PARTS = limits.STRIPE_DATA_ROWS * limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ComponentFile:
    """A component as it lies in the tree; ``parts`` of it go into the package, 1 for the file itself."""

    key: ComponentKey
    found: FoundFile
    parts: int


@dataclass(frozen=True, slots=True)
class WrittenPackage:
    """What was written: how long it is, its SHA-256, and what its manifest says."""

    size: int
    sha256: str
    manifest: Mapping[str, IntegrityEntry] = field(repr=False)


# --- writing ---------------------------------------------------------------------------------------------------------


def collect_components(root: Path, *, in_parts: bool = True) -> tuple[ComponentFile, ...]:
    """The components below ``root``, in the package's order; whatever else is there is refused (``tree.*``).

    With ``in_parts`` those of at most 1,249,280 bytes are cut into parts; larger ones cannot be and stay one file.
    """
    components = []
    for file in walk(root, WalkRules()).files:
        try:
            member = MemberPath.parse(file.path)
        except ContentRejected as error:
            message = f"{file.path!r:.200} is no path of a component, as root/obinexus/src/diram-component-0.bin is"
            raise ContentRejected("tree.path", message, evidence={"path": file.path}) from error
        if member.part >= 0:
            raise ContentRejected("tree.path", f"{file.path!r} is a part: the packager cuts whole .bin files itself")
        data_parts = max(1, -(-file.size // limits.CHUNK_BYTES))
        cut = in_parts and file.size <= _MOST_IN_PARTS
        parts = data_parts + least_parity(data_parts) if cut else 1
        components.append(ComponentFile((member.division, member.component), file, parts))
    if not components:
        raise ContentRejected("tree.root", f"{root} holds no component")
    return tuple(sorted(components, key=lambda component: component.key))


def write_package(
    root: Path,
    components: Sequence[ComponentFile],
    path: Path,
    watcher: Watcher,
    *,
    allow_secrets: bool = False,
) -> WrittenPackage:
    """Write the package of ``components``, found below ``root``, to the new file ``path``.

    Raises :class:`ContentRejected` (``tree.changed``, ``tree.unreadable``, ``tree.secret``, ``auraseal.zip-size``).
    """
    watcher.phase("packaging", sum(component.found.size for component in components))
    folder = open_root(root)
    try:
        with path.open("xb+") as file:
            writer = _Writer(file.fileno(), folder, Tally(watcher), allow_secrets)
            manifest = writer.write(components)
            file.flush()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return WrittenPackage(os.fstat(file.fileno()).st_size, digest, manifest)
    finally:
        os.close(folder)


class _Writer:
    """Writes data to where it will stand, and the zip's own bytes around it at the end."""

    def __init__(self, out: int, folder: int, tally: Tally, allow_secrets: bool) -> None:
        self._out = out
        self._folder = folder
        self._tally = tally
        self._allow_secrets = allow_secrets
        self._at = 0
        self._entries: list[ZipEntry] = []

    def write(self, components: Sequence[ComponentFile]) -> dict[str, IntegrityEntry]:
        blank = Integrity(bytes(64))
        manifest = {
            component.found.path: IntegrityEntry(blank, component.found.size, component.parts)
            for component in components
        }
        place = len(build_integrity_manifest(manifest))  # digests have one length, so it stays this long
        self._skip(INTEGRITY_MANIFEST_PATH, place)
        for component in components:
            digest = self._whole(component) if component.parts == 1 else self._cut(component)
            manifest[component.found.path] = IntegrityEntry(Integrity(digest), component.found.size, component.parts)
        document = build_integrity_manifest(manifest)
        assert len(document) == place
        first = ZipEntry(INTEGRITY_MANIFEST_PATH, place, zlib.crc32(document))
        self._frame(ZipLayout((first, *self._entries)), document)
        return manifest

    def _skip(self, path: str, size: int) -> int:
        """Leave room for an entry; returns where its data go."""
        start = self._at + len(ZipEntry(path, size, 0).local())
        self._at = start + size
        return start

    def _whole(self, component: ComponentFile) -> bytes:
        found = component.found
        start = at = self._skip(found.path, found.size)
        buffer = memoryview(bytearray(min(BLOCK_BYTES, max(1, found.size))))
        crc32, sha512 = 0, hashlib.sha512()

        def take(piece: memoryview) -> None:
            nonlocal at, crc32
            if at == start:
                self._judge(found, piece)
            crc32 = zlib.crc32(piece, crc32)
            sha512.update(piece)
            at += _write_at(self._out, piece, at)
            self._tally.add(len(piece))

        read_file(self._folder, found, lambda: buffer, take)
        self._entries.append(ZipEntry(found.path, found.size, crc32))
        return sha512.digest()

    def _cut(self, component: ComponentFile) -> bytes:
        found, data = component.found, bytearray()
        buffer = memoryview(bytearray(max(1, found.size)))
        read_file(self._folder, found, lambda: buffer, data.extend)
        self._judge(found, memoryview(data))
        division, number = component.key
        for part, file in enumerate(part_files(build_component(bytes(data), component=number, division=division))):
            path = str(MemberPath(division, number, part))
            _write_at(self._out, file, self._skip(path, len(file)))
            self._entries.append(ZipEntry(path, len(file), zlib.crc32(file)))
        self._tally.add(found.size)
        return hashlib.sha512(data).digest()

    def _judge(self, found: FoundFile, head: memoryview) -> None:
        if not self._allow_secrets:
            refuse_secret(found, bytes(head[:HEAD_BYTES]))

    def _frame(self, layout: ZipLayout, document: bytes) -> None:
        at = 0
        for piece in layout.pieces():
            if isinstance(piece, Data):
                if piece.entry == 0:
                    _write_at(self._out, document, at)
                at += piece.stop - piece.start
            else:
                at += _write_at(self._out, piece, at)


def _write_at(descriptor: int, data: bytes | memoryview, at: int) -> int:
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], at + done)
    return done


# --- reading ---------------------------------------------------------------------------------------------------------


@contextmanager
def opened_package(path: Path) -> Iterator[DiramPackage]:
    """A package on disk, whose form and manifest hold; raises :class:`NotFound`, :class:`ContentRejected`."""
    with opened_regular(path) as (descriptor, size):

        def read(start: int, stop: int) -> bytes:
            try:
                return os.pread(descriptor, stop - start, start)
            except OSError as error:
                raise from_oserror(error, f"reading {path}") from error

        yield read_package(size, read)


def extract_package(package: DiramPackage, folder: Path | None, watcher: Watcher) -> tuple[ComponentReport, ...]:
    """Judge all components of a package, and write them below the new ``folder`` unless that is None.

    All are judged, whatever fails: the first one's reason is raised (``auraseal.*``, ``repair.beyond``), and each has
    its line in the error's details. Then what lies in ``folder`` is not to be used.
    """
    watcher.phase("verifying" if folder is None else "extracting", sum(e.size for e in package.manifest.values()))
    tally = Tally(watcher)
    reports: list[ComponentReport] = []
    refused: list[tuple[str, ContentRejected]] = []
    with _Target(folder) as target:
        for key in sorted(package.manifest):
            path = str(MemberPath(*key))
            try:
                with target.writing(path) as sink:
                    reports.append(package.pour(key, sink))
            except ContentRejected as error:
                refused.append((path, error))
            tally.add(package.manifest[key].size)
    if refused:
        raise _refusal(refused, len(package.manifest))
    return tuple(reports)


class _Target:
    """Where components go: files below a folder, or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else ConfinedDirectory(folder)

    def __enter__(self) -> _Target:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.__exit__(None, None, None)

    @contextmanager
    def writing(self, path: str) -> Iterator[Callable[[bytes], object]]:
        if self._folder is None:
            yield len
            return
        with os.fdopen(self._folder.create(path), "wb") as file:
            yield file.write
            file.flush()
            os.fchmod(file.fileno(), 0o644)


def _refusal(refused: Sequence[tuple[str, ContentRejected]], total: int) -> ContentRejected:
    path, first = refused[0]
    others = f" ({len(refused)} of {total} components are refused)" if len(refused) > 1 else ""
    return ContentRejected(
        first.reason,
        f"{path}: {first.message}{others}",
        evidence={**first.evidence, "refused": {path: error.reason for path, error in refused}},
        details=[f"{path}: {error.message} [{error.reason}]" for path, error in refused],
    )
