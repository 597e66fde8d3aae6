"""Pieces against chunks: what the torrent session has finished, and which 5120-byte chunks that makes whole.

A chunk touches one piece or two neighbouring ones (pieces have at least 16 KiB); it is whole on disk once all of them
are finished. Knows nothing of peers or wishes. Owned by one task.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libreseed import limits
from libreseed.repair.plan import Verified
from libreseed.resolve.journal import Kind
from libreseed.resolve.swarm_view import Address
from libreseed.torrent.layout import LayoutFile, TorrentLayout

__all__ = ["Chunk", "PieceMap", "Salvaged"]

Chunk = tuple[Kind, int]


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What asking peers for single chunks gave: verified chunks, and those that were answered and not found.

    ``by_peer`` says who answered, and which chunks each answered wrongly or does not serve; ``silent`` who did not.
    """

    found: dict[Chunk, bytes]
    refused: set[Chunk]
    by_peer: dict[Address, set[Chunk]] = field(default_factory=dict)
    silent: set[Address] = field(default_factory=set)


class PieceMap:
    """Which pieces are finished and which chunks are verified."""

    def __init__(self, layout: TorrentLayout) -> None:
        self.layout = layout
        self.verified = Verified(layout.grid, layout.m)
        self._have = bytearray(layout.piece_count)

    def restore(self, have: bytes | bytearray, verified: Verified | None) -> None:
        """Take over the state that was found on disk."""
        self._have[:] = have
        if verified is not None:
            self.verified.data[:] = verified.data
            self.verified.parity[:] = verified.parity

    @property
    def finished(self) -> int:
        """How many pieces the session has finished."""
        return self._have.count(1)

    def has(self, piece: int) -> bool:
        """Whether the session has finished ``piece``."""
        return bool(self._have[piece])

    def chunk_map_done(self) -> bool:
        """Whether every piece of the ``.chunks`` file is finished."""
        pieces = self.layout.chunks.pieces
        return self._have.find(0, pieces.start, pieces.stop) < 0

    def finish(self, piece: int) -> tuple[Kind, range] | None:
        """Note a finished piece; the chunks that it makes whole, None for a piece of the chunk map or without any."""
        self._have[piece] = 1
        span = self.layout.span(piece)
        if span.file is self.layout.chunks:
            return None
        chunks = self.touched(piece)
        end = span.offset + span.length
        first = chunks.start + bool(span.offset % limits.CHUNK_BYTES and not self._have[piece - 1])
        open_end = end % limits.CHUNK_BYTES and end < span.file.size and not self._have[piece + 1]
        last = chunks.stop - bool(open_end)
        return (self.kind_of(piece), range(first, last)) if first < last else None

    def pieces_of(self, kind: Kind, chunk: int) -> range:
        """The pieces that ``chunk`` touches."""
        offset = chunk * limits.CHUNK_BYTES
        return self._file(kind).pieces_in(offset, limits.CHUNK_BYTES, self.layout.piece_bytes)

    def is_whole(self, kind: Kind, chunk: int) -> bool:
        """Whether all pieces that ``chunk`` touches are finished."""
        return all(self._have[piece] for piece in self.pieces_of(kind, chunk))

    def is_covered(self, piece: int) -> bool:
        """Whether every chunk that ``piece`` touches is verified; False for a piece of the chunk map."""
        if piece in self.layout.chunks.pieces:
            return False
        chunks = self.touched(piece)
        return self._flags(piece).find(0, chunks.start, chunks.stop) < 0

    def is_partial(self, piece: int) -> bool:
        """Whether ``piece`` is not finished though chunks in it are verified: these must not be fetched again."""
        chunks = self.touched(piece)
        return not self._have[piece] and self._flags(piece).find(1, chunks.start, chunks.stop) >= 0

    def is_untouched(self, piece: int) -> bool:
        """Whether ``piece`` is not finished, and no chunk that lies wholly in it is verified."""
        chunks = self.touched(piece)
        return not self._have[piece] and self._flags(piece).find(1, chunks.start + 1, chunks.stop - 1) < 0

    def finished_of(self, file: LayoutFile) -> int:
        """How many pieces of ``file`` the session has finished."""
        return self._have.count(1, file.pieces.start, file.pieces.stop)

    def missing_in(self, piece: int) -> list[Chunk]:
        """The chunks that touch ``piece`` and are not verified."""
        flags, kind = self._flags(piece), self.kind_of(piece)
        return [(kind, chunk) for chunk in self.touched(piece) if not flags[chunk]]

    def completed_without_session(self) -> list[int]:
        """Pieces of the .tgz with all chunks verified that the session lacks: to be given to it, hence to the swarm."""
        return [piece for piece in self.layout.tgz.pieces if not self._have[piece] and self.is_covered(piece)]

    def touched(self, piece: int) -> range:
        """The chunks that have a byte in ``piece``; not for a piece of the chunk map."""
        file = self._file(self.kind_of(piece))  # not by span(): this is asked for every piece of a plan
        start = (piece - file.pieces.start) * self.layout.piece_bytes
        end = min(start + self.layout.piece_bytes, file.size)
        return range(start // limits.CHUNK_BYTES, -(-end // limits.CHUNK_BYTES))

    def _file(self, kind: Kind) -> LayoutFile:
        return self.layout.tgz if kind is Kind.DATA else self.layout.parity

    def kind_of(self, piece: int) -> Kind:
        """Which file ``piece`` belongs to; not for a piece of the chunk map."""
        return Kind.DATA if piece in self.layout.tgz.pieces else Kind.PARITY

    def _flags(self, piece: int) -> bytearray:
        return self.verified.data if self.kind_of(piece) is Kind.DATA else self.verified.parity
