"""``release.toml``: what a publisher says about a release before anybody has signed anything (Silexium, section 4).

The release manifest is made from the sheet and from the files that it names, so the two always say the same. A closed
set of members, read from a decoded TOML table; names of files are single segments, because a sheet comes from outside.
It carries no signature and proves nothing. Specification: ``silexium-api.md``, 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, PackageName, ReleaseId, Version
from libreseed.package.document import rejecting, require_text
from libreseed.silexium.instants import format_instant, parse_instant
from libreseed.silexium.release_manifest import Artifact, ReleaseManifest, SrcIndex

__all__ = ["BinaryLine", "Measure", "ReleaseSheet", "parse_release_sheet"]

_REQUIRED = ("channel", "created-at", "license", "package", "version")
_OPTIONAL = ("binaries", "url")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+~-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Measure:
    """What a file turned out to be: its ``size`` in bytes and its BLAKE3."""

    size: int
    blake3: Blake3Digest


@dataclass(frozen=True, slots=True)
class BinaryLine:
    """One binary: the ``file`` beside release.toml, the platform it is for, and where it will be served."""

    file: str
    os: str
    arch: str
    url: str

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file):
            raise Malformed("encoding.range", f"not the name of a file beside release.toml: {self.file!r:.100}")


@dataclass(frozen=True, slots=True)
class ReleaseSheet:
    """A release as its publisher describes it. ``created_at`` in Unix seconds; ``url`` is the .tgz's."""

    release: ReleaseId
    channel: str
    license: str
    created_at: int
    url: str
    binaries: tuple[BinaryLine, ...] = ()

    def manifest(self, source: Measure, src_index: SrcIndex, binaries: Mapping[str, Measure]) -> ReleaseManifest:
        """The release manifest, from what was measured; ``binaries`` by file name. Raises ``silexium.manifest``."""
        artifacts = [Artifact("source", source.size, source.blake3, self.url)]
        for line in self.binaries:
            found = binaries[line.file]
            artifacts.append(Artifact("binary", found.size, found.blake3, line.url, line.os, line.arch))
        return ReleaseManifest.build(
            self.release,
            channel=self.channel,
            license_text=self.license,
            created_at=self.created_at,
            artifacts=artifacts,
            src_index=src_index,
        )

    @property
    def toml(self) -> str:
        """The text of release.toml; :func:`parse_release_sheet` of it decoded is this sheet."""
        lines = [
            f"package = {_quoted(str(self.release.name))}",
            f"version = {_quoted(str(self.release.version))}",
            f"channel = {_quoted(self.channel)}",
            f"license = {_quoted(self.license)}",
            f"created-at = {_quoted(format_instant(self.created_at))}",
            f"url = {_quoted(self.url)}",
        ]
        for line in self.binaries:
            lines += ["", "[[binaries]]"]
            lines += [f"{name} = {_quoted(getattr(line, name))}" for name in ("file", "os", "arch", "url")]
        return "\n".join(lines) + "\n"


def parse_release_sheet(table: Mapping[str, object]) -> ReleaseSheet:
    """The sheet that a decoded table states; raises :class:`ProofRejected` (``silexium.release-sheet``)."""
    with rejecting(ProofRejected, "silexium", "release-sheet"):
        members = wire.require_members(dict(table), _REQUIRED, _OPTIONAL)
        release = ReleaseId(PackageName(members["package"]), Version(members["version"]))
        binaries = members.get("binaries", [])
        if type(binaries) is not list or len(binaries) >= limits.RELEASE_ARTIFACTS:
            raise Malformed("encoding.range", f"binaries is not a list of fewer than {limits.RELEASE_ARTIFACTS}")
        lines = tuple(_parse_binary(item) for item in binaries)
        if len({line.file for line in lines}) != len(lines):
            raise Malformed("encoding.range", "two binaries are the same file")
        return ReleaseSheet(
            release,
            channel=require_text(members["channel"], "channel"),
            license=require_text(members["license"], "license"),
            created_at=parse_instant(members["created-at"]),
            url=require_text(members["url"], "url") if "url" in members else f"libreseed:{release}",
            binaries=lines,
        )


def _parse_binary(value: object) -> BinaryLine:
    members = wire.require_members(value, ("arch", "file", "os", "url"))
    return BinaryLine(*(require_text(members[name], name) for name in ("file", "os", "arch", "url")))


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, except that TOML also wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
