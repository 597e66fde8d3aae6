"""Attestations: what author, tests and server sign about a release (Silexium, section 5; DESIGN 3.10).

The bytes are JCS of {role, key_id, created_at, payload, signature}; the signature covers the domain
``silexium-attestation-v1`` and the other four. The attestation hash is BLAKE3 of the bytes, signature included, and so
is what time stamps prove. An :class:`Attestation` cannot exist unless it verifies under the key that it is made with;
whether that key is trusted, and when the signature was made, is decided elsewhere. Specification: ``silexium.md``, 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, PackageName, PublicKey, Signature, Version
from libreseed.keys.ed25519 import PrivateKey, verify_document
from libreseed.package.document import rejecting, require_text
from libreseed.silexium.instants import format_instant, parse_instant
from libreseed.silexium.keyring import KeyId, Role

if TYPE_CHECKING:
    from libreseed.silexium.release_manifest import ReleaseManifest

__all__ = [
    "ATTESTATION_DOMAIN",
    "Attestation",
    "AuthorClaim",
    "Claim",
    "ServerClaim",
    "SuiteClaim",
    "author_claim",
    "parse_attestation",
    "require_claim",
    "server_claim",
    "unverified_key_id",
]

ATTESTATION_DOMAIN = "silexium-attestation-v1"

_MEMBERS = ("created_at", "key_id", "payload", "role", "signature")


@dataclass(frozen=True, slots=True)
class AuthorClaim:
    """The author: this manifest, this SRC and this source artifact are the release, under this license."""

    manifest_hash: Blake3Digest
    src_index_hash: Blake3Digest
    source_artifact_hash: Blake3Digest
    package: PackageName
    version: Version
    license: str

    def payload(self) -> dict[str, wire.JsonValue]:
        """The members as they are signed."""
        return {
            "manifest_hash": str(self.manifest_hash),
            "src_index_hash": str(self.src_index_hash),
            "source_artifact_hash": str(self.source_artifact_hash),
            "package": str(self.package),
            "version": str(self.version),
            "license": self.license,
        }


@dataclass(frozen=True, slots=True)
class SuiteClaim:
    """The tests: this suite ran on what the author attested, and passed or failed; the report's hash is optional."""

    author_attestation_hash: Blake3Digest
    manifest_hash: Blake3Digest
    test_suite_id: str
    passed: bool
    test_report_hash: Blake3Digest | None = None

    def payload(self) -> dict[str, wire.JsonValue]:
        """The members as they are signed."""
        members = {
            "author_attestation_hash": str(self.author_attestation_hash),
            "manifest_hash": str(self.manifest_hash),
            "test_suite_id": self.test_suite_id,
            "test_result": "pass" if self.passed else "fail",
        }
        if self.test_report_hash is not None:
            members["test_report_hash"] = str(self.test_report_hash)
        return members


@dataclass(frozen=True, slots=True)
class ServerClaim:
    """The server: it saw both attestations, the manifest and every artifact (in the manifest's order)."""

    author_attestation_hash: Blake3Digest
    tests_attestation_hash: Blake3Digest
    manifest_hash: Blake3Digest
    artifact_hashes: tuple[Blake3Digest, ...]

    def payload(self) -> dict[str, wire.JsonValue]:
        """The members as they are signed."""
        return {
            "author_attestation_hash": str(self.author_attestation_hash),
            "tests_attestation_hash": str(self.tests_attestation_hash),
            "manifest_hash": str(self.manifest_hash),
            "artifact_hashes": [str(digest) for digest in self.artifact_hashes],
        }


Claim = AuthorClaim | SuiteClaim | ServerClaim
_ROLE_OF: dict[type, Role] = {AuthorClaim: Role.AUTHOR, SuiteClaim: Role.TESTS, ServerClaim: Role.SERVER}


@dataclass(frozen=True, slots=True)
class Attestation:
    """A verified attestation: its exact ``data`` and the ``key`` under which it verifies. Equality is of ``data``.

    ``created_at`` is the signer's own statement (Unix seconds), ``digest`` the attestation hash.
    """

    data: bytes = field(repr=False)
    key: PublicKey = field(compare=False)
    role: Role = field(init=False, compare=False)
    key_id: KeyId = field(init=False, compare=False)
    created_at: int = field(init=False, compare=False)
    claim: Claim = field(init=False, compare=False)
    digest: Blake3Digest = field(init=False, compare=False)

    def __post_init__(self) -> None:
        with rejecting(ProofRejected, "silexium", "attestation"):
            members = wire.require_members(wire.parse(self.data, max_bytes=limits.ATTESTATION_BYTES), _MEMBERS)
            role = _parse_role(members["role"])
            signature = Signature.parse(members["signature"])
            self._set(
                role=role,
                key_id=KeyId(members["key_id"]),
                created_at=parse_instant(members["created_at"]),
                claim=_PARSERS[role](members["payload"]),
                digest=Blake3Digest(blake3(self.data).digest()),
            )
        if self.key_id != KeyId.of(self.key):
            evidence = {"key_id": str(self.key_id), "key": str(self.key)}
            raise ProofRejected("silexium.key-unknown", "the attestation names another key", evidence=evidence)
        with rejecting(ProofRejected, "silexium", "signature"):
            fields = {name: value for name, value in members.items() if name != "signature"}
            verify_document(self.key, ATTESTATION_DOMAIN, fields, signature)

    @classmethod
    def build(cls, claim: Claim, created_at: int, key: PrivateKey) -> Attestation:
        """Sign ``claim`` in its role; the result has gone through the same checks as a received one."""
        public = key.public
        with rejecting(ProofRejected, "silexium", "attestation"):
            members: dict[str, wire.JsonValue] = {
                "role": str(_ROLE_OF[type(claim)]),
                "key_id": str(KeyId.of(public)),
                "created_at": format_instant(created_at),
                "payload": claim.payload(),
            }
            members["signature"] = str(key.sign_document(ATTESTATION_DOMAIN, members))
            return cls(wire.canonical(members), public)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def parse_attestation(data: bytes, key: PublicKey) -> Attestation:
    """Verify an attestation under ``key``; raises ``silexium.attestation``, ``.key-unknown`` or ``.signature``."""
    return Attestation(data, key)


def require_claim(claim: Claim, expected: Claim) -> None:
    """Demand that a payload says ``expected``; raises ``silexium.claim`` and names the member that does not."""
    actual, wanted = claim.payload(), expected.payload()
    for member, value in wanted.items():
        if actual.get(member) != value:
            evidence = {"member": member, "expected": value, "actual": actual.get(member)}
            raise ProofRejected("silexium.claim", f"the attestation names another {member}", evidence=evidence)


def unverified_key_id(data: bytes) -> KeyId:
    """The key that an attestation says it is signed with, to look it up; nothing about it is verified."""
    with rejecting(ProofRejected, "silexium", "attestation"):
        members = wire.require_members(wire.parse(data, max_bytes=limits.ATTESTATION_BYTES), _MEMBERS)
        return KeyId(members["key_id"])


def _parse_role(value: wire.JsonValue) -> Role:
    if value not in tuple(map(str, Role)):
        raise Malformed("encoding.range", f"no such role: {value!r:.60}")
    return Role(value)


def author_claim(manifest: ReleaseManifest) -> AuthorClaim:
    """What the author of ``manifest`` attests: who signs and who verifies take it from here."""
    return AuthorClaim(
        manifest.digest,
        manifest.src_index.blake3,
        manifest.source.blake3,
        manifest.package,
        manifest.version,
        manifest.license,
    )


def server_claim(manifest: ReleaseManifest, author: Attestation, tests: Attestation) -> ServerClaim:
    """What the server attests of ``manifest``: who signs and who verifies take it from here."""
    artifacts = tuple(artifact.blake3 for artifact in manifest.artifacts)
    return ServerClaim(author.digest, tests.digest, manifest.digest, artifacts)


def _payload(value: wire.JsonValue, required: tuple[str, ...]) -> dict[str, wire.JsonValue]:
    """An object with at least ``required``: a payload may say more than its role demands."""
    if type(value) is not dict:
        raise Malformed("encoding.type", "payload is not an object")
    return wire.require_members(value, required, optional=value.keys())


def _parse_author(value: wire.JsonValue) -> AuthorClaim:
    required = ("license", "manifest_hash", "package", "source_artifact_hash", "src_index_hash", "version")
    members = _payload(value, required)
    return AuthorClaim(
        Blake3Digest.parse(members["manifest_hash"]),
        Blake3Digest.parse(members["src_index_hash"]),
        Blake3Digest.parse(members["source_artifact_hash"]),
        PackageName(members["package"]),
        Version(members["version"]),
        require_text(members["license"], "license"),
    )


def _parse_suite(value: wire.JsonValue) -> SuiteClaim:
    members = _payload(value, ("author_attestation_hash", "manifest_hash", "test_result", "test_suite_id"))
    if members["test_result"] not in ("pass", "fail"):
        raise Malformed("encoding.range", "test_result is neither pass nor fail")
    report = members.get("test_report_hash", None)
    return SuiteClaim(
        Blake3Digest.parse(members["author_attestation_hash"]),
        Blake3Digest.parse(members["manifest_hash"]),
        require_text(members["test_suite_id"], "test_suite_id"),
        members["test_result"] == "pass",
        Blake3Digest.parse(report) if "test_report_hash" in members else None,
    )


def _parse_server(value: wire.JsonValue) -> ServerClaim:
    required = ("artifact_hashes", "author_attestation_hash", "manifest_hash", "tests_attestation_hash")
    members = _payload(value, required)
    hashes = members["artifact_hashes"]
    if type(hashes) is not list or not 1 <= len(hashes) <= limits.RELEASE_ARTIFACTS:
        raise Malformed("encoding.type", f"artifact_hashes is not a list of 1 to {limits.RELEASE_ARTIFACTS} hashes")
    return ServerClaim(
        Blake3Digest.parse(members["author_attestation_hash"]),
        Blake3Digest.parse(members["tests_attestation_hash"]),
        Blake3Digest.parse(members["manifest_hash"]),
        tuple(Blake3Digest.parse(digest) for digest in hashes),
    )


_PARSERS = {Role.AUTHOR: _parse_author, Role.TESTS: _parse_suite, Role.SERVER: _parse_server}
