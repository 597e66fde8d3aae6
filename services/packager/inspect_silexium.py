"""What Silexium's files say: a bundle, a release manifest, an attestation. Whom to believe is a policy's matter, not
this command's: ``libreseed verify --bundle`` judges. docs/specification/silexium.md, 3 and 7.
"""

from __future__ import annotations

from pathlib import Path

from libreseed import limits, wire
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.errors import ProofRejected
from libreseed.ids import PublicKey
from libreseed.package.document import rejecting
from libreseed.silexium.attestation import parse_attestation
from libreseed.silexium.bundle import Bundle, parse_bundle
from libreseed.silexium.instants import format_instant
from libreseed.silexium.keyring import ROLES, KeyId
from libreseed.silexium.log_entry import parse_log_entry
from libreseed.silexium.release_manifest import ReleaseManifest, parse_release_manifest

from .views import View

__all__ = ["ATTESTATION_SUFFIXES", "attestation_view", "bundle_view", "release_manifest_view"]

ATTESTATION_SUFFIXES = tuple(f".{role}.json" for role in ROLES)
_POLICY = "needs a policy: libreseed verify --bundle"
_FILES = "needs the files"
_MEMBERS = ("created_at", "key_id", "payload", "role", "signature")


def bundle_view(path: Path) -> View:
    """NAME@VERSION.silexium.json: nothing in it but its form is verified."""
    bundle = parse_bundle(read_bounded(path, limits.BUNDLE_BYTES))
    manifest = parse_release_manifest(bundle.manifest)
    says = {**_manifest_says(manifest), "entry": str(parse_log_entry(bundle.entry).digest)}
    for role, data in zip(ROLES, bundle.attestations, strict=True):
        members = _attestation_members(data)
        says[str(role)] = f"key {members['key_id']} at {members['created_at']}"
    says |= _proof_says(bundle)
    return View("Silexium bundle", says, dict.fromkeys(says, _POLICY))


def _proof_says(bundle: Bundle) -> dict[str, object]:
    sth = bundle.sth if isinstance(bundle.sth, dict) else {}
    timestamp = sth.get("timestamp")
    at = format_instant(timestamp) if type(timestamp) is int and 0 <= timestamp < 2**33 else "no moment"
    return {
        "timeStamps": [len(stamps.tsa) for stamps in bundle.stamps],
        "bitcoinProofs": [len(stamps.ots) for stamps in bundle.stamps],
        "log": f"{sth.get('origin')!s:.200}, {sth.get('tree_size')!s:.20} entries, {at}",
        "index": bundle.inclusion.index,
        "witnesses": len(bundle.cosignatures),
        "blockHeaders": 0 if bundle.headers is None else len(bundle.headers.data) // 80,
    }


def release_manifest_view(path: Path) -> View:
    """NAME@VERSION.release.json."""
    manifest = parse_release_manifest(read_bounded(path, limits.RELEASE_MANIFEST_BYTES))
    says = _manifest_says(manifest)
    unverified = dict.fromkeys(says, "needs the author's attestation")
    unverified |= {"artifacts": _FILES, "srcIndex": _FILES}
    del unverified["manifest"]
    return View("release manifest", says, unverified)


def attestation_view(path: Path, publisher: PublicKey | None) -> View:
    """NAME@VERSION.author.json, .tests.json or .server.json; ``publisher`` is the key that it must be signed by."""
    data = read_bounded(path, limits.ATTESTATION_BYTES)
    if publisher is None:
        members = _attestation_members(data)
        says: dict[str, object] = {"role": members["role"], "keyId": members["key_id"]}
        says |= {"createdAt": members["created_at"], "payload": members["payload"]}
        return View("attestation", says, dict.fromkeys(says, "needs --publisher with its key"))
    attestation = parse_attestation(data, publisher)
    says = {"role": str(attestation.role), "keyId": str(KeyId.of(publisher))}
    says |= {"createdAt": format_instant(attestation.created_at), "attestation": str(attestation.digest)}
    says["payload"] = _attestation_members(data)["payload"]
    return View("attestation", says, {"createdAt": "needs its time stamps", "payload": "needs what it is about"})


def _attestation_members(data: bytes) -> dict[str, wire.JsonValue]:
    with rejecting(ProofRejected, "silexium", "attestation"):
        return wire.require_members(wire.parse(data, max_bytes=limits.ATTESTATION_BYTES), _MEMBERS)


def _manifest_says(manifest: ReleaseManifest) -> dict[str, object]:
    return {
        "release": str(manifest.release),
        "channel": manifest.channel,
        "license": manifest.license,
        "manifest": str(manifest.digest),
        "artifacts": [
            f"{item.type} {item.os}/{item.arch} {item.size} {item.blake3}"
            if item.os is not None
            else f"{item.type} {item.size} {item.blake3}"
            for item in manifest.artifacts
        ],
        "srcIndex": f"{manifest.src_index.size} {manifest.src_index.blake3}",
    }
