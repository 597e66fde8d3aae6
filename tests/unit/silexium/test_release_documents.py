"""Release manifest and log entry: closed sets, exact bytes, and forms that must not slip through."""

from __future__ import annotations

import pytest
from blake3 import blake3

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.silexium.keyring import ROLES, Role
from libreseed.silexium.log_entry import LogEntry, ProofHashes, parse_log_entry
from libreseed.silexium.release_manifest import Artifact, ReleaseManifest, SrcIndex, parse_release_manifest

H = [Blake3Digest(bytes([n]) * 32) for n in range(12)]
RELEASE = ReleaseId.parse("hello@1.2.3-rc.1")
SOURCE = Artifact("source", 1234, H[1], "libreseed:hello@1.2.3-rc.1")
BINARY = Artifact("binary", 99, H[2], "https://example.org/hello", "linux", "x86_64")
MANIFEST = ReleaseManifest.build(
    RELEASE,
    channel="stable",
    license_text="MIT",
    created_at=1_800_000_000,
    artifacts=[SOURCE, BINARY],
    src_index=SrcIndex(55, H[3]),
)


def test_manifest_round_trip() -> None:
    manifest = parse_release_manifest(MANIFEST.data)
    assert manifest == MANIFEST
    assert manifest.release == RELEASE
    assert manifest.source == SOURCE
    assert manifest.artifacts == (SOURCE, BINARY)
    assert manifest.digest.raw == blake3(MANIFEST.data).digest()


def manifest_with(**changes: wire.JsonValue) -> bytes:
    return wire.canonical(wire.parse(MANIFEST.data, max_bytes=10**6) | changes)


_SOURCE = SOURCE.members()
_BINARY = BINARY.members()


@pytest.mark.parametrize(
    "data",
    [
        manifest_with(extra=1),
        manifest_with(channel="Stable"),
        manifest_with(channel=""),
        manifest_with(channel=5),
        manifest_with(channel=["stable"]),
        manifest_with(artifacts={}),
        manifest_with(artifacts={"0": _SOURCE}),
        manifest_with(artifacts=[_SOURCE, _SOURCE | {"type": "script"}]),
        manifest_with(version="1"),
        manifest_with(created_at="2027-01-15"),
        manifest_with(artifacts=[]),
        manifest_with(artifacts=[_BINARY]),
        manifest_with(artifacts=[_SOURCE, _SOURCE]),
        manifest_with(artifacts=[_SOURCE, _BINARY, _BINARY]),
        manifest_with(artifacts=[_SOURCE] + [_BINARY | {"os": f"o{n}"} for n in range(limits.RELEASE_ARTIFACTS)]),
        manifest_with(artifacts=[_SOURCE | {"os": "linux", "arch": "x86_64"}]),
        manifest_with(artifacts=[_SOURCE, {k: v for k, v in _BINARY.items() if k != "arch"}]),
        manifest_with(artifacts=[_SOURCE | {"type": "script"}]),
        manifest_with(artifacts=[_SOURCE | {"size": 0}]),
        manifest_with(artifacts=[_SOURCE | {"size": True}]),
        manifest_with(artifacts=[_SOURCE | {"url": "file:///etc/passwd"}]),
        manifest_with(artifacts=[_SOURCE | {"url": "https://a b"}]),
        manifest_with(artifacts=[_SOURCE | {"url": "https://" + "a" * 2048}]),
        manifest_with(artifacts=[_SOURCE | {"blake3": H[1].hex}]),
        manifest_with(src_index={"path": "src", "size": 1, "blake3": str(H[3])}),
        manifest_with(src_index={"path": "SRC", "size": -1, "blake3": str(H[3])}),
        MANIFEST.data + b"\n",
        b"{}",
        b"",
        b"x" * (limits.RELEASE_MANIFEST_BYTES + 1),
    ],
)
def test_a_malformed_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ProofRejected) as error:
        parse_release_manifest(data)
    assert error.value.reason == "silexium.manifest"


PROOFS = tuple(ProofHashes(role, (H[4 + n], H[5 + n]), (H[8 + n],)) for n, role in enumerate(ROLES))
ENTRY = LogEntry.build(RELEASE, MANIFEST.digest, (H[1], H[2], H[3]), PROOFS)


def test_entry_round_trip() -> None:
    entry = parse_log_entry(ENTRY.data)
    assert entry == ENTRY
    assert (entry.release, entry.manifest_hash) == (RELEASE, MANIFEST.digest)
    assert (entry.attestations, entry.proofs) == ((H[1], H[2], H[3]), PROOFS)
    assert entry.digest.raw == blake3(ENTRY.data).digest()


def entry_with(**changes: wire.JsonValue) -> bytes:
    return wire.canonical(wire.parse(ENTRY.data, max_bytes=10**6) | changes)


_PROOFS = wire.parse(ENTRY.data, max_bytes=10**6)["proofs"]


@pytest.mark.parametrize(
    "data",
    [
        entry_with(version=2),
        entry_with(version=True),
        entry_with(extra=1),
        entry_with(author=H[1].hex),
        entry_with(proofs=_PROOFS[:2]),
        entry_with(proofs=[_PROOFS[1], _PROOFS[0], _PROOFS[2]]),
        entry_with(proofs=[_PROOFS[0] | {"tsa": []}, *_PROOFS[1:]]),
        entry_with(proofs=[_PROOFS[0] | {"ots": []}, *_PROOFS[1:]]),
        entry_with(proofs=[_PROOFS[0] | {"tsa": [str(H[1]), str(H[1])]}, *_PROOFS[1:]]),
        entry_with(proofs=[_PROOFS[0] | {"tsa": [str(digest) for digest in H]}, *_PROOFS[1:]]),
        entry_with(proofs={}),
        entry_with(proofs={str(n): proof for n, proof in enumerate(_PROOFS)}),
        entry_with(proofs=[_PROOFS[0] | {"tsa": {str(H[1]): 1}}, *_PROOFS[1:]]),
        entry_with(proofs=[_PROOFS[0] | {"tsa": str(H[1])}, *_PROOFS[1:]]),
        ENTRY.data + b" ",
        b"x" * (limits.LOG_ENTRY_BYTES + 1),
    ],
)
def test_a_malformed_entry_is_refused(data: bytes) -> None:
    with pytest.raises(ProofRejected) as error:
        parse_log_entry(data)
    assert error.value.reason == "silexium.entry"


def test_an_entry_is_about_three_attestations() -> None:
    with pytest.raises(ProofRejected) as error:
        LogEntry.build(RELEASE, MANIFEST.digest, (H[1], H[2]), PROOFS)
    assert error.value.reason == "silexium.entry"


def test_a_proof_list_without_a_stamp_cannot_exist() -> None:
    with pytest.raises(Malformed):
        ProofHashes(Role.AUTHOR, (), (H[1],))
