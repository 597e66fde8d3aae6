"""The bundle ``name@version.silexium.json``: everything that proves one release, for a verifier without a network.

JCS, at most 1 MiB: {protocol, manifest, attestations, proofs, entry, inclusion, sth, cosignatures} and, where they are
few, the block headers that the OpenTimestamps proofs need. Signed documents are carried as texts, so their exact bytes
survive; time stamps as base64. Reading a bundle verifies nothing but its form: whoever made it is not trusted.
Specification: ``silexium.md``, 7.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest
from libreseed.package.document import rejecting, require_count, require_text
from libreseed.silexium.keyring import ROLES
from libreseed.silexium.log_memory import parse_hashes

__all__ = ["BUNDLE_PROTOCOL", "Bundle", "HeaderRun", "InclusionProof", "Stamps", "bundle_from", "parse_bundle"]

BUNDLE_PROTOCOL = "silexium-bundle-v1"
_MEMBERS = ("attestations", "cosignatures", "entry", "inclusion", "manifest", "proofs", "protocol", "sth")


@dataclass(frozen=True, slots=True)
class Stamps:
    """What was collected for one attestation: RFC 3161 responses and OpenTimestamps proofs, as they were received."""

    tsa: tuple[bytes, ...]
    ots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """The hashes that lead from leaf ``index`` to the root of ``size`` leaves; nothing is verified yet."""

    index: int
    size: int
    hashes: tuple[bytes, ...]

    def members(self) -> dict[str, wire.JsonValue]:
        """The proof as a JSON object."""
        hashes = [str(Blake3Digest(digest)) for digest in self.hashes]
        return {"leaf_index": self.index, "tree_size": self.size, "hashes": hashes}


@dataclass(frozen=True, slots=True)
class HeaderRun:
    """Consecutive 80-byte block headers from height ``base`` on."""

    base: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's parts, unverified. ``attestations`` and ``stamps`` are in the order author, tests, server.

    ``sth`` is the STH object, ``cosignatures`` the witnesses' note lines.
    """

    manifest: bytes
    attestations: tuple[bytes, ...]
    stamps: tuple[Stamps, ...]
    entry: bytes
    inclusion: InclusionProof
    sth: wire.JsonValue
    cosignatures: tuple[str, ...] = ()
    headers: HeaderRun | None = None

    def members(self) -> dict[str, wire.JsonValue]:
        """The bundle as a JSON object."""
        members: dict[str, wire.JsonValue] = {
            "protocol": BUNDLE_PROTOCOL,
            "manifest": self.manifest.decode(),
            "attestations": {str(role): data.decode() for role, data in zip(ROLES, self.attestations, strict=True)},
            "proofs": {
                str(role): {"tsa": [_text(item) for item in stamps.tsa], "ots": [_text(item) for item in stamps.ots]}
                for role, stamps in zip(ROLES, self.stamps, strict=True)
            },
            "entry": self.entry.decode(),
            "inclusion": self.inclusion.members(),
            "sth": self.sth,
            "cosignatures": list(self.cosignatures),
        }
        if self.headers is not None:
            members["headers"] = {"base": self.headers.base, "data": _text(self.headers.data)}
        return members

    @property
    def data(self) -> bytes:
        """The bundle's bytes; raises ``silexium.bundle`` when they would be too many."""
        data = wire.canonical(self.members())
        if len(data) > limits.BUNDLE_BYTES:
            raise ProofRejected("silexium.bundle", f"the bundle would have {len(data)} bytes")
        return data


def parse_bundle(data: bytes) -> Bundle:
    """Read a bundle; raises :class:`ProofRejected` (``silexium.bundle``) unless it is exactly in form."""
    with rejecting(ProofRejected, "silexium", "bundle"):
        return bundle_from(wire.parse(data, max_bytes=limits.BUNDLE_BYTES))


def bundle_from(value: wire.JsonValue) -> Bundle:
    """Read a bundle's object; raises :class:`ProofRejected` (``silexium.bundle``)."""
    with rejecting(ProofRejected, "silexium", "bundle"):
        members = wire.require_members(value, _MEMBERS, ("headers",))
        if members["protocol"] != BUNDLE_PROTOCOL:
            raise Malformed("encoding.range", f"not a bundle of {BUNDLE_PROTOCOL}")
        attestations = wire.require_members(members["attestations"], map(str, ROLES))
        proofs = wire.require_members(members["proofs"], map(str, ROLES))
        return Bundle(
            manifest=_document(members["manifest"], "manifest"),
            attestations=tuple(_document(attestations[role], role) for role in ROLES),
            stamps=tuple(_parse_stamps(proofs[role]) for role in ROLES),
            entry=_document(members["entry"], "entry"),
            inclusion=parse_inclusion(members["inclusion"]),
            sth=members["sth"],
            cosignatures=_parse_lines(members["cosignatures"]),
            headers=_parse_headers(members["headers"]) if "headers" in members else None,
        )


def parse_inclusion(value: wire.JsonValue) -> InclusionProof:
    """Read an inclusion proof object; raises :class:`Malformed`."""
    members = wire.require_members(value, ("hashes", "leaf_index", "tree_size"))
    index, size = (
        require_count(members[name], name, least=0, most=limits.LOG_ENTRIES) for name in ("leaf_index", "tree_size")
    )
    return InclusionProof(index, size, parse_hashes(members["hashes"]))


def _parse_stamps(value: wire.JsonValue) -> Stamps:
    members = wire.require_members(value, ("ots", "tsa"))
    return Stamps(
        _parse_blobs(members["tsa"], limits.TSA_RESPONSE_BYTES), _parse_blobs(members["ots"], limits.OTS_BYTES)
    )


def _parse_blobs(value: wire.JsonValue, most: int) -> tuple[bytes, ...]:
    if type(value) is not list or len(value) > limits.STAMPS_PER_KIND:
        raise Malformed("encoding.type", f"not a list of at most {limits.STAMPS_PER_KIND} stamps")
    return tuple(_bytes(item, most) for item in value)


def _parse_lines(value: wire.JsonValue) -> tuple[str, ...]:
    if type(value) is not list or len(value) > limits.NOTE_SIGNATURES:
        raise Malformed("encoding.type", f"cosignatures is not a list of at most {limits.NOTE_SIGNATURES} lines")
    return tuple(require_text(item, "a cosignature") for item in value)


def _parse_headers(value: wire.JsonValue) -> HeaderRun:
    members = wire.require_members(value, ("base", "data"))
    base = require_count(members["base"], "base", least=0, most=limits.BITCOIN_HEIGHT)
    return HeaderRun(base, _bytes(members["data"], limits.BUNDLE_BYTES))


def _document(value: wire.JsonValue, member: str) -> bytes:
    return require_text(value, member).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(value: wire.JsonValue, most: int) -> bytes:
    """Canonical base64 of at most ``most`` bytes."""
    text = require_text(value, "base64")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Malformed("encoding.range", "not base64") from error
    if len(data) > most or _text(data) != text:
        raise Malformed("encoding.range", f"not canonical base64 of at most {most} bytes")
    return data
