"""What to fetch next, and when to stop hoping: the decisions of steps 5 and 6, without any IO.

Order of wishes: the chunk map first; then every data piece; parity only once nothing more of the data is on offer, and
then only the pieces that hold the parity chunks which the lacking stripes need. A piece that failed its hash too often
is left to single chunks (salvage) and parity. Invariants: a verified chunk is never wished for again; parity is never
wished for while data that is missing is on offer; the plan only ever ends in DONE, or in FAILED with the stripes that
lack parts. Time is an argument (seconds, any monotonic clock). ``docs/specification/resolver.md``, "Fetch plan".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from libreseed import limits
from libreseed.errors import LibreSeedError, TransportFault
from libreseed.repair.plan import RepairPlan, Verified, plan_repair, wanted_parity
from libreseed.resolve.journal import Kind
from libreseed.resolve.swarm_view import SwarmView
from libreseed.torrent.layout import LayoutFile, TorrentLayout

__all__ = ["ChunkRange", "Decision", "FetchPlan", "Need"]

_FIRST, _NORMAL = 7, 4  # priorities of the session: the chunk map before all else


class Need(Enum):
    """What the fetch needs now."""

    MORE = auto()  # the swarm is delivering, or may yet
    DECODE = auto()  # every stripe that lacks data can be decoded now
    SALVAGE = auto()  # ask peers whose pieces failed for single chunks
    DONE = auto()  # every data chunk is verified


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """Neighbouring chunks of one file."""

    kind: Kind
    chunks: range


@dataclass(frozen=True, slots=True)
class Decision:
    """``wants`` are chunks for SALVAGE, ``stripes`` those to DECODE; ``until`` is when to ask again at the latest."""

    need: Need
    stripes: tuple[int, ...] = ()
    wants: tuple[tuple[Kind, int], ...] = ()
    until: float | None = None


class FetchPlan:
    """Owned by one task: tell it what happened, then ask :meth:`decide` and :meth:`priorities`."""

    def __init__(self, layout: TorrentLayout, *, patience_s: float, silence_s: float, now: float) -> None:
        self.layout = layout
        self.verified = Verified(layout.grid, layout.m)
        self.swarm = SwarmView(layout.piece_count, silence_s)
        self._patience_s = patience_s
        self._have = bytearray(layout.piece_count)
        self._failures: dict[int, int] = {}
        self._spoiled: set[int] = set()
        self._parity_pieces: set[int] = set()
        self._refused: set[tuple[Kind, int]] = set()  # chunks that no banned peer could give
        self._news_at = now  # when anything useful last happened

    # --- what happened -----------------------------------------------------------------------------------------------
    def has(self, piece: int) -> bool:
        """Whether the session has finished ``piece``."""
        return bool(self._have[piece])

    def piece_done(self, piece: int, now: float) -> ChunkRange | None:
        """A piece passed the session's check: which chunks are now whole on disk and must be verified, if any."""
        self._have[piece] = 1
        self._spoiled.discard(piece)
        self._news_at = now
        span = self.layout.span(piece)
        if span.file is self.layout.chunks:
            return None
        kind = Kind.DATA if span.file is self.layout.tgz else Kind.PARITY
        first, last = span.offset // limits.CHUNK_BYTES, -(-(span.offset + span.length) // limits.CHUNK_BYTES)
        if span.offset % limits.CHUNK_BYTES and not self._have[piece - 1]:
            first += 1
        end = span.offset + span.length
        if end % limits.CHUNK_BYTES and end < span.file.size and not self._have[piece + 1]:
            last -= 1
        return ChunkRange(kind, range(first, last)) if first < last else None

    def piece_failed(self, piece: int, now: float) -> None:
        """A piece did not hold; after ``limits.PIECE_FAILURES`` times the swarm is not asked for it any more."""
        self._failures[piece] = self._failures.get(piece, 0) + 1
        if self._failures[piece] >= limits.PIECE_FAILURES:
            self._spoiled.add(piece)
        self._news_at = now

    def chunks_verified(self, kind: Kind, chunks: Iterable[int], now: float) -> None:
        """These chunks match the signed chunk map and are on disk."""
        flags = self.verified.data if kind is Kind.DATA else self.verified.parity
        for chunk in chunks:
            flags[chunk] = 1
        self._news_at = now

    def chunks_bad(self, kind: Kind, chunks: Iterable[int]) -> None:
        """These chunks are on disk in finished pieces and do not match: only parity can bring them."""
        flags = self.verified.data if kind is Kind.DATA else self.verified.parity
        for chunk in chunks:
            flags[chunk] = 0
            self._refused.add((kind, chunk))

    def salvage_failed(self, wants: Iterable[tuple[Kind, int]], now: float) -> None:
        """No banned peer could give these chunks."""
        self._refused.update(wants)
        self._news_at = now

    def peer_banned(self, address: tuple[str, int], now: float) -> None:
        """The session banned a peer; chunks that could not be salvaged before may be had from this one."""
        self.swarm.ban(address, now)
        self._refused = {(kind, chunk) for kind, chunk in self._refused if self._is_whole(kind, chunk)}
        self._news_at = now

    # --- what next ---------------------------------------------------------------------------------------------------
    def chunk_map_done(self) -> bool:
        """Whether every piece of the ``.chunks`` file is here."""
        return all(self._have[piece] for piece in self.layout.chunks.pieces)

    def priorities(self) -> list[int]:
        """The priority of every piece, for the session."""
        wishes = [0] * self.layout.piece_count
        for piece in self.layout.chunks.pieces:
            wishes[piece] = 0 if self._have[piece] else _FIRST
        for piece in self.layout.tgz.pieces:
            wishes[piece] = _NORMAL if self._wished(piece) else 0
        for piece in self._parity_pieces:
            wishes[piece] = _NORMAL if self._wished(piece) else 0
        return wishes

    def decide(self, now: float) -> Decision:
        """What to do now. Raises ``source.none``, ``source.incomplete`` or ``repair.beyond`` when hope is over."""
        if self.verified.complete:
            return Decision(Need.DONE)
        if self._on_offer(self.layout.chunks) or self._on_offer(self.layout.tgz):
            return Decision(Need.MORE, until=self.swarm.next_silence())
        if not self.chunk_map_done():
            return self._wait(now)
        quiet_until = max(self.swarm.changed_at, self._news_at) + limits.FETCH_QUIET_SECONDS
        plan = plan_repair(self.verified)
        if not plan.short and (now >= quiet_until or not self.swarm.peers):
            return Decision(Need.DECODE, stripes=plan.decodable)
        if wants := self._salvageable(Kind.DATA, self.verified.missing_data()):
            return Decision(Need.SALVAGE, wants=wants)
        if now < quiet_until:
            return Decision(Need.MORE, until=quiet_until)
        return self._seek_parity(plan, now)

    def _seek_parity(self, plan: RepairPlan, now: float) -> Decision:
        offered = bytes(self._parity_chunk_offered(j) for j in range(len(self.verified.parity)))
        for j in wanted_parity(self.verified, offered):
            if offered[j]:
                self._parity_pieces.update(self._pieces_of(Kind.PARITY, j))
        if any(self._wished(piece) and self.swarm.offers(piece) for piece in self._parity_pieces):
            return Decision(Need.MORE, until=self.swarm.next_silence())
        wanted = wanted_parity(self.verified, bytes(self._may_salvage_parity(offered)))
        if wants := self._salvageable(Kind.PARITY, wanted):
            return Decision(Need.SALVAGE, wants=wants)
        return self._wait(now, plan)

    def _wait(self, now: float, plan: RepairPlan | None = None) -> Decision:
        """Nothing that is lacking is on offer: hope ``patience_s`` seconds for another peer, then say what lacks."""
        until = max(self._news_at, self.swarm.changed_at) + self._patience_s
        if now < until:
            return Decision(Need.MORE, until=until)
        raise self.verdict(plan)

    def verdict(self, plan: RepairPlan | None = None) -> LibreSeedError:
        """Why it cannot be completed, from what is known now."""
        if self.chunk_map_done() and self.swarm.peers + len(self.swarm.banned) > 0:
            try:
                (plan or plan_repair(self.verified)).require_repairable()
            except LibreSeedError as error:
                return error
        evidence = {"peers": self.swarm.peers, "silent": len(self.swarm.silent), "banned": len(self.swarm.banned)}
        if not self.swarm.peers and not self.swarm.banned:
            return TransportFault("source.none", "no peer that holds any of the release answered", evidence=evidence)
        message = f"the {self.swarm.peers} peers found do not offer or deliver what is lacking"
        return TransportFault("source.incomplete", message, evidence=evidence)

    def finished_by_us(self) -> list[int]:
        """Pieces of the .tgz that the session lacks though all their chunks are verified: give these to the swarm."""
        return [piece for piece in self.layout.tgz.pieces if not self._have[piece] and self._is_covered(piece)]

    # --- geometry ----------------------------------------------------------------------------------------------------
    def _file(self, kind: Kind) -> LayoutFile:
        return self.layout.tgz if kind is Kind.DATA else self.layout.parity

    def _pieces_of(self, kind: Kind, chunk: int) -> range:
        return self._file(kind).pieces_in(chunk * limits.CHUNK_BYTES, limits.CHUNK_BYTES, self.layout.piece_bytes)

    def _is_whole(self, kind: Kind, chunk: int) -> bool:
        """Whether the session has finished all pieces that ``chunk`` touches."""
        return all(self._have[piece] for piece in self._pieces_of(kind, chunk))

    def _is_covered(self, piece: int) -> bool:
        """Whether every chunk that ``piece`` touches is verified."""
        span = self.layout.span(piece)
        flags = self.verified.data if span.file is self.layout.tgz else self.verified.parity
        first, last = span.offset // limits.CHUNK_BYTES, -(-(span.offset + span.length) // limits.CHUNK_BYTES)
        return flags.find(0, first, last) < 0

    def _wished(self, piece: int) -> bool:
        return not self._have[piece] and piece not in self._spoiled and not self._is_covered(piece)

    def _on_offer(self, file: LayoutFile) -> bool:
        """Whether a peer offers a missing piece of ``file``."""
        covered = file is not self.layout.chunks
        return any(
            not self._have[piece] and self.swarm.offers(piece) and (not covered or self._wished(piece))
            for piece in file.pieces
        )

    def _parity_chunk_offered(self, j: int) -> bool:
        if self.verified.parity[j]:
            return True
        if (Kind.PARITY, j) in self._refused:
            return False
        pieces = self._pieces_of(Kind.PARITY, j)
        return all(self._have[p] or (p not in self._spoiled and self.swarm.offers(p)) for p in pieces)

    def _may_salvage_parity(self, offered: bytes) -> Iterable[bool]:
        return (bool(offered[j]) or (Kind.PARITY, j) not in self._refused for j in range(len(offered)))

    def _salvageable(self, kind: Kind, chunks: Iterable[int]) -> tuple[tuple[Kind, int], ...]:
        if not self.swarm.banned:
            return ()
        return tuple((kind, chunk) for chunk in chunks if (kind, chunk) not in self._refused)
