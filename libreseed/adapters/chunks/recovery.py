"""What an earlier run left behind, judged anew: which pieces and chunks on disk are good, and which were damaged.

Nothing that an earlier run wrote is believed: the chunk map must have its signed hash, every chunk is hashed against
it, every piece against the signed torrent. The journal only says what *was* good, so that damage shows. All of it
blocks, in bounded memory; trio code calls it in a thread. ``docs/specification/resolver.md``, "Resume".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.resolving.journal import Journal, open_journal
from libreseed.adapters.resolving.store import Workspace
from libreseed.errors import ContentRejected
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.chunkmap import ChunkMap
from libreseed.repair.plan import Verified
from libreseed.resolve.journal import JournalHeader, Kind, Origin, Replay, Run
from libreseed.resolve.piece_map import PieceMap
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import TorrentInfo, read_info

__all__ = ["Findings", "examine", "examine_chunks", "journal_for", "read_known_info", "runs_of", "store_of"]


@dataclass(frozen=True, slots=True)
class Findings:
    """``have[i]`` is 1 for every good piece; ``verified`` the good chunks; ``damaged`` those that were good once."""

    have: bytearray
    verified: Verified | None
    damaged: tuple[int, ...]


def read_known_info(space: Workspace, minimal: MinimalManifest) -> TorrentInfo | None:
    """The info dictionary of an earlier run if it is still the signed one; a damaged one is fetched again."""
    try:
        return read_info(space.info.read_bytes(), minimal.release, minimal)
    except (FileNotFoundError, ContentRejected):
        return None


def examine(
    space: Workspace,
    info: TorrentInfo,
    read_map: Callable[[bytes], ChunkMap],
    *,
    progress: Callable[[int], None] | None = None,
) -> Findings:
    """Judge the files of ``space``; ``read_map`` verifies the chunk map (step 4) and is called only for a good file.

    ``progress`` counts bytes of the .tgz and the .parity.
    """
    layout = info.layout
    have = bytearray(layout.piece_count)
    for piece in layout.chunks.pieces:
        have[piece] = _piece_holds(space, info, piece)
    if not all(have[piece] for piece in layout.chunks.pieces):
        return Findings(have, None, ())
    chunk_map = read_map((space.swarm / layout.chunks.name).read_bytes())
    store = store_of(space, layout, chunk_map)
    verified = store.verify(threads=2, progress=progress)
    for file in (layout.tgz, layout.parity):
        if (space.swarm / file.name).exists():
            for piece in file.pieces:
                have[piece] = _piece_holds(space, info, piece)
    journal, replay = journal_for(space, chunk_map)
    try:
        once = _flags(replay, len(verified.data))
        _forget_unfinished(layout, have, verified, once)
        damaged = tuple(chunk for chunk in verified.missing_data() if once[chunk])
        journal.append(runs_of(Kind.DATA, Origin.LOST, damaged))
    finally:
        journal.close()
    return Findings(have, verified, damaged)


def examine_chunks(space: Workspace, layout: TorrentLayout, chunk_map: ChunkMap) -> Findings:
    """Judge what is there by the chunk map alone, where no torrent is at hand; nobody is told of whole pieces then."""
    verified = store_of(space, layout, chunk_map).verify(threads=2)
    have = bytearray(layout.piece_count)
    have[layout.chunks.pieces.start : layout.chunks.pieces.stop] = b"\1" * len(layout.chunks.pieces)
    journal, replay = journal_for(space, chunk_map)
    try:
        once = _flags(replay, len(verified.data))
        damaged = tuple(chunk for chunk in verified.missing_data() if once[chunk])
        journal.append(runs_of(Kind.DATA, Origin.LOST, damaged))
    finally:
        journal.close()
    return Findings(have, verified, damaged)


def journal_for(space: Workspace, chunk_map: ChunkMap) -> tuple[Journal, Replay]:
    """The open journal of ``space`` and what it says."""
    grid = chunk_map.grid
    return open_journal(space.journal, JournalHeader(chunk_map.digest, grid.n, grid.parity_chunks(chunk_map.m)))


def store_of(space: Workspace, layout: TorrentLayout, chunk_map: ChunkMap) -> ChunkStore:
    """The chunk store over the files that the session writes."""
    return ChunkStore(chunk_map, space.swarm / layout.tgz.name, space.swarm / layout.parity.name)


def runs_of(kind: Kind, origin: Origin, chunks: Sequence[int]) -> list[Run]:
    """Ascending chunk numbers as journal runs."""
    if isinstance(chunks, range) and chunks.step == 1 and chunks:
        return [Run(kind, origin, chunks.start, len(chunks))]
    runs: list[Run] = []
    first = count = 0
    for chunk in chunks:
        if count and chunk == first + count:
            count += 1
            continue
        if count:
            runs.append(Run(kind, origin, first, count))
        first, count = chunk, 1
    if count:
        runs.append(Run(kind, origin, first, count))
    return runs


def _forget_unfinished(layout: TorrentLayout, have: bytearray, verified: Verified, once: bytearray) -> None:
    """Let the session fetch a piece that it had only begun, even if some chunks of it are good by now.

    Only chunks that the journal names are worth fetching the rest of their piece chunk by chunk.
    """
    pieces = PieceMap(layout)
    pieces.restore(have, verified)
    for piece in layout.tgz.pieces:
        if pieces.is_partial(piece):
            for chunk in pieces.touched(piece):
                verified.data[chunk] &= once[chunk]
    for piece in layout.parity.pieces:
        if not have[piece]:
            for chunk in pieces.touched(piece):
                verified.parity[chunk] &= pieces.is_whole(Kind.PARITY, chunk)


def _flags(replay: Replay, chunks: int) -> bytearray:
    flags = bytearray(chunks)
    for run in replay.runs:
        if run.kind is Kind.DATA:
            value = b"\0" if run.origin is Origin.LOST else b"\1"
            flags[run.first : run.first + run.count] = value * run.count
    return flags


def _piece_holds(space: Workspace, info: TorrentInfo, piece: int) -> bool:
    """Whether ``piece`` on disk has its SHA-1 (BEP 3). Chunks decide what is believed; this only says what the torrent
    session would accept as finished."""
    span = info.layout.span(piece)
    data = _read_at(space.swarm / span.file.name, span.offset, span.length)
    if len(data) != span.length:
        return False
    digest = hashlib.sha1(data, usedforsecurity=False)
    digest.update(bytes(info.layout.piece_bytes - span.length))
    return digest.digest() == info.v1_pieces[20 * piece : 20 * piece + 20]


def _read_at(path: Path, offset: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except FileNotFoundError:
        return b""
