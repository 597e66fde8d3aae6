"""The full manifest: ``manifest.json``, the first entry of a package's archive (DESIGN 3.3).

A :class:`FullManifest` is made from its exact bytes and cannot exist unless everything that can be said without the
files holds: canonical form, closed set of members, legal paths, contentHash recomputed, both signatures. It says
nothing about the files themselves. No member is ever executed. Specification: ``package.md``, 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from libreseed import limits, wire
from libreseed.errors import ContentRejected, Malformed
from libreseed.ids import PackageName, PublicKey, ReleaseId, Sha256Digest, Signature, Version
from libreseed.keys.ed25519 import MANIFEST_DOMAIN, PrivateKey, verify
from libreseed.package.content import content_hash
from libreseed.package.document import PROTOCOL, rejecting, require_count, require_protocol, require_text
from libreseed.package.paths import MANIFEST_PATH, SRC_PATH, check_path, check_tree, path_key

__all__ = ["OPTIONAL_TEXTS", "FullManifest", "parse_manifest"]

OPTIONAL_TEXTS = ("author", "description", "homepage", "license", "repository")
_REQUIRED = (
    "contentHash",
    "executables",
    "files",
    "manifestSignature",
    "name",
    "protocol",
    "pubkey",
    "signature",
    "sizes",
    "timestamp",
    "version",
)


@dataclass(frozen=True, slots=True)
class FullManifest:
    """A verified full manifest; ``FullManifest(data)`` parses and verifies, or raises :class:`ContentRejected`.

    ``files`` and ``sizes`` map each path (``SRC`` among them, ``manifest.json`` never) to its SHA-256 and its bytes;
    ``timestamp`` is in milliseconds of the Unix epoch. Equality is of ``data``.
    """

    data: bytes = field(repr=False)
    name: PackageName = field(init=False, compare=False)
    version: Version = field(init=False, compare=False)
    files: Mapping[str, Sha256Digest] = field(init=False, compare=False, repr=False)
    sizes: Mapping[str, int] = field(init=False, compare=False, repr=False)
    executables: tuple[str, ...] = field(init=False, compare=False, repr=False)
    content_hash: Sha256Digest = field(init=False, compare=False)
    pubkey: PublicKey = field(init=False, compare=False)
    timestamp: int = field(init=False, compare=False)
    signature: Signature = field(init=False, compare=False, repr=False)
    seal: Signature = field(init=False, compare=False, repr=False)
    texts: Mapping[str, str] = field(init=False, compare=False, repr=False)
    dependencies: Mapping[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        with rejecting(ContentRejected, "manifest"):
            members = wire.require_members(
                wire.parse(self.data, max_bytes=limits.MANIFEST_BYTES), _REQUIRED, (*OPTIONAL_TEXTS, "dependencies")
            )
            require_protocol(members, ContentRejected, "manifest")
            self._set(
                name=PackageName(require_text(members["name"], "name")),
                version=Version(require_text(members["version"], "version")),
                files=_files(members["files"]),
                sizes=_sizes(members["sizes"]),
                executables=_executables(members["executables"]),
                content_hash=Sha256Digest.parse(members["contentHash"]),
                pubkey=PublicKey.parse(members["pubkey"]),
                timestamp=require_count(members["timestamp"], "timestamp", least=0, most=limits.JSON_INTEGER),
                signature=Signature.parse(members["signature"]),
                seal=Signature.parse(members["manifestSignature"]),
                texts=MappingProxyType({n: require_text(members[n], n) for n in OPTIONAL_TEXTS if n in members}),
                dependencies=_dependencies(members.get("dependencies", {})),
            )
        self._check_files()
        self._check_signatures()

    @classmethod
    def build(
        cls,
        *,
        name: PackageName,
        version: Version,
        files: Mapping[str, Sha256Digest],
        sizes: Mapping[str, int],
        executables: Iterable[str],
        timestamp: int,
        key: PrivateKey,
        texts: Mapping[str, str] | None = None,
        dependencies: Mapping[str, str] | None = None,
    ) -> FullManifest:
        """Sign a manifest of ``files`` (``SRC`` included); the result has passed the same checks as a received one.

        Raises :class:`ContentRejected` for anything that a reader would refuse.
        """
        for path in files:
            check_path(path, "manifest")
        digest = content_hash(files)
        members: dict[str, wire.JsonValue] = {
            "protocol": PROTOCOL,
            "name": str(name),
            "version": str(version),
            "files": {path: str(digest) for path, digest in files.items()},
            "sizes": dict(sizes),
            "executables": sorted(executables, key=path_key),
            "contentHash": str(digest),
            "pubkey": str(key.public),
            "signature": str(key.sign(str(digest).encode("ascii"))),
            "timestamp": timestamp,
            **(texts or {}),
        }
        if dependencies is not None:
            members["dependencies"] = dict(dependencies)
        with rejecting(ContentRejected, "manifest"):
            members["manifestSignature"] = str(key.sign_document(MANIFEST_DOMAIN, members))
            return cls(wire.canonical(members))

    @property
    def digest(self) -> Sha256Digest:
        """SHA-256 of the exact bytes: all that the manifest lists is bound by it."""
        return Sha256Digest(hashlib.sha256(self.data).digest())

    @property
    def release(self) -> ReleaseId:
        """``name@version``."""
        return ReleaseId(self.name, self.version)

    @property
    def paths(self) -> list[str]:
        """All files in the archive's order, which is that of their UTF-8 bytes; ``manifest.json`` is not among them."""
        return sorted(self.files, key=path_key)

    def mode(self, path: str) -> int:
        """The mode that the manifest implies for one of its files: 0o755 or 0o644. Linear in ``executables``."""
        return 0o755 if path in self.executables else 0o644

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_files(self) -> None:
        for path in self.files:
            check_path(path, "manifest")
        if MANIFEST_PATH in self.files or SRC_PATH not in self.files or len(self.files) >= limits.ARCHIVE_ENTRIES:
            message = f"'files' lists SRC, never manifest.json, and fewer than {limits.ARCHIVE_ENTRIES} files"
            raise ContentRejected("manifest.files", message)
        check_tree((MANIFEST_PATH, *self.files), "manifest")
        if self.sizes.keys() != self.files.keys():
            raise ContentRejected("manifest.sizes", "'sizes' and 'files' do not name the same files")
        keys = [path_key(path) for path in self.executables]
        if not self.files.keys() >= set(self.executables) or any(a >= b for a, b in pairwise(keys)):
            message = "'executables' must name files of the package, each once, ordered by their UTF-8 bytes"
            raise ContentRejected("manifest.executables", message)

    def _check_signatures(self) -> None:
        actual = content_hash(self.files)
        if actual != self.content_hash:
            evidence = {"expected": str(self.content_hash), "actual": str(actual)}
            raise ContentRejected("manifest.content-hash", "contentHash is not that of the files", evidence=evidence)
        with rejecting(ContentRejected, "manifest", "signature"):
            verify(self.pubkey, str(self.content_hash).encode("ascii"), self.signature)
        with rejecting(ContentRejected, "manifest", "seal"):
            verify(self.pubkey, MANIFEST_DOMAIN.encode("ascii") + b"\n" + self._sealed_bytes(), self.seal)

    def _sealed_bytes(self) -> bytes:
        """JCS of all other fields: the canonical bytes without this one member, which is never the last.

        No other member can have this name and this value: values in ``files`` are hash texts, names in
        ``dependencies`` have no capitals.
        """
        member = f'"manifestSignature":"{self.seal}",'.encode("ascii")
        if self.data.count(member) != 1:
            raise AssertionError("a canonical manifest holds its seal once, before its name")
        return self.data.replace(member, b"")


def parse_manifest(data: bytes) -> FullManifest:
    """Verify ``manifest.json`` without its files; raises :class:`ContentRejected` (``manifest.*``)."""
    return FullManifest(data)


def _object(value: wire.JsonValue, member: str) -> dict[str, wire.JsonValue]:
    if type(value) is not dict:
        raise Malformed("encoding.type", f"{member} is not an object")
    return value


def _files(value: wire.JsonValue) -> Mapping[str, Sha256Digest]:
    return MappingProxyType({path: Sha256Digest.parse(text) for path, text in _object(value, "files").items()})


def _sizes(value: wire.JsonValue) -> Mapping[str, int]:
    sizes = _object(value, "sizes")
    for path, size in sizes.items():
        require_count(size, f"the size of {path!r:.100}", least=0, most=limits.FILE_BYTES)
    return MappingProxyType(sizes)


def _executables(value: wire.JsonValue) -> tuple[str, ...]:
    if type(value) is not list:
        raise Malformed("encoding.type", "executables is not an array")
    return tuple(require_text(path, "executables") for path in value)


def _dependencies(value: wire.JsonValue) -> Mapping[str, str]:
    ranges = _object(value, "dependencies")
    for name, text in ranges.items():
        PackageName(name)
        require_text(text, f"the range of {name}")
    return MappingProxyType(ranges)
