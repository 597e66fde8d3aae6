"""A release on disk: the names of its six files, and the proof that what lies there is one release, whole.

:func:`verify_release` judges in this order, each step with its own reasons: the minimal manifest (both signatures), the
DHT record, the chunk map, the torrent, the .tgz's size and SHA-256, the .parity against the map; then everything inside
the .tgz; then parity and torrent made anew from it, which catches a publisher's own mistakes. What is absent is named,
never assumed; without a minimal manifest only the archive is judged, and parity only with the chunk map. Whether the
publisher is trusted, and whether the release is the newest, is not decided here.
docs/specification/commands.md, "verify".

Everything blocks, in bounded memory; trio code calls it in a thread.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libreseed import limits
from libreseed.adapters.chunks.repair_files import hash_pieces, make_parity
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.files.watcher import Nobody, Tally, Watcher
from libreseed.adapters.packing.archive import verify_archive
from libreseed.dht.items import SignedItem
from libreseed.dht.records import parse_dht_record
from libreseed.errors import ContentRejected, Malformed, NotFound, RecordRejected
from libreseed.ids import ReleaseId
from libreseed.package.manifest import FullManifest
from libreseed.package.minimal import MinimalManifest, parse_minimal
from libreseed.repair.chunkmap import ChunkMap, chunk_digests, parse_chunk_map, unlike
from libreseed.repair.grid import ChunkGrid
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import Metainfo, build_metainfo, parse_metainfo
from libreseed.torrent.piecehash import PieceHasher

__all__ = ["SUFFIXES", "ReleaseFiles", "VerifiedRelease", "verify_release"]

SUFFIXES = (".tgz", ".chunks", ".parity", ".torrent", ".minimal.json", ".dht.json")
_PORTION_BYTES = 256 * limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ReleaseFiles:
    """Where the files of a release lie: ``folder / (stem + suffix)``, where the stem is ``name@version``."""

    folder: Path
    stem: str

    @classmethod
    def of_release(cls, folder: Path, release: ReleaseId) -> ReleaseFiles:
        """The files of ``release`` in ``folder``."""
        return cls(folder, str(release))

    @classmethod
    def beside(cls, tgz: Path) -> ReleaseFiles:
        """The files that lie beside ``tgz`` under its name."""
        return cls(tgz.parent, tgz.name.removesuffix(".tgz"))

    def path(self, suffix: str) -> Path:
        """The file with one of :data:`SUFFIXES`."""
        return self.folder / (self.stem + suffix)

    @property
    def tgz(self) -> Path:
        """The archive."""
        return self.path(".tgz")

    @property
    def named_release(self) -> ReleaseId | None:
        """The release that the files' names claim; None when they are named otherwise."""
        try:
            return ReleaseId.parse(self.stem)
        except Malformed:
            return None


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """What was proven. A member that is None was absent or, without ``minimal``, not judged.

    ``present`` and ``absent`` are suffixes out of :data:`SUFFIXES`; ``unjudged`` lists those present that nothing
    could be said about, because the minimal manifest (or for parity the chunk map) is missing.
    """

    manifest: FullManifest
    minimal: MinimalManifest | None = None
    item: SignedItem | None = None
    chunk_map: ChunkMap | None = None
    metainfo: Metainfo | None = None
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def release(self) -> ReleaseId:
        """``name@version``."""
        return self.manifest.release

    @property
    def complete(self) -> bool:
        """Whether all six files were there and hold."""
        return not self.absent and not self.unjudged


def verify_release(
    files: ReleaseFiles, *, minimal: Path | None = None, threads: int = 1, watcher: Watcher | None = None
) -> VerifiedRelease:
    """Verify the .tgz and everything of its release that is there; ``minimal`` names the manifest if it is elsewhere.

    Raises :class:`NotFound` without a .tgz, RecordRejected (``minimal.*``, ``dhtrecord.*``) and ContentRejected for
    everything else.
    """
    watcher = watcher or Nobody()
    size = _size(files.tgz)
    there = {suffix: files.path(suffix).exists() for suffix in SUFFIXES}
    manifest_path = minimal or files.path(".minimal.json")
    there[".minimal.json"] = minimal is not None or there[".minimal.json"]
    absent = tuple(suffix for suffix in SUFFIXES if not there[suffix])
    present = tuple(suffix for suffix in SUFFIXES if there[suffix])
    if not there[".minimal.json"]:
        manifest = _verify_archive(files, None, watcher)
        unjudged = tuple(suffix for suffix in present if suffix != ".tgz")
        return VerifiedRelease(manifest, present=present, absent=absent, unjudged=unjudged)
    signed = _read_minimal(manifest_path, files.named_release)
    item = _read_item(files.path(".dht.json"), signed) if there[".dht.json"] else None
    chunk_map = _read_chunk_map(files.path(".chunks"), signed) if there[".chunks"] else None
    metainfo = _read_metainfo(files.path(".torrent"), signed) if there[".torrent"] else None
    _check_infohash(files.tgz, size, signed, chunk_map, watcher)
    parity_there = chunk_map is not None and there[".parity"]
    if chunk_map is not None and parity_there:
        _check_parity_file(files.path(".parity"), chunk_map, watcher)
    manifest = _verify_archive(files, signed, watcher)
    if chunk_map is not None:
        _recompute_parity(files.tgz, chunk_map, threads, watcher)
    if chunk_map is not None and parity_there:
        _recompute_torrent(files, signed, chunk_map, watcher)
    unjudged = (".parity",) if there[".parity"] and chunk_map is None else ()
    return VerifiedRelease(manifest, signed, item, chunk_map, metainfo, present, absent, unjudged)


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as error:
        raise from_oserror(error) from error
    if not stat.S_ISREG(status.st_mode):
        raise NotFound("notfound.file", f"{path} is not a regular file")
    return status.st_size


def _read_minimal(path: Path, named: ReleaseId | None) -> MinimalManifest:
    minimal = parse_minimal(read_bounded(path, limits.MINIMAL_BYTES))
    if named is not None and minimal.release != named:
        message = f"the files are named {named}, {path.name} says {minimal.release}"
        raise RecordRejected("minimal.other-release", message)
    return minimal


def _read_item(path: Path, minimal: MinimalManifest) -> SignedItem:
    return parse_dht_record(read_bounded(path, limits.DHT_RECORD_BYTES), minimal)


def _read_chunk_map(path: Path, minimal: MinimalManifest) -> ChunkMap:
    """The size of the .tgz bounds that of the map, so no more is read than the largest legal map has."""
    grid = ChunkGrid(minimal.size)
    most = grid.map_bytes(limits.STRIPE_ROWS - grid.k)
    chunk_map = parse_chunk_map(read_bounded(path, most), expected=minimal.chunks, size=minimal.size)
    if chunk_map.tgz_sha256 != minimal.infohash:
        raise ContentRejected("chunkmap.infohash", "the chunk map speaks of another .tgz than the minimal manifest")
    return chunk_map


def _read_metainfo(path: Path, minimal: MinimalManifest) -> Metainfo:
    return parse_metainfo(read_bounded(path, limits.METAINFO_BYTES), minimal.release, minimal)


def _check_infohash(
    tgz: Path, size: int, minimal: MinimalManifest, chunk_map: ChunkMap | None, watcher: Watcher
) -> None:
    """Step 7: size and SHA-256 of the .tgz; with a chunk map the error says which chunks are wrong."""
    if size != minimal.size:
        raise ContentRejected("archive.size", f"{tgz.name} has {size} bytes, the minimal manifest says {minimal.size}")
    watcher.phase(f"hashing {tgz.name}", size)
    sha256, digests = hashlib.sha256(), bytearray()

    def take(portion: memoryview) -> None:
        sha256.update(portion)
        if chunk_map is not None:
            digests.extend(chunk_digests(portion))

    _read_through(tgz, take, watcher)
    wrong = [] if chunk_map is None else unlike(bytes(digests), chunk_map.data_digests(range(chunk_map.grid.n)))
    if sha256.digest() != minimal.infohash.raw:
        where = f"; {len(wrong)} of its chunks are wrong, the first is {wrong[0]}" if wrong else ""
        evidence = {"expected": str(minimal.infohash), "actual": "sha256:" + sha256.hexdigest(), "chunks": wrong[:1000]}
        raise ContentRejected("archive.infohash", f"{tgz.name} is not what was signed{where}", evidence=evidence)
    if wrong:
        message = f"the chunk map does not fit the signed .tgz at {len(wrong)} chunks, the first is {wrong[0]}"
        raise ContentRejected("chunkmap.chunk", message, evidence={"chunks": wrong[:1000]})


def _verify_archive(files: ReleaseFiles, minimal: MinimalManifest | None, watcher: Watcher) -> FullManifest:
    """Steps 8 and 9, and the name that the file claims."""
    watcher.phase(f"checking every file in {files.tgz.name}")
    manifest = verify_archive(files.tgz, minimal, progress=Tally(watcher).add)
    if files.named_release is not None and manifest.release != files.named_release:
        message = f"the file is named {files.named_release}, its manifest says {manifest.release}"
        raise ContentRejected("manifest.mismatch", message)
    return manifest


def _check_parity_file(parity: Path, chunk_map: ChunkMap, watcher: Watcher) -> None:
    """The file must hold exactly the parity chunks that the map names."""
    grid, m = chunk_map.grid, chunk_map.m
    if (size := _size(parity)) != grid.parity_bytes(m):
        message = f"{parity.name} has {size} bytes where {grid.parity_bytes(m)} are needed"
        raise ContentRejected("parity.length", message)
    found = bytearray()
    watcher.phase(f"hashing {parity.name}", size)
    _read_through(parity, lambda portion: found.extend(chunk_digests(portion)), watcher)
    if wrong := unlike(bytes(found), chunk_map.parity_digests(range(grid.parity_chunks(m)))):
        message = f"{parity.name} is wrong at {len(wrong)} parity chunks, the first is {wrong[0]}"
        raise ContentRejected("parity.digest", message, evidence={"parity_chunks": wrong[:1000]})


def _recompute_parity(tgz: Path, chunk_map: ChunkMap, threads: int, watcher: Watcher) -> None:
    """Make the parity anew: the map must name exactly it, else a repair would give other bytes."""
    grid, m = chunk_map.grid, chunk_map.m
    stripe_bytes = grid.k * limits.CHUNK_BYTES
    watcher.phase("recomputing parity", grid.s * stripe_bytes)
    _, digests = make_parity(
        tgz, None, grid, m, threads=threads, progress=lambda stripes: watcher.update(stripes * stripe_bytes)
    )
    if wrong := unlike(digests, chunk_map.parity_digests(range(grid.parity_chunks(m)))):
        message = f"the parity that the chunk map names is not that of the .tgz, at {len(wrong)} parity chunks"
        raise ContentRejected("parity.lying", message, evidence={"parity_chunks": wrong[:1000]})


def _recompute_torrent(files: ReleaseFiles, minimal: MinimalManifest, chunk_map: ChunkMap, watcher: Watcher) -> None:
    """Make the torrent anew from the files: it must be the signed one, else it would seed something else."""
    watcher.phase("recomputing the torrent")
    layout = TorrentLayout(minimal.release, minimal.size, chunk_map.m)
    chunks = PieceHasher(layout.piece_bytes)
    chunks.feed(chunk_map.data)
    parity = hash_pieces(files.path(".parity"), layout.piece_bytes)
    tgz = hash_pieces(files.tgz, layout.piece_bytes)
    made = build_metainfo(layout, chunks.finish(), parity, tgz)
    if made.v2 != minimal.torrent:
        evidence = {"expected": str(minimal.torrent), "actual": str(made.v2)}
        raise ContentRejected("torrent.info-hash", "the signed torrent is not that of these files", evidence=evidence)


def _read_through(path: Path, take: Callable[[memoryview], object], watcher: Watcher) -> None:
    """Give the file in portions of whole chunks to ``take``."""
    memory = memoryview(bytearray(_PORTION_BYTES))
    done = 0
    with path.open("rb") as file:  # buffered: only the last portion is short
        while got := file.readinto(memory):
            take(memory[:got])
            done += got
            watcher.update(done)
