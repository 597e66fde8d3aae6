"""The format of the resolver's journal: which chunks were verified, as append-only fixed-size records.

A journal belongs to one chunk map (its digest is in the header), so it can't be mistaken for another release's.
Each record names a run of chunks and carries a CRC over itself and its place in the file, so that a torn write, a
stale block or a swapped record ends the replay there; everything before it stays valid. The journal is a hint, not a
proof: whatever it names is hashed again before it is used (``docs/specification/resolver.md``, "Journal").

Header, 52 bytes little-endian: magic ``LSJRNL01``, 32 bytes digest of the chunk map, u32 data chunks, u32 parity
chunks, u32 CRC-32 of the 48 bytes before. Record, 16 bytes: u8 kind, u8 origin, u16 zero, u32 first, u32 count,
u32 CRC-32 of (u64 byte offset of the record || the 12 bytes before).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from libreseed.errors import Malformed
from libreseed.ids import Blake3Digest

__all__ = ["HEADER_BYTES", "RECORD_BYTES", "JournalHeader", "Kind", "Origin", "Replay", "Run", "encode_run", "replay"]

HEADER_BYTES = 52
RECORD_BYTES = 16
_MAGIC = b"LSJRNL01"
_HEADER = struct.Struct("<8s32sII")
_RECORD = struct.Struct("<BBHII")
_CRC = struct.Struct("<I")


class Kind(IntEnum):
    """Which file a chunk is of."""

    DATA = 0
    PARITY = 1


class Origin(IntEnum):
    """Where a verified chunk came from, or that it is no longer good."""

    SWARM = 0  # a piece that the torrent session finished
    PEER = 1  # single chunks taken from one peer's damaged pieces
    REPAIR = 2  # decoded from parity
    LOST = 3  # was verified once and found damaged on this disk
    MIRROR = 4  # a range of an HTTP mirror


@dataclass(frozen=True, slots=True)
class Run:
    """``count`` neighbouring chunks from ``first`` on that share a fate."""

    kind: Kind
    origin: Origin
    first: int
    count: int

    def __post_init__(self) -> None:
        if self.first < 0 or self.count < 1 or self.first + self.count > 2**32:
            raise Malformed("encoding.range", "a journal run outside its file")


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """What a journal is about: the chunk map's digest and how many chunks of each kind there are."""

    chunk_map: Blake3Digest
    data_chunks: int
    parity_chunks: int

    @property
    def data(self) -> bytes:
        """The 52 bytes at the start of the file."""
        body = _HEADER.pack(_MAGIC, self.chunk_map.raw, self.data_chunks, self.parity_chunks)
        return body + _CRC.pack(zlib.crc32(body))

    def holds(self, run: Run) -> bool:
        """Whether ``run`` lies within the release's chunks."""
        return run.first + run.count <= (self.data_chunks if run.kind is Kind.DATA else self.parity_chunks)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal says. ``valid_bytes`` is where the next record goes: anything behind it is torn and is cut off."""

    runs: tuple[Run, ...]
    valid_bytes: int


def encode_run(run: Run, offset: int) -> bytes:
    """The record of ``run`` at byte ``offset`` of the file."""
    body = _RECORD.pack(run.kind, run.origin, 0, run.first, run.count)
    return body + _CRC.pack(zlib.crc32(offset.to_bytes(8, "little") + body))


def replay(data: bytes, header: JournalHeader) -> Replay:
    """Read a journal as far as it is intact; a header that is not ``header`` means an empty journal (0 valid bytes)."""
    if data[:HEADER_BYTES] != header.data:
        return Replay((), 0)
    runs: list[Run] = []
    offset = HEADER_BYTES
    while (run := _run_at(data, offset, header)) is not None:
        runs.append(run)
        offset += RECORD_BYTES
    return Replay(tuple(runs), offset)


def _run_at(data: bytes, offset: int, header: JournalHeader) -> Run | None:
    record = data[offset : offset + RECORD_BYTES]
    if len(record) != RECORD_BYTES:
        return None
    kind, origin, zero, first, count = _RECORD.unpack_from(record)
    try:
        run = Run(Kind(kind), Origin(origin), first, count)
    except (ValueError, Malformed):  # ValueError: no such kind or origin
        return None
    return run if zero == 0 and record == encode_run(run, offset) and header.holds(run) else None
