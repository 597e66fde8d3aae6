"""``inspect``: what any of our files says. What it, with its release beside it, can't prove is marked so."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from libreseed import bencode, limits, wire
from libreseed.adapters.command.console import Report
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.packing.archive_peek import peek_manifest
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.auraseal.integrity_manifest import INTEGRITY_MANIFEST_PATH
from libreseed.dht.records import parse_dht_record, parse_index
from libreseed.errors import ContentRejected, Malformed, RecordRejected, UsageFault
from libreseed.ids import PublicKey
from libreseed.keys.keyfile import KEY_PROTOCOL, parse_key_file
from libreseed.package.manifest import FullManifest, parse_manifest
from libreseed.package.minimal import MinimalManifest, parse_minimal
from libreseed.repair.chunkmap import ChunkMap, chunk_digests, parse_chunk_map, unlike
from libreseed.repair.grid import ChunkGrid
from libreseed.torrent.metainfo import parse_metainfo

from .inspect_auraseal import integrity_view, package_view, part_view
from .inspect_silexium import ATTESTATION_SUFFIXES, attestation_view, bundle_view, release_manifest_view
from .views import View

__all__ = ["inspect"]

_PART = re.compile(r"\.part\.[0-9]{1,3}$")
_TRUST = "whether this publisher is trusted"


def inspect(arguments: argparse.Namespace) -> Report:
    """Show FILE; raises the rejection of its kind where the file itself shows that it is wrong."""
    path = Path(arguments.file)
    publisher = None if arguments.publisher is None else _public_key(arguments.publisher)
    view = _view(path, publisher)
    lines = [f"kind: {view.kind}"]
    for name, value in view.says.items():
        mark = f"   [not verified: {view.unverified[name]}]" if name in view.unverified else ""
        lines.append(f"{name}: {_shown(value)}{mark}")
    return Report("\n".join(lines), {"kind": view.kind, "says": view.says, "unverified": view.unverified})


def _shown(value: object) -> str:
    """As text for a person: a list of plain values with commas, what has members as JSON."""
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (dict, list, tuple)) for item in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else str(value)


def _public_key(text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except Malformed as error:
        raise UsageFault("usage", f"--publisher: {error.message}") from error


def _view(path: Path, publisher: PublicKey | None) -> View:
    by_suffix: dict[str, Callable[[], View]] = {
        ".index.dht.json": lambda: _index(path, publisher),
        ".minimal.json": lambda: _minimal(path),
        ".dht.json": lambda: _dht_record(path),
        ".chunks": lambda: _chunk_map(path),
        ".parity": lambda: _parity(path),
        ".torrent": lambda: _torrent(path),
        ".silexium.json": lambda: bundle_view(path),
        ".release.json": lambda: release_manifest_view(path),
        **dict.fromkeys(ATTESTATION_SUFFIXES, lambda: attestation_view(path, publisher)),
        ".tgz": lambda: _manifest("archive", peek_manifest(_existing(path))),
        ".zip": lambda: package_view(path),
        INTEGRITY_MANIFEST_PATH: lambda: integrity_view(path),
    }
    for suffix, view in by_suffix.items():
        if path.name.endswith(suffix):
            return view()
    if _PART.search(path.name):
        return part_view(path)
    data = read_bounded(path, limits.MANIFEST_BYTES)
    if f'"protocol":"{KEY_PROTOCOL}"'.encode() in data:
        return _key_file(data)
    if path.name == "manifest.json":
        return _manifest("full manifest", parse_manifest(data))
    raise UsageFault("usage", f"{path} is none of LibreSeed's files, going by its name and content")


def _existing(path: Path) -> Path:
    read_bounded(path, 0)
    return path


def _beside(path: Path, suffix: str) -> tuple[ReleaseFiles, MinimalManifest | None]:
    """The release that ``path`` belongs to, and its minimal manifest if that lies beside it."""
    files = ReleaseFiles(path.parent, path.name.removesuffix(suffix))
    minimal = files.path(".minimal.json")
    return files, parse_minimal(read_bounded(minimal, limits.MINIMAL_BYTES)) if minimal.exists() else None


def _key_file(data: bytes) -> View:
    file = parse_key_file(data)
    if file.sealed is None:
        file.unlock(None)
        return View("private key (plain)", {"pubkey": str(file.public)})
    cost = file.sealed.cost
    says = {"pubkey": str(file.public), "kdf": "argon2id", "passes": cost.passes, "memory": cost.memory}
    return View("private key (sealed)", says, {"pubkey": "needs the passphrase"})


def _minimal(path: Path) -> View:
    minimal = parse_minimal(read_bounded(path, limits.MINIMAL_BYTES))
    unverified = {
        "pubkey": _TRUST,
        "infohash": "needs the .tgz",
        "size": "needs the .tgz",
        "chunks": "needs the chunk map",
        "torrent": "needs the torrent",
    }
    return View("minimal manifest", wire.parse(minimal.data, max_bytes=limits.MINIMAL_BYTES), unverified)


def _manifest(kind: str, manifest: FullManifest) -> View:
    says = {
        "name": str(manifest.name),
        "version": str(manifest.version),
        "pubkey": str(manifest.pubkey),
        "timestamp": manifest.timestamp,
        "contentHash": str(manifest.content_hash),
        **manifest.texts,
        "dependencies": dict(manifest.dependencies),
        "executables": len(manifest.executables),
        "files": len(manifest.files),
        "contentSize": sum(manifest.sizes.values()),
    }
    files = "the files were not compared with it: use verify"
    return View(kind, says, {"pubkey": _TRUST, "files": files, "contentSize": files, "executables": files})


def _dht_record(path: Path) -> View:
    _, minimal = _beside(path, ".dht.json")
    data = read_bounded(path, limits.DHT_RECORD_BYTES)
    if minimal is not None:
        item = parse_dht_record(data, minimal)
        says = {
            "salt": item.salt.decode("ascii"),
            "seq": item.seq,
            "sig": str(item.signature),
            "target": item.target.hex(),
        }
        return View("DHT record", {**says, "pubkey": str(item.pubkey)}, {"pubkey": _TRUST})
    return _unproven_record("DHT record", data, ("salt", "seq", "sig"), "needs the minimal manifest beside it")


def _index(path: Path, publisher: PublicKey | None) -> View:
    data = read_bounded(path, limits.INDEX_RECORD_BYTES)
    if publisher is None:
        return _unproven_record("release index", data, ("salt", "seq", "sig", "v"), "needs --publisher KEY")
    index = parse_index(data, publisher)
    says = {
        "name": str(index.name),
        "pubkey": str(index.pubkey),
        "seq": index.item.seq,
        "versions": [str(version) for version in index.versions],
        "newest": str(index.newest),
    }
    return View("release index", says, {"pubkey": _TRUST})


def _unproven_record(kind: str, data: bytes, members: tuple[str, ...], needs: str) -> View:
    try:
        says = wire.require_members(wire.parse(data, max_bytes=limits.INDEX_RECORD_BYTES), members)
    except Malformed as error:
        area = "index" if "v" in members else "dhtrecord"
        raise RecordRejected(f"{area}.{error.reason.partition('.')[2]}", error.message) from error
    return View(kind, says, dict.fromkeys(says, needs))


def _read_map(path: Path, minimal: MinimalManifest | None) -> ChunkMap:
    grid = ChunkGrid(limits.PACKAGE_BYTES if minimal is None else minimal.size)
    data = read_bounded(path, grid.map_bytes(limits.STRIPE_ROWS - grid.k))
    if minimal is None:
        return parse_chunk_map(data)
    return parse_chunk_map(data, expected=minimal.chunks, size=minimal.size)


def _chunk_map(path: Path) -> View:
    _, minimal = _beside(path, ".chunks")
    chunk_map = _read_map(path, minimal)
    grid = chunk_map.grid
    says = {
        "size": grid.size,
        "chunks": grid.n,
        "stripes": grid.s,
        "k": grid.k,
        "m": chunk_map.m,
        "infohash": str(chunk_map.tgz_sha256),
        "digest": str(chunk_map.digest),
    }
    if minimal is None:
        return View("chunk map", says, dict.fromkeys(says, "needs the minimal manifest beside it"))
    return View("chunk map", says)


def _parity(path: Path) -> View:
    files, minimal = _beside(path, ".parity")
    _existing(path)
    size = path.stat().st_size
    says: dict[str, object] = {"size": size, "parityChunks": size // limits.CHUNK_BYTES}
    if size % limits.CHUNK_BYTES or not size:
        raise ContentRejected("parity.length", f"{path.name} has {size} bytes, which are not whole chunks")
    if minimal is None or not files.path(".chunks").exists():
        needs = "needs the minimal manifest and the chunk map beside it"
        return View("parity", says, dict.fromkeys(says, needs))
    chunk_map = _read_map(files.path(".chunks"), minimal)
    named = chunk_map.parity_digests(range(chunk_map.grid.parity_chunks(chunk_map.m)))
    found = bytearray()
    with path.open("rb") as file:
        while portion := file.read(256 * limits.CHUNK_BYTES):
            found += chunk_digests(portion)
    if len(found) != len(named):
        raise ContentRejected("parity.length", f"{path.name} has {size} bytes where {len(named) * 160} are needed")
    if wrong := unlike(bytes(found), named):
        raise ContentRejected("parity.digest", f"{path.name} is wrong at {len(wrong)} chunks, the first is {wrong[0]}")
    return View("parity", {**says, "stripes": chunk_map.grid.s, "m": chunk_map.m})


def _torrent(path: Path) -> View:
    _, minimal = _beside(path, ".torrent")
    data = read_bounded(path, limits.METAINFO_BYTES)
    if minimal is None:
        return _unproven_torrent(data)
    metainfo = parse_metainfo(data, minimal.release, minimal)
    layout = metainfo.layout
    says = {
        "name": str(layout.release),
        "pieceLength": layout.piece_bytes,
        "pieces": layout.piece_count,
        "files": {file.name: file.size for file in layout.files},
        "infoHashV1": metainfo.v1.hex(),
        "infoHashV2": str(metainfo.v2),
    }
    return View("torrent", says)


def _unproven_torrent(data: bytes) -> View:
    try:
        torrent = bencode.decode(data, max_bytes=limits.METAINFO_BYTES)
        info = torrent[b"info"]
        says: dict[str, object] = {
            "name": bytes(info[b"name"]).decode("utf-8", "backslashreplace"),
            "pieceLength": int(info[b"piece length"]),
        }
    except Malformed as error:
        raise ContentRejected("torrent.bencode", error.message) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ContentRejected("torrent.members", "not the torrent of a release") from error
    raw = bencode.encode(info)
    says["infoHashV1"] = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    says["infoHashV2"] = "btmh:1220" + hashlib.sha256(raw).hexdigest()
    return View("torrent", says, dict.fromkeys(says, "needs the minimal manifest beside it"))
