"""What a client asks a Silexium server: POST /install, /resolve and /update (Silexium, section 7).

{package, os, arch} and optionally {version, channel, known_sth}; of /update {current_version} too, and no {version}.
Strict JSON in any spelling, or strict CBOR, because nothing of it is signed: a closed set of members, at most
``limits.INSTALL_REQUEST_BYTES``. ``known_sth`` is the largest head that the client has of this log; whether it is the
log's is for the server to verify. Specification: ``silexium-api.md``, 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import PackageName, Version
from libreseed.package.document import rejecting
from libreseed.silexium.cbor import parse_cbor
from libreseed.silexium.release_manifest import parse_channel, parse_platform

__all__ = ["DEFAULT_CHANNEL", "InstallRequest", "parse_install_request"]

DEFAULT_CHANNEL = "stable"
_REQUIRED = ("arch", "os", "package")


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """One question. ``version`` None means the newest of ``channel``; with both, the version must be of that channel.

    ``current_version`` is what is installed (/update only); ``known_sth`` an STH object, unverified.
    """

    package: PackageName
    os: str
    arch: str
    version: Version | None = None
    channel: str | None = None
    current_version: Version | None = None
    known_sth: wire.JsonValue = None

    def members(self) -> dict[str, wire.JsonValue]:
        """The request as a JSON object."""
        members: dict[str, wire.JsonValue] = {"package": str(self.package), "os": self.os, "arch": self.arch}
        optional = {
            "version": self.version and str(self.version),
            "channel": self.channel,
            "current_version": self.current_version and str(self.current_version),
            "known_sth": self.known_sth,
        }
        return members | {name: value for name, value in optional.items() if value is not None}


def parse_install_request(data: bytes, *, update: bool = False, cbor: bool = False) -> InstallRequest:
    """Read a request body, JSON or ``cbor``; raises :class:`ProofRejected` (``silexium.request``)."""
    with rejecting(ProofRejected, "silexium", "request"):
        read = parse_cbor if cbor else wire.parse_unsigned
        value = read(data, max_bytes=limits.INSTALL_REQUEST_BYTES)
        required = (*_REQUIRED, "current_version") if update else _REQUIRED
        members = wire.require_members(
            value, required, ("channel", "known_sth") if update else ("channel", "known_sth", "version")
        )
        if "known_sth" in members and type(members["known_sth"]) is not dict:
            raise Malformed("encoding.type", "known_sth is not an object")
        return InstallRequest(
            package=PackageName(members["package"]),
            os=parse_platform(members["os"]),
            arch=parse_platform(members["arch"]),
            version=Version(members["version"]) if "version" in members else None,
            channel=parse_channel(members["channel"]) if "channel" in members else None,
            current_version=Version(members["current_version"]) if update else None,
            known_sth=members.get("known_sth"),
        )
