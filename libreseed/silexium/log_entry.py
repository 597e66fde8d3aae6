"""The log's entries: one per release, naming by hash everything that vouches for it (Silexium, section 6).

Canonical bytes: JCS of {version 1, package, version_text, manifest_hash, author, tests, server, proofs}, where the
three roles are attestation hashes and ``proofs`` lists, in the order author, tests, server, the BLAKE3 of every
RFC 3161 response and OpenTimestamps proof. The entry hash is BLAKE3 of these bytes; the log's leaf is made of it. An
entry says what was logged, not that any of it holds. Specification: ``silexium.md``, 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, PackageName, ReleaseId, Version
from libreseed.package.document import rejecting
from libreseed.silexium.keyring import ROLES, Role

__all__ = ["LogEntry", "ProofHashes", "parse_log_entry"]

_MEMBERS = ("author", "manifest_hash", "package", "proofs", "server", "tests", "version", "version_text")


@dataclass(frozen=True, slots=True)
class ProofHashes:
    """BLAKE3 of each time stamp of one attestation: RFC 3161 responses and OpenTimestamps proofs, none twice."""

    role: Role
    tsa: tuple[Blake3Digest, ...]
    ots: tuple[Blake3Digest, ...]

    def __post_init__(self) -> None:
        for name, hashes in (("tsa", self.tsa), ("ots", self.ots)):
            if not 1 <= len(hashes) <= limits.STAMPS_PER_KIND or len(set(hashes)) != len(hashes):
                message = f"{name} of {self.role} is not a list of 1 to {limits.STAMPS_PER_KIND} different hashes"
                raise Malformed("encoding.range", message)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A log entry from its exact bytes; raises ``silexium.entry``. Equality is of ``data``."""

    data: bytes = field(repr=False)
    release: ReleaseId = field(init=False, compare=False)
    manifest_hash: Blake3Digest = field(init=False, compare=False)
    attestations: tuple[Blake3Digest, ...] = field(init=False, compare=False)
    proofs: tuple[ProofHashes, ...] = field(init=False, compare=False)
    digest: Blake3Digest = field(init=False, compare=False)

    def __post_init__(self) -> None:
        with rejecting(ProofRejected, "silexium", "entry"):
            members = wire.require_members(wire.parse(self.data, max_bytes=limits.LOG_ENTRY_BYTES), _MEMBERS)
            if members["version"] != 1 or type(members["version"]) is not int:
                raise Malformed("encoding.range", "not a log entry of version 1")
            self._set(
                release=ReleaseId(PackageName(members["package"]), Version(members["version_text"])),
                manifest_hash=Blake3Digest.parse(members["manifest_hash"]),
                attestations=tuple(Blake3Digest.parse(members[role]) for role in ROLES),
                proofs=_parse_proofs(members["proofs"]),
                digest=Blake3Digest(blake3(self.data).digest()),
            )

    @classmethod
    def build(
        cls,
        release: ReleaseId,
        manifest_hash: Blake3Digest,
        attestations: tuple[Blake3Digest, ...],
        proofs: tuple[ProofHashes, ...],
    ) -> LogEntry:
        """The entry of a release; ``attestations`` and ``proofs`` in the order author, tests, server."""
        if len(attestations) != len(ROLES):
            raise ProofRejected("silexium.entry", f"{len(attestations)} attestations where 3 belong")
        members: dict[str, wire.JsonValue] = {
            "version": 1,
            "package": str(release.name),
            "version_text": str(release.version),
            "manifest_hash": str(manifest_hash),
            "proofs": [
                {"role": str(proof.role), "tsa": list(map(str, proof.tsa)), "ots": list(map(str, proof.ots))}
                for proof in proofs
            ],
        }
        members |= {str(role): str(digest) for role, digest in zip(ROLES, attestations, strict=True)}
        return cls(wire.canonical(members))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def parse_log_entry(data: bytes) -> LogEntry:
    """Read a log entry; raises :class:`ProofRejected` (``silexium.entry``)."""
    return LogEntry(data)


def _parse_proofs(value: wire.JsonValue) -> tuple[ProofHashes, ...]:
    if type(value) is not list or len(value) != len(ROLES):
        raise Malformed("encoding.range", "proofs does not list the three roles")
    return tuple(_parse_role_proofs(item, role) for item, role in zip(value, ROLES, strict=True))


def _parse_role_proofs(value: wire.JsonValue, role: Role) -> ProofHashes:
    members = wire.require_members(value, ("ots", "role", "tsa"))
    if members["role"] != str(role):
        raise Malformed("encoding.range", f"proofs of {members['role']!r:.40} where those of {role} belong")
    return ProofHashes(role, _parse_hashes(members["tsa"]), _parse_hashes(members["ots"]))


def _parse_hashes(value: wire.JsonValue) -> tuple[Blake3Digest, ...]:
    if type(value) is not list or len(value) > limits.STAMPS_PER_KIND:
        raise Malformed("encoding.type", f"not a list of at most {limits.STAMPS_PER_KIND} hashes")
    return tuple(Blake3Digest.parse(item) for item in value)
