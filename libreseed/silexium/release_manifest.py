"""Silexium's release manifest: what one release consists of (Silexium, section 4). Not the archive's ``manifest.json``.

JCS with a closed set of members; the manifest hash is BLAKE3 of the exact bytes served, which attestations sign. The
.tgz is the one artifact of type ``source``; ``binary`` artifacts also say ``os`` and ``arch``. ``src_index`` is the
package's SRC. The manifest itself carries no signature and proves nothing alone. Specification: ``silexium.md``, 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, PackageName, ReleaseId, Version
from libreseed.package.document import rejecting, require_count, require_text
from libreseed.silexium.instants import format_instant, parse_instant

__all__ = [
    "Artifact",
    "ReleaseManifest",
    "SrcIndex",
    "parse_artifact",
    "parse_channel",
    "parse_platform",
    "parse_release_manifest",
]

_MEMBERS = ("artifacts", "channel", "created_at", "license", "package", "src_index", "version")
_SOURCE, _BINARY = "source", "binary"
_CHANNEL = re.compile("[a-z][a-z0-9-]{0,31}", re.ASCII)
_PLATFORM = re.compile("[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)  # of os and of arch
_URL = re.compile(r"(?:https?://|libreseed:)[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of the release: ``size`` in bytes and BLAKE3 over its bytes. ``os`` and ``arch``: of binaries only."""

    type: str
    size: int
    blake3: Blake3Digest
    url: str
    os: str | None = None
    arch: str | None = None

    def __post_init__(self) -> None:
        if self.type not in (_SOURCE, _BINARY):
            raise Malformed("encoding.range", f"no such type of artifact: {self.type!r:.60}")
        platform = (self.os, self.arch)
        if self.type == _SOURCE and platform != (None, None):
            raise Malformed("encoding.range", "a source artifact has neither os nor arch")
        if self.type == _BINARY:
            for text in platform:
                parse_platform(text)
        require_count(self.size, "size", least=1, most=limits.JSON_INTEGER)
        if len(self.url) > limits.URL_CHARS or not _URL.fullmatch(self.url):
            raise Malformed("encoding.range", f"not a URL of an artifact: {self.url!r:.100}")

    def members(self) -> dict[str, wire.JsonValue]:
        """The object in the manifest."""
        members = {"type": self.type, "size": self.size, "blake3": str(self.blake3), "url": self.url}
        return members if self.os is None else members | {"os": self.os, "arch": self.arch}


@dataclass(frozen=True, slots=True)
class SrcIndex:
    """The package's SRC: its ``size`` in bytes and its BLAKE3."""

    size: int
    blake3: Blake3Digest


@dataclass(frozen=True, slots=True)
class ReleaseManifest:
    """A release manifest, from its exact bytes; raises ``silexium.manifest``. Equality is of ``data``."""

    data: bytes = field(repr=False)
    package: PackageName = field(init=False, compare=False)
    version: Version = field(init=False, compare=False)
    channel: str = field(init=False, compare=False)
    license: str = field(init=False, compare=False)
    created_at: int = field(init=False, compare=False)
    artifacts: tuple[Artifact, ...] = field(init=False, compare=False)
    src_index: SrcIndex = field(init=False, compare=False)
    digest: Blake3Digest = field(init=False, compare=False)

    def __post_init__(self) -> None:
        with rejecting(ProofRejected, "silexium", "manifest"):
            members = wire.require_members(wire.parse(self.data, max_bytes=limits.RELEASE_MANIFEST_BYTES), _MEMBERS)
            self._set(
                package=PackageName(members["package"]),
                version=Version(members["version"]),
                channel=parse_channel(members["channel"]),
                license=require_text(members["license"], "license"),
                created_at=parse_instant(members["created_at"]),
                artifacts=_parse_artifacts(members["artifacts"]),
                src_index=_parse_src_index(members["src_index"]),
                digest=Blake3Digest(blake3(self.data).digest()),
            )

    @classmethod
    def build(
        cls,
        release: ReleaseId,
        *,
        channel: str,
        license_text: str,
        created_at: int,
        artifacts: Sequence[Artifact],
        src_index: SrcIndex,
    ) -> ReleaseManifest:
        """Write a manifest; the result has gone through the same checks as a received one."""
        with rejecting(ProofRejected, "silexium", "manifest"):
            members = {
                "package": str(release.name),
                "version": str(release.version),
                "channel": channel,
                "license": license_text,
                "created_at": format_instant(created_at),
                "artifacts": [artifact.members() for artifact in artifacts],
                "src_index": {"path": "SRC", "size": src_index.size, "blake3": str(src_index.blake3)},
            }
            return cls(wire.canonical(members))

    @property
    def release(self) -> ReleaseId:
        """``package@version``."""
        return ReleaseId(self.package, self.version)

    @property
    def source(self) -> Artifact:
        """The source artifact: the .tgz."""
        return next(artifact for artifact in self.artifacts if artifact.type == _SOURCE)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def parse_release_manifest(data: bytes) -> ReleaseManifest:
    """Read a release manifest; raises :class:`ProofRejected` (``silexium.manifest``)."""
    return ReleaseManifest(data)


def parse_channel(value: wire.JsonValue) -> str:
    """Read a channel's name; raises :class:`Malformed`."""
    if type(value) is not str or not _CHANNEL.fullmatch(value):
        raise Malformed("encoding.range", f"not a channel: {value!r:.60}")
    return value


def _parse_artifacts(value: wire.JsonValue) -> tuple[Artifact, ...]:
    if type(value) is not list or not 1 <= len(value) <= limits.RELEASE_ARTIFACTS:
        raise Malformed("encoding.range", f"artifacts is not a list of 1 to {limits.RELEASE_ARTIFACTS}")
    artifacts = tuple(parse_artifact(item) for item in value)
    if len({(artifact.type, artifact.os, artifact.arch) for artifact in artifacts}) != len(artifacts):
        raise Malformed("encoding.range", "two artifacts are for the same platform")
    if not any(artifact.type == _SOURCE for artifact in artifacts):
        raise Malformed("encoding.range", "no artifact is the source")
    return artifacts


def parse_platform(value: wire.JsonValue) -> str:
    """Read the name of an os or of an arch; raises :class:`Malformed`."""
    if type(value) is not str or not _PLATFORM.fullmatch(value):
        raise Malformed("encoding.range", f"not the name of an os or of an arch: {value!r:.100}")
    return value


def parse_artifact(value: wire.JsonValue) -> Artifact:
    """Read one artifact's object; raises :class:`Malformed`."""
    members = wire.require_members(value, ("blake3", "size", "type", "url"), ("arch", "os"))
    return Artifact(
        require_text(members["type"], "type"),
        members["size"],
        Blake3Digest.parse(members["blake3"]),
        require_text(members["url"], "url"),
        require_text(members["os"], "os") if "os" in members else None,
        require_text(members["arch"], "arch") if "arch" in members else None,
    )


def _parse_src_index(value: wire.JsonValue) -> SrcIndex:
    members = wire.require_members(value, ("blake3", "path", "size"))
    if members["path"] != "SRC":
        raise Malformed("encoding.range", "src_index is not about SRC")
    size = require_count(members["size"], "size", least=0, most=limits.MANIFEST_BYTES)
    return SrcIndex(size, Blake3Digest.parse(members["blake3"]))
