"""The layout of a release's torrent (section 3.7): which byte of which file lies where, by size and m alone.

Three files in this order, ``.chunks``, ``.parity``, ``.tgz`` (BEP 52 orders names by bytes), each followed by a pad
file (BEP 47) up to the next piece boundary, the last one included. Hence no piece holds bytes of two files, and the
number of a piece is found without looking into the torrent. Nothing here hashes or parses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libreseed import limits
from libreseed.ids import ReleaseId
from libreseed.repair.grid import ChunkGrid

__all__ = ["LayoutFile", "PieceSpan", "TorrentLayout", "piece_length"]


def piece_length(tgz_size: int) -> int:
    """Bytes per piece: the next power of two >= size of the .tgz / 1024, from 16 KiB to 4 MiB."""
    wanted = -(-tgz_size // 1024)
    power = 1 << max(0, wanted - 1).bit_length()
    return max(limits.PIECE_BYTES_MIN, min(power, limits.PIECE_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class LayoutFile:
    """A file of the torrent: ``offset`` in the torrent's linear space, ``pad`` zero bytes behind it, its pieces."""

    name: str
    size: int
    offset: int
    pad: int
    pieces: range

    def pieces_in(self, offset: int, length: int, piece_bytes: int) -> range:
        """The pieces that hold a byte of ``[offset, offset + length)`` of this file."""
        end = min(offset + length, self.size)
        if end <= offset:
            return range(self.pieces.start, self.pieces.start)
        return range(self.pieces.start + offset // piece_bytes, self.pieces.start + -(-end // piece_bytes))


@dataclass(frozen=True, slots=True)
class PieceSpan:
    """What a piece holds: ``length`` bytes at ``offset`` of ``file`` (the rest of the piece is padding)."""

    file: LayoutFile
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class TorrentLayout:
    """The torrent of ``release`` for a .tgz of ``tgz_size`` bytes with ``m`` parity rows per stripe."""

    release: ReleaseId
    tgz_size: int
    m: int
    grid: ChunkGrid = field(init=False)
    piece_bytes: int = field(init=False)
    chunks: LayoutFile = field(init=False)
    parity: LayoutFile = field(init=False)
    tgz: LayoutFile = field(init=False)

    def __post_init__(self) -> None:
        grid = ChunkGrid(self.tgz_size)
        grid.check_m(self.m)
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "piece_bytes", piece_length(self.tgz_size))
        offset = 0
        sizes = {"chunks": grid.map_bytes(self.m), "parity": grid.parity_bytes(self.m), "tgz": self.tgz_size}
        for kind, size in sizes.items():
            first, pad = offset // self.piece_bytes, -size % self.piece_bytes
            offset += size + pad
            pieces = range(first, offset // self.piece_bytes)
            file = LayoutFile(f"{self.release}.{kind}", size, first * self.piece_bytes, pad, pieces)
            object.__setattr__(self, kind, file)

    @property
    def files(self) -> tuple[LayoutFile, LayoutFile, LayoutFile]:
        """The three files in the torrent's order."""
        return self.chunks, self.parity, self.tgz

    @property
    def most_metainfo_bytes(self) -> int:
        """A bound for the size of the ``.torrent``: two hashes per piece, and names and numbers."""
        return 52 * self.piece_count + limits.METAINFO_FRAME_BYTES

    @property
    def piece_count(self) -> int:
        """Number of pieces of the whole torrent."""
        return self.tgz.pieces.stop

    def span(self, piece: int) -> PieceSpan:
        """What piece ``piece`` holds; raises ``IndexError``."""
        for file in self.files:
            if piece in file.pieces:
                offset = (piece - file.pieces.start) * self.piece_bytes
                return PieceSpan(file, offset, min(self.piece_bytes, file.size - offset))
        raise IndexError(f"piece {piece} of {self.piece_count}")

    def tgz_pieces(self, offset: int, length: int) -> range:
        """The pieces that hold a byte of ``[offset, offset + length)`` of the .tgz."""
        return self.tgz.pieces_in(offset, length, self.piece_bytes)

    def parity_pieces(self, offset: int, length: int) -> range:
        """The pieces that hold a byte of ``[offset, offset + length)`` of the ``.parity`` file."""
        return self.parity.pieces_in(offset, length, self.piece_bytes)
