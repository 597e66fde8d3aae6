"""DIRAM packages (section 3.9): components in five divisions, as one zip of the form of :mod:`.zip_layout`.

The first entry is ``integrity-manifest.json``, which names every component by the path of its ``.bin`` file, and covers
the component's bytes by SHA-512. A component is there as that one file, or as part files, of which some may be missing
or damaged: it comes out as long as they heal to what the manifest says. Entries are ordered by division, component and
part number; no other path can be in a package, so none has to be confined. Nothing here touches a disk: a package is
read by ranges, and of a component in one file never more than ``BLOCK_BYTES`` are in memory.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from libreseed import limits
from libreseed.auraseal.component import build_component, reconstruct
from libreseed.auraseal.health_trie import PhenoAVLTrie
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import (
    INTEGRITY_MANIFEST_PATH,
    IntegrityEntry,
    build_integrity_manifest,
    parse_integrity_manifest,
)
from libreseed.auraseal.part import part_files
from libreseed.auraseal.zip_layout import Data, ReadBytes, ZipEntry, ZipLayout, read_zip
from libreseed.errors import ContentRejected, NotFound

__all__ = [
    "BLOCK_BYTES",
    "DIVISIONS",
    "ComponentKey",
    "ComponentReport",
    "DiramPackage",
    "MemberPath",
    "build_package",
    "open_package",
    "read_package",
]

BLOCK_BYTES = 2**20

# Folder and stem of each division; the index is the division's number in a part's header.
DIVISIONS = (
    ("root/obinexus/src", "diram-component"),
    ("services", "diram-service"),
    ("operations", "diram-operation"),
    ("divisions", "diram-division"),
    ("country", "diram-country"),
)
_BYTE = r"(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
_MEMBER = re.compile(
    "(" + "|".join(f"{folder}/{stem}" for folder, stem in DIVISIONS) + rf")-{_BYTE}\.(?:bin|part\.{_BYTE})", re.ASCII
)
_STEMS = {f"{folder}/{stem}": number for number, (folder, stem) in enumerate(DIVISIONS)}
ComponentKey = tuple[int, int]  # division, component


@dataclass(frozen=True, slots=True, order=True)
class MemberPath:
    """A file of a package: a whole component, or one part of it. They are ordered as they stand in the zip."""

    division: int
    component: int
    part: int = -1  # -1: the whole component

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a path; raises :class:`ContentRejected` (``auraseal.zip-path``)."""
        match = _MEMBER.fullmatch(path)
        if not match:
            raise ContentRejected("auraseal.zip-path", f"no path in a package: {path!r:.100}")
        stem, component, part = match.groups()
        return cls(_STEMS[stem], int(component), -1 if part is None else int(part))

    def __str__(self) -> str:
        folder, stem = DIVISIONS[self.division]
        return f"{folder}/{stem}-{self.component}.{'bin' if self.part < 0 else f'part.{self.part}'}"


@dataclass(frozen=True, slots=True)
class ComponentReport:
    """How a component was found: ``verified`` are the numbers of the parts that held by themselves, of ``parts``.

    ``healed`` are those that were put right or made anew, ``rejected`` says why a part that is there was not used.
    A component that is one file counts as one part.
    """

    path: str
    size: int
    parts: int
    verified: frozenset[int]
    healed: frozenset[int] = frozenset()
    rejected: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiramPackage:
    """A package whose zip and manifest hold; components are verified when they are asked for."""

    read: ReadBytes = field(repr=False)
    layout: ZipLayout = field(repr=False)
    manifest: Mapping[ComponentKey, IntegrityEntry]
    _members: Mapping[ComponentKey, Mapping[int, int]] = field(repr=False)  # part number, or -1 -> entry number

    def component(self, key: ComponentKey) -> bytes:
        """A component's bytes, healed where necessary, and verified; see :meth:`pour`."""
        data = bytearray()
        self.pour(key, data.extend)
        return bytes(data)

    def pour(self, key: ComponentKey, sink: Callable[[bytes], object]) -> ComponentReport:
        """Give ``sink`` a component, healed where necessary. What it got is verified only once this returns.

        Raises :class:`NotFound` (``notfound.component``), and :class:`ContentRejected` (``auraseal.*``,
        ``repair.beyond``) if what is there is not and does not heal to what the manifest says.
        """
        if key not in self.manifest:
            raise NotFound("notfound.component", f"the package has no component {key[1]} in division {key[0]}")
        if -1 in self._members[key]:
            return self._pour_whole(key, sink)
        listed = self.manifest[key]
        result = reconstruct({part: self._file(entry) for part, entry in self._members[key].items()})
        shape = result.parts[0].shape
        if (shape.division, shape.component) != key or shape.total_parts != listed.parts:
            raise ContentRejected("auraseal.siblings", f"these parts are not those of component {key}")
        listed.integrity.require_primary(hashlib.sha512(result.data).digest())
        sink(result.data)
        rejected = {number: error.reason for number, error in result.rejected.items()}
        return ComponentReport(
            str(MemberPath(*key)), listed.size, listed.parts, result.verified, result.healed, rejected
        )

    def _pour_whole(self, key: ComponentKey, sink: Callable[[bytes], object]) -> ComponentReport:
        number = self._members[key][-1]
        entry, start = self.layout.entries[number], self.layout.data_offset(number)
        crc32, sha512 = 0, hashlib.sha512()
        for at in range(0, entry.size, BLOCK_BYTES):
            block = self.read(start + at, start + min(at + BLOCK_BYTES, entry.size))
            crc32 = zlib.crc32(block, crc32)
            sha512.update(block)
            sink(block)
        if crc32 != entry.crc32:
            raise ContentRejected("auraseal.zip-crc", f"{entry.path} has another CRC-32")
        self.manifest[key].integrity.require_primary(sha512.digest())
        return ComponentReport(entry.path, entry.size, 1, frozenset({0}))

    def health(self) -> PhenoAVLTrie:
        """Which parts are there and hold; a component that is one file counts as one part."""
        trie = PhenoAVLTrie()
        for (division, component), entry in self.manifest.items():
            verified = self._holding((division, component))
            for part in range(entry.parts):
                trie.set((division, component, part), part in verified)
        return trie

    def _holding(self, key: ComponentKey) -> Collection[int]:
        try:
            return self.pour(key, len).verified
        except ContentRejected as error:
            rejected = error.evidence.get("rejected")
            return set(self._members[key]) - {-1} - set(rejected) if isinstance(rejected, dict) else ()

    def _file(self, entry: int) -> bytes:
        start = self.layout.data_offset(entry)
        return self.read(start, start + self.layout.entries[entry].size)


def build_package(components: Mapping[ComponentKey, bytes], *, in_parts: Collection[ComponentKey] = ()) -> bytes:
    """The zip of ``components`` (by division and number); those that ``in_parts`` names become part files.

    Raises :class:`ContentRejected` (``auraseal.zip-*``, ``auraseal.part-fields``) if a package cannot hold them.
    """
    manifest: dict[str, IntegrityEntry] = {}
    members: list[tuple[str, bytes]] = []
    for (division, component), data in sorted(components.items()):
        if not (0 <= division < len(DIVISIONS) and 0 <= component < limits.COMPONENTS):
            raise ContentRejected("auraseal.zip-path", f"no component {component} of division {division}")
        whole = str(MemberPath(division, component))
        files = [(whole, data)]
        if (division, component) in in_parts:
            parts = build_component(data, component=component, division=division)
            files = [(str(MemberPath(division, component, at)), file) for at, file in enumerate(part_files(parts))]
        manifest[whole] = IntegrityEntry(Integrity.of(data), len(data), len(files))
        members += files
    members.insert(0, (INTEGRITY_MANIFEST_PATH, build_integrity_manifest(manifest)))
    layout = ZipLayout(tuple(ZipEntry(path, len(file), zlib.crc32(file)) for path, file in members))
    return b"".join(members[piece.entry][1] if isinstance(piece, Data) else piece for piece in layout.pieces())


def open_package(data: bytes | memoryview) -> DiramPackage:
    """Read a package in memory; see :func:`read_package`."""
    view = memoryview(data).cast("B")
    return read_package(len(view), lambda start, stop: bytes(view[start:stop]))


def read_package(size: int, read: ReadBytes) -> DiramPackage:
    """Read a package of ``size`` bytes; raises :class:`ContentRejected` (``auraseal.*``).

    The form of the zip, its paths and their order, and the manifest are verified; see :meth:`DiramPackage.pour`.
    """
    layout = read_zip(size, read)
    manifest = _read_manifest(layout, read)
    members: dict[ComponentKey, dict[int, int]] = {key: {} for key in manifest}
    for number, member in _ordered(layout):
        _demand_member(member, layout.entries[number], manifest)
        members[member.division, member.component][member.part] = number
    for key, files in members.items():
        if not files:
            raise ContentRejected("auraseal.zip-path", f"nothing is there of component {key}")
    return DiramPackage(read, layout, manifest, members)


def _read_manifest(layout: ZipLayout, read: ReadBytes) -> dict[ComponentKey, IntegrityEntry]:
    if not layout.entries or layout.entries[0].path != INTEGRITY_MANIFEST_PATH:
        raise ContentRejected("auraseal.zip-path", f"the first entry is not {INTEGRITY_MANIFEST_PATH}")
    start, first = layout.data_offset(0), layout.entries[0]
    document = read(start, start + min(first.size, limits.INTEGRITY_MANIFEST_BYTES + 1))
    if len(document) <= limits.INTEGRITY_MANIFEST_BYTES and zlib.crc32(document) != first.crc32:
        raise ContentRejected("auraseal.zip-crc", f"{INTEGRITY_MANIFEST_PATH} has another CRC-32")
    manifest: dict[ComponentKey, IntegrityEntry] = {}
    for path, entry in parse_integrity_manifest(document).items():
        member = MemberPath.parse(path)
        if member.part >= 0 or entry.recovery is not None:
            raise ContentRejected("auraseal.zip-path", f"{path} is not a component of a package")
        manifest[member.division, member.component] = entry
    return manifest


def _ordered(layout: ZipLayout) -> Iterator[tuple[int, MemberPath]]:
    last: MemberPath | None = None
    for number, entry in enumerate(layout.entries[1:], 1):
        member = MemberPath.parse(entry.path)
        if last is not None and member <= last:
            raise ContentRejected("auraseal.zip-path", f"{entry.path} is out of order")
        last = member
        yield number, member


def _demand_member(
    member: MemberPath,
    entry: ZipEntry,
    manifest: Mapping[ComponentKey, IntegrityEntry],
) -> None:
    """A member belongs to a component that is listed, in one of the two forms, with a size that is possible."""
    key = (member.division, member.component)
    if key not in manifest:
        raise ContentRejected("auraseal.zip-path", f"{entry.path} is not in the manifest")
    listed = manifest[key]
    whole = member.part < 0
    if whole != (listed.parts == 1) or member.part >= listed.parts:
        raise ContentRejected("auraseal.zip-path", f"{entry.path} where {listed.parts} parts are listed")
    frame = limits.PART_HEADER_BYTES + limits.PART_FOOTER_BYTES
    good = entry.size == listed.size if whole else frame <= entry.size <= frame + limits.CHUNK_BYTES
    if not good:
        raise ContentRejected("auraseal.zip-size", f"{entry.path} of {entry.size} bytes")
