"""The minimal manifest: ``name@version.minimal.json``, at most 996 bytes, what the DHT carries (DESIGN 3.5).

A :class:`MinimalManifest` is made from its exact bytes and cannot exist unless both signatures hold. It says who signed
what, not whether that publisher is trusted, nor whether it is the newest. Specification: ``package.md``, 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from libreseed import limits, wire
from libreseed.errors import RecordRejected
from libreseed.ids import (
    Blake3Digest,
    PackageName,
    PublicKey,
    ReleaseId,
    Sha256Digest,
    Signature,
    TorrentV2Hash,
    Version,
)
from libreseed.keys.ed25519 import MINIMAL_DOMAIN, PrivateKey, verify, verify_document
from libreseed.package.document import PROTOCOL, rejecting, require_count, require_protocol, require_text

__all__ = ["MinimalManifest", "check_not_ahead", "parse_minimal"]

_MEMBERS = (
    "binding",
    "chunks",
    "infohash",
    "name",
    "protocol",
    "pubkey",
    "signature",
    "size",
    "timestamp",
    "torrent",
    "version",
)


@dataclass(frozen=True, slots=True)
class MinimalManifest:
    """A verified minimal manifest; ``MinimalManifest(data)`` parses and verifies, or raises :class:`RecordRejected`.

    ``infohash`` is the SHA-256 of the .tgz and ``size`` its bytes, ``chunks`` the BLAKE3 of the chunk map file,
    ``torrent`` BitTorrent's v2 info-hash, ``timestamp`` milliseconds of the Unix epoch. Equality is of ``data``.
    """

    data: bytes = field(repr=False)
    name: PackageName = field(init=False, compare=False)
    version: Version = field(init=False, compare=False)
    infohash: Sha256Digest = field(init=False, compare=False)
    size: int = field(init=False, compare=False)
    chunks: Blake3Digest = field(init=False, compare=False)
    torrent: TorrentV2Hash = field(init=False, compare=False)
    pubkey: PublicKey = field(init=False, compare=False)
    timestamp: int = field(init=False, compare=False)
    signature: Signature = field(init=False, compare=False, repr=False)
    binding: Signature = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        with rejecting(RecordRejected, "minimal"):
            members = wire.require_members(wire.parse(self.data, max_bytes=limits.MINIMAL_BYTES), _MEMBERS)
            require_protocol(members, RecordRejected, "minimal")
            self._set(
                name=PackageName(require_text(members["name"], "name")),
                version=Version(require_text(members["version"], "version")),
                infohash=Sha256Digest.parse(members["infohash"]),
                size=require_count(members["size"], "size", least=1, most=limits.JSON_INTEGER),
                chunks=Blake3Digest.parse(members["chunks"]),
                torrent=TorrentV2Hash.parse(members["torrent"]),
                pubkey=PublicKey.parse(members["pubkey"]),
                timestamp=require_count(members["timestamp"], "timestamp", least=0, most=limits.JSON_INTEGER),
                signature=Signature.parse(members["signature"]),
                binding=Signature.parse(members["binding"]),
            )
        with rejecting(RecordRejected, "minimal", "signature"):
            verify(self.pubkey, str(self.infohash).encode("ascii"), self.signature)
        with rejecting(RecordRejected, "minimal", "binding"):
            fields = {name: value for name, value in members.items() if name != "binding"}
            verify_document(self.pubkey, MINIMAL_DOMAIN, fields, self.binding)

    @classmethod
    def build(
        cls,
        *,
        name: PackageName,
        version: Version,
        infohash: Sha256Digest,
        size: int,
        chunks: Blake3Digest,
        torrent: TorrentV2Hash,
        timestamp: int,
        key: PrivateKey,
    ) -> MinimalManifest:
        """Sign a minimal manifest; the result has gone through the same checks as a received one."""
        members: dict[str, wire.JsonValue] = {
            "protocol": PROTOCOL,
            "name": str(name),
            "version": str(version),
            "infohash": str(infohash),
            "size": size,
            "chunks": str(chunks),
            "torrent": str(torrent),
            "pubkey": str(key.public),
            "signature": str(key.sign(str(infohash).encode("ascii"))),
            "timestamp": timestamp,
        }
        with rejecting(RecordRejected, "minimal"):
            members["binding"] = str(key.sign_document(MINIMAL_DOMAIN, members))
            return cls(wire.canonical(members))

    @property
    def release(self) -> ReleaseId:
        """``name@version``."""
        return ReleaseId(self.name, self.version)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def parse_minimal(data: bytes) -> MinimalManifest:
    """Verify a minimal manifest; raises :class:`RecordRejected` (``minimal.*``)."""
    return MinimalManifest(data)


def check_not_ahead(manifest: MinimalManifest, now_ms: int) -> None:
    """Refuse a record more than 24 hours ahead of the clock (``minimal.ahead``); ``now_ms`` is in Unix milliseconds."""
    if manifest.timestamp > now_ms + limits.CLOCK_AHEAD_MS:
        evidence = {"timestamp": manifest.timestamp, "now_ms": now_ms}
        message = f"{manifest.release} is dated more than 24 hours ahead of this machine's clock"
        raise RecordRejected("minimal.ahead", message, evidence=evidence)
