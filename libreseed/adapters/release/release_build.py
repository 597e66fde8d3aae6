"""Makes a release out of a directory: all six files in a staging directory, from one key, without a network.

Order (DESIGN 4, "Packager"): collect -> hash -> SRC -> full manifest, sign -> .tgz -> infohash -> chunks, parity ->
torrent -> minimal manifest, sign, BEP 44 sign. Nothing is published here and nothing of the key is kept. Compression,
hashing and coding use all processors; memory is bounded whatever the size of the tree.
docs/specification/commands.md, "build".

Everything blocks; a watcher may raise to stop it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libreseed import limits
from libreseed.adapters.chunks.repair_files import RepairFiles, make_repair_files
from libreseed.adapters.files.watcher import Tally, Watcher
from libreseed.adapters.packing.archive_build import ArchiveReport, write_archive
from libreseed.adapters.packing.gzip_stream import default_threads
from libreseed.adapters.packing.tree import Tree, collect
from libreseed.adapters.release.release_folder import SUFFIXES, ReleaseFiles
from libreseed.dht.records import build_dht_record
from libreseed.errors import LocalFault
from libreseed.ids import ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.manifest import FullManifest
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.grid import ChunkGrid

__all__ = ["BuiltRelease", "ReleasePlan", "build_release", "collect_tree"]


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What a release shall say besides its files. ``timestamp`` in Unix milliseconds, ``mtime`` in seconds."""

    release: ReleaseId
    timestamp: int
    mtime: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    dependencies: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BuiltRelease:
    """What was made; all its files lie in the staging directory."""

    manifest: FullManifest
    minimal: MinimalManifest
    archive: ArchiveReport
    repair: RepairFiles


def collect_tree(root: Path, watcher: Watcher, *, allow_git: bool = False, allow_secrets: bool = False) -> Tree:
    """Read the tree once, hashing it; raises :class:`ContentRejected` (``tree.*``) or NotFound."""
    watcher.phase(f"reading {root}")
    return collect(
        root, allow_git=allow_git, allow_secrets=allow_secrets, threads=default_threads(), progress=Tally(watcher).add
    )


def build_release(tree: Tree, plan: ReleasePlan, key: PrivateKey, staging: Path, watcher: Watcher) -> BuiltRelease:
    """Write the six files of ``plan.release`` into the empty directory ``staging``; raises :class:`ContentRejected`."""
    files = ReleaseFiles.of_release(staging, plan.release)
    manifest = tree.sign(
        name=plan.release.name,
        version=plan.release.version,
        timestamp=plan.timestamp,
        key=key,
        texts=plan.texts,
        dependencies=plan.dependencies,
    )
    watcher.phase(f"compressing {files.tgz.name}", sum(file.found.size for file in tree.files))
    archive = _write_tgz(tree, manifest, files.tgz, plan.mtime, watcher)
    tree.check_unchanged(ignoring=staging)
    stripe_bytes = ChunkGrid(archive.size).k * limits.CHUNK_BYTES
    watcher.phase("parity and torrent", archive.size)
    repair = make_repair_files(
        plan.release,
        files.tgz,
        threads=default_threads(),
        progress=lambda stripes: watcher.update(min(stripes * stripe_bytes, archive.size)),
    )
    if repair.chunk_map.tgz_sha256 != archive.infohash:
        raise LocalFault("storage.io", f"{files.tgz.name} does not read back as it was written")
    minimal = MinimalManifest.build(
        name=plan.release.name,
        version=plan.release.version,
        infohash=archive.infohash,
        size=archive.size,
        chunks=repair.chunk_map.digest,
        torrent=repair.metainfo.v2,
        timestamp=plan.timestamp,
        key=key,
    )
    files.path(".minimal.json").write_bytes(minimal.data)
    files.path(".dht.json").write_bytes(build_dht_record(minimal, key))
    for suffix in SUFFIXES:  # for everybody to read, whatever the umask
        files.path(suffix).chmod(0o644)
    return BuiltRelease(manifest, minimal, archive, repair)


def _write_tgz(tree: Tree, manifest: FullManifest, path: Path, mtime: int, watcher: Watcher) -> ArchiveReport:
    with path.open("xb") as file:

        def deliver(data: bytes) -> None:
            file.write(data)

        progress = Tally(watcher).add
        return write_archive(tree, manifest, deliver, mtime=mtime, threads=default_threads(), progress=progress)
