"""What a Silexium server answers to /install, /resolve and /update: a release with everything that proves it.

{release, manifest, attestations, proofs, log_proof, artifacts} as the seed's section 7 has them; ``headers`` where they
are few, ``up_to_date`` in answers to /update. It says what a bundle says, plus a consistency proof from the head that
the client knows, and which artifacts are for its platform. Reading it verifies nothing but its form: a server is
believed no more than a mirror. Specification: ``silexium-api.md``, 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.package.document import rejecting
from libreseed.silexium.bundle import BUNDLE_PROTOCOL, Bundle, bundle_from
from libreseed.silexium.cbor import parse_cbor
from libreseed.silexium.log_memory import ConsistencyProof, parse_consistency
from libreseed.silexium.release_manifest import Artifact, ReleaseManifest, parse_artifact

__all__ = ["InstallAnswer", "parse_install_answer"]

_MEMBERS = ("artifacts", "attestations", "log_proof", "manifest", "proofs", "release")
_LOG_MEMBERS = ("consistency", "cosignatures", "entry", "inclusion", "sth")


@dataclass(frozen=True, slots=True)
class InstallAnswer:
    """The parts, unverified. ``binary`` is None when the release has none for the platform.

    ``consistency`` leads from the known head to the bundle's; None when none was known. ``up_to_date`` is None but in
    answers to /update.
    """

    release: ReleaseId
    bundle: Bundle
    source: Artifact
    binary: Artifact | None = None
    consistency: ConsistencyProof | None = None
    up_to_date: bool | None = None

    @classmethod
    def of(
        cls,
        manifest: ReleaseManifest,
        bundle: Bundle,
        platform: tuple[str, str],
        *,
        consistency: ConsistencyProof | None = None,
        up_to_date: bool | None = None,
    ) -> InstallAnswer:
        """The answer about ``manifest`` for the ``platform`` (os, arch)."""
        fitting = (item for item in manifest.artifacts if (item.os, item.arch) == platform)
        return cls(manifest.release, bundle, manifest.source, next(fitting, None), consistency, up_to_date)

    def members(self) -> dict[str, wire.JsonValue]:
        """The answer as a JSON object."""
        bundle = self.bundle.members()
        manifest = ReleaseManifest(self.bundle.manifest)
        members: dict[str, wire.JsonValue] = {
            "release": str(self.release),
            "manifest": {"data": bundle["manifest"], "blake3": str(manifest.digest)},
            "attestations": bundle["attestations"],
            "proofs": bundle["proofs"],
            "log_proof": {
                "entry": bundle["entry"],
                "inclusion": bundle["inclusion"],
                "sth": bundle["sth"],
                "cosignatures": bundle["cosignatures"],
                "consistency": None if self.consistency is None else self.consistency.members(),
            },
            "artifacts": {
                "source": self.source.members(),
                "binary": None if self.binary is None else self.binary.members(),
            },
        }
        if "headers" in bundle:
            members["headers"] = bundle["headers"]
        if self.up_to_date is not None:
            members["up_to_date"] = self.up_to_date
        return members


def parse_install_answer(data: bytes, *, cbor: bool = False) -> InstallAnswer:
    """Read an answer, JSON or ``cbor``; raises :class:`ProofRejected` (``silexium.answer``) unless it is in form."""
    with rejecting(ProofRejected, "silexium", "answer"):
        read = parse_cbor if cbor else wire.parse_unsigned
        value = read(data, max_bytes=limits.INSTALL_ANSWER_BYTES)
        members = wire.require_members(value, _MEMBERS, ("headers", "up_to_date"))
        manifest = wire.require_members(members["manifest"], ("blake3", "data"))
        log = wire.require_members(members["log_proof"], _LOG_MEMBERS)
        artifacts = wire.require_members(members["artifacts"], ("binary", "source"))
        up_to_date = members.get("up_to_date")
        if "up_to_date" in members and type(up_to_date) is not bool:
            raise Malformed("encoding.type", "up_to_date is not a boolean")
        Blake3Digest.parse(manifest["blake3"])
        return InstallAnswer(
            release=ReleaseId.parse(members["release"]),
            bundle=_bundle(members, manifest["data"], log),
            source=parse_artifact(artifacts["source"]),
            binary=None if artifacts["binary"] is None else parse_artifact(artifacts["binary"]),
            consistency=None if log["consistency"] is None else parse_consistency(log["consistency"]),
            up_to_date=up_to_date,
        )


def _bundle(members: dict[str, wire.JsonValue], manifest: wire.JsonValue, log: dict[str, wire.JsonValue]) -> Bundle:
    parts = {
        "protocol": BUNDLE_PROTOCOL,
        "manifest": manifest,
        "attestations": members["attestations"],
        "proofs": members["proofs"],
        "entry": log["entry"],
        "inclusion": log["inclusion"],
        "sth": log["sth"],
        "cosignatures": log["cosignatures"],
    }
    return bundle_from(parts | {"headers": members["headers"]} if "headers" in members else parts)
