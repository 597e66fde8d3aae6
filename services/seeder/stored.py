"""A stored release as it is found on the disk: what its small files say, and which of them had to be put right.

Order: the minimal manifest (from its file, else from the note's copy: its signatures decide), the DHT record likewise,
then torrent and chunk map against the hashes that the manifest signs. A torrent or chunk map that does not hold is
built anew from the large files, and counts only if it comes out with the signed hash. Everything here blocks.
docs/operations.md, "What is checked, and when".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from libreseed import limits
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.release.rebuild import largest_map, rebuild_chunk_map, rebuild_torrent
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.adapters.release.seed_store import SeedNote, SeedStore, Stamp, release_key
from libreseed.dht.items import SignedItem
from libreseed.dht.records import parse_dht_record
from libreseed.errors import ContentRejected, LibreSeedError, Malformed, RecordRejected
from libreseed.package.minimal import MinimalManifest, parse_minimal
from libreseed.repair.chunkmap import ChunkMap, parse_chunk_map
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.legacy import hash_without_empty_names
from libreseed.torrent.metainfo import Metainfo, parse_metainfo

__all__ = ["BULKY", "Outline", "Stored", "open_stored", "rebuild_map", "rebuild_metainfo"]

_T = TypeVar("_T")
BULKY = (".tgz", ".parity", ".chunks")  # what a stamp is kept for


@dataclass(frozen=True, slots=True)
class Outline:
    """What of the torrent has to be known at all times: where its pieces lie, and its info-hashes of 20 bytes.

    ``legacy`` is the wrong one that some old clients compute (:mod:`libreseed.torrent.legacy`).
    """

    layout: TorrentLayout
    v1: bytes
    v2: bytes
    legacy: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A release in the store. ``metainfo`` or ``chunk_map`` is None while its file is not the signed one.

    ``outline`` stays when the torrent's bytes are dropped by :meth:`light`.

    ``trusted``: the stamps say that nothing changed since everything but the note's bad chunks was verified.
    ``mended`` names the small files that were put right while reading.
    """

    folder: Path
    minimal: MinimalManifest
    item: SignedItem
    metainfo: Metainfo | None
    chunk_map: ChunkMap | None
    note: SeedNote
    trusted: bool
    mended: tuple[str, ...] = ()
    outline: Outline | None = None

    def __post_init__(self) -> None:
        if self.metainfo is not None:
            legacy = hash_without_empty_names(self.metainfo.info)
            outline = Outline(self.metainfo.layout, self.metainfo.v1, self.metainfo.v2.truncated, legacy)
            object.__setattr__(self, "outline", outline)

    def light(self) -> Stored:
        """The same without chunk map and torrent, whose bytes (0.7 % of the .tgz) need not stay in memory."""
        return replace(self, metainfo=None, chunk_map=None)

    def file(self, suffix: str) -> Path:
        """The path of one of the release's files."""
        return self.folder / f"{self.minimal.release}{suffix}"

    def stamps(self) -> dict[str, str]:
        """The present stamps of the bulky files that exist."""
        found = {suffix: Stamp.of(self.file(suffix)) for suffix in BULKY}
        return {suffix: str(stamp) for suffix, stamp in found.items() if stamp is not None}


def open_stored(store: SeedStore, folder: Path) -> Stored:
    """Read a release's folder; raises LibreSeedError when neither copy of a signed record holds."""
    note = _read_note(store, folder)
    base = folder.name[: -len(".") - 32]  # as release_key made it
    mended: list[str] = []
    copies = (note.minimal, note.dht) if note else (b"", b"")

    def parse_own(data: bytes) -> MinimalManifest:
        minimal = parse_minimal(data)
        if release_key(minimal.release, minimal.torrent) != folder.name:
            raise RecordRejected("minimal.other-release", f"a manifest of {minimal.release} in {folder}")
        return minimal

    minimal = _signed(folder / f"{base}.minimal.json", copies[0], parse_own, mended)
    record = folder / f"{base}.dht.json"
    item = _signed(record, copies[1], lambda data: parse_dht_record(data, minimal), mended)
    if note is None:
        note = SeedNote(minimal=minimal.data, dht=record.read_bytes(), added_ms=time.time_ns() // 10**6)
    stored = Stored(
        folder=folder,
        minimal=minimal,
        item=item,
        metainfo=_content(
            folder / f"{base}.torrent",
            limits.METAINFO_BYTES,
            lambda data: parse_metainfo(data, minimal.release, minimal),
        ),
        chunk_map=_content(
            folder / f"{base}.chunks",
            largest_map(minimal.size),
            lambda data: parse_chunk_map(data, expected=minimal.chunks, size=minimal.size),
        ),
        note=note,
        trusted=False,
        mended=tuple(mended),
    )
    return replace(stored, trusted=stored.chunk_map is not None and stored.stamps() == dict(note.stamps))


def rebuild_map(stored: Stored) -> ChunkMap | None:
    """Write the chunk map anew from .tgz and .parity; None unless it comes out as the signed one."""
    return rebuild_chunk_map(_files(stored), stored.minimal, mode=0o600)


def rebuild_metainfo(stored: Stored) -> Metainfo | None:
    """Write the torrent anew from the three files; None unless it comes out as the signed one."""
    if stored.chunk_map is None:
        return None
    return rebuild_torrent(_files(stored), stored.minimal, stored.chunk_map, mode=0o600)


def _files(stored: Stored) -> ReleaseFiles:
    return ReleaseFiles.of_release(stored.folder, stored.minimal.release)


def _read_note(store: SeedStore, folder: Path) -> SeedNote | None:
    try:
        return store.read_note(folder)
    except (Malformed, FileNotFoundError):
        return None


def _signed(path: Path, copy: bytes, parse: Callable[[bytes], _T], mended: list[str]) -> _T:
    """The record in ``path``, else the one in the note, which then replaces the file."""
    try:
        return parse(_read(path, limits.INDEX_RECORD_BYTES))
    except (LibreSeedError, FileNotFoundError):
        if not copy:
            raise
        value = parse(copy)
    durable_write(path, copy, mode=0o600)
    mended.append(path.name)
    return value


def _content(path: Path, most: int, parse: Callable[[bytes], _T]) -> _T | None:
    try:
        return parse(_read(path, most))
    except (ContentRejected, FileNotFoundError):
        return None


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most + 1)  # one more: the parser refuses it
