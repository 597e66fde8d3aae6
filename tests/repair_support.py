"""Makes packages for the tests of chunks, parity and torrents, and damages them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.chunks.repair_files import RepairFiles, make_repair_files
from libreseed.ids import ReleaseId
from libreseed.repair.chunkmap import ChunkMap

RELEASE = ReleaseId.parse("pkg@1.0.0")


def content(label: str, size: int) -> bytes:
    """The vectors' data: SHAKE-256 of the label."""
    return hashlib.shake_256(label.encode()).digest(size)


@dataclass
class Package:
    """A package on disk with its true bytes kept for comparison."""

    folder: Path
    data: bytes
    made: RepairFiles

    @property
    def chunk_map(self) -> ChunkMap:
        return self.made.chunk_map

    @property
    def tgz(self) -> Path:
        return self.folder / f"{self.made.metainfo.layout.tgz.name}"

    @property
    def parity(self) -> Path:
        return self.folder / f"{self.made.metainfo.layout.parity.name}"

    @property
    def store(self) -> ChunkStore:
        return ChunkStore(self.chunk_map, self.tgz, self.parity)

    def lose_data(self, chunks: Iterable[int]) -> None:
        """Fill the chunks with bytes that are none of theirs."""
        with self.tgz.open("r+b") as file:
            for i in chunks:
                offset, length = self.chunk_map.grid.chunk(i)
                file.seek(offset)
                file.write(bytes(byte ^ 0xFF for byte in self.data[offset : offset + length]))

    def lose_parity(self, chunks: Iterable[int]) -> None:
        with self.parity.open("r+b") as file:
            for j in chunks:
                file.seek(j * 5120)
                file.write(b"lost" * 1280)

    def flip_bit(self, i: int, byte: int = 0) -> None:
        """One wrong bit in data chunk ``i``."""
        with self.tgz.open("r+b") as file:
            offset = self.chunk_map.grid.chunk(i)[0] + byte
            file.seek(offset)
            file.write(bytes([self.data[offset] ^ 0x10]))


def make_package(folder: Path, data: bytes, *, m: int | None = None, release: ReleaseId = RELEASE) -> Package:
    tgz = folder / f"{release}.tgz"
    tgz.write_bytes(data)
    return Package(folder, data, make_repair_files(release, tgz, m=m))
