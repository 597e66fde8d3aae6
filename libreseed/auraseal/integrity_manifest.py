"""``integrity-manifest.json`` (section 3.9): the integrity attribute of every file of a tree, as canonical JSON.

An object from path to ``{"integrity", "parts", "size"}`` and, if and only if the attribute has two hashes, ``recovery``
with the paths of the ``primary`` and the ``secondary`` file. ``size`` is that of what the first hash covers, in bytes;
``parts`` how many part files it is cut into, 1 if it is one file. The document is not signed: it says what a loader may
run to whoever trusts the place that it comes from, and adds nothing to the signatures of a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libreseed import limits, wire
from libreseed.auraseal.integrity import Integrity
from libreseed.errors import ContentRejected
from libreseed.package.document import rejecting, require_count, require_text
from libreseed.package.paths import PathSet, check_path

__all__ = ["INTEGRITY_MANIFEST_PATH", "IntegrityEntry", "build_integrity_manifest", "parse_integrity_manifest"]

INTEGRITY_MANIFEST_PATH = "integrity-manifest.json"
_AREA = "auraseal"


@dataclass(frozen=True, slots=True)
class IntegrityEntry:
    """What the manifest says of one file; ``recovery`` are the paths of its two files, in the order of the hashes."""

    integrity: Integrity
    size: int
    parts: int = 1
    recovery: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.size <= limits.FILE_BYTES and 1 <= self.parts <= limits.COMPONENT_PARTS):
            raise ContentRejected("auraseal.range", f"{self.size} bytes in {self.parts} parts")
        if (self.recovery is None) != (self.integrity.recovery is None):
            raise ContentRejected("auraseal.integrity-recovery", "two hashes need two files, and one hash one")
        for path in self.recovery or ():
            check_path(path, _AREA)


def build_integrity_manifest(entries: Mapping[str, IntegrityEntry]) -> bytes:
    """The manifest's bytes; raises :class:`ContentRejected` as the parser does."""
    _check_paths(entries)
    document = {}
    for path, entry in entries.items():
        document[path] = {"integrity": str(entry.integrity), "parts": entry.parts, "size": entry.size}
        if entry.recovery is not None:
            primary, secondary = entry.recovery
            document[path]["recovery"] = {"primary": primary, "secondary": secondary}
    with rejecting(ContentRejected, _AREA):
        data = wire.canonical(document)
    if len(data) > limits.INTEGRITY_MANIFEST_BYTES:
        raise ContentRejected("auraseal.too-large", f"an integrity manifest of {len(data)} bytes")
    return data


def parse_integrity_manifest(data: bytes) -> dict[str, IntegrityEntry]:
    """Read a manifest of at most 16 MiB; raises :class:`ContentRejected` (``auraseal.*``)."""
    with rejecting(ContentRejected, _AREA):
        document = wire.parse(data, max_bytes=limits.INTEGRITY_MANIFEST_BYTES)
        if type(document) is not dict:
            document = wire.require_members(document, ())
        entries = {path: _entry(value) for path, value in document.items()}
    _check_paths(entries)
    return entries


def _entry(value: wire.JsonValue) -> IntegrityEntry:
    members = wire.require_members(value, ("integrity", "parts", "size"), ("recovery",))
    recovery = None
    if "recovery" in members:
        files = wire.require_members(members["recovery"], ("primary", "secondary"))
        recovery = (require_text(files["primary"], "primary"), require_text(files["secondary"], "secondary"))
    return IntegrityEntry(
        Integrity.parse(members["integrity"]),
        require_count(members["size"], "size", least=0, most=limits.FILE_BYTES),
        require_count(members["parts"], "parts", least=1, most=limits.COMPONENT_PARTS),
        recovery,
    )


def _check_paths(entries: Mapping[str, IntegrityEntry]) -> None:
    if len(entries) > limits.ARCHIVE_ENTRIES:
        raise ContentRejected("auraseal.too-large", f"an integrity manifest of {len(entries)} files")
    tree = PathSet(_AREA)
    for path in entries:
        tree.add(check_path(path, _AREA))
