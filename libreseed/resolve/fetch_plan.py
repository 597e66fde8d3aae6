"""What to fetch next, and when to stop hoping: the decisions of steps 5 and 6, without any IO.

Order of wishes: the chunk map first; then every data piece; parity only once nothing more of the data is on offer, and
then only the pieces with the parity chunks that the lacking stripes need. A piece that failed its hash too often, and
one of which good chunks are here already, is left to single chunks (salvage) and parity. Invariants: a verified chunk
is never wished for again; parity is never wished for while missing data is on offer; the plan ends only with every data
chunk verified, or with an error that says what lacks. Time is an argument (seconds, any monotonic clock).
Specification: ``docs/specification/resolver.md``, "Fetch plan".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from libreseed import limits
from libreseed.errors import LibreSeedError, TransportFault
from libreseed.repair.plan import RepairPlan, Verified, plan_repair, wanted_parity
from libreseed.resolve.journal import Kind
from libreseed.resolve.piece_map import Chunk, PieceMap, Salvaged
from libreseed.resolve.readmissions import Readmissions
from libreseed.resolve.source_mix import SourceMix
from libreseed.resolve.swarm_view import Address, SwarmView
from libreseed.resolve.wishes import LAST, MAP, PARITY, tgz_wish
from libreseed.torrent.layout import LayoutFile, TorrentLayout

__all__ = ["Decision", "FetchPlan", "Need"]


class Need(Enum):
    """What the fetch needs now."""

    MORE = auto()  # the swarm is delivering, or may yet
    DECODE = auto()  # every stripe that lacks data can be decoded now
    DONE = auto()  # every data chunk is verified


@dataclass(frozen=True, slots=True)
class Decision:
    """``salvage`` are single chunks to ask peers for, meanwhile; ``readmit`` are banned peers to take back first;
    ``until`` is when to ask again at the latest."""

    need: Need
    salvage: tuple[Chunk, ...] = ()
    readmit: tuple[Address, ...] = ()
    until: float | None = None


class FetchPlan:
    """Owned by one task: tell it what happened, then ask :meth:`decide` and :meth:`priorities`.

    Ask for :meth:`priorities` again whenever ``revision`` has changed.
    """

    def __init__(
        self, layout: TorrentLayout, *, patience_s: float, silence_s: float, now: float, mirrors: Sequence[str] = ()
    ) -> None:
        self.layout = layout
        self.pieces = PieceMap(layout)
        self.verified = self.pieces.verified
        self.swarm = SwarmView(layout.piece_count, silence_s)
        self.mix = SourceMix(mirrors, self.pieces, self.swarm) if mirrors else None
        self._revision = 0
        self.salvaging = False  # the owner is asking peers for single chunks right now
        self._patience_s = patience_s
        self._silence_s = silence_s
        self._failures: dict[int, int] = {}
        self._by_chunk: set[int] = set()  # pieces left to single chunks and parity
        self._spoilt: set[int] = set()  # pieces of which everybody asked gave a chunk wrongly, or does not serve it
        self._parity_pieces: set[int] = set()
        self._probes: list[tuple[Kind, range]] = []  # chunks of failed pieces that may lie on disk in good order
        self._refused: set[Chunk] = set()  # chunks that no peer could give one by one
        self._lost: dict[Chunk, int] = {}  # how often each was found overwritten
        self._readmissions = Readmissions(self.pieces)
        self._unanswered = 0
        self._ask_again_at = now
        self._may_ask = True  # whether that time had come at the last decision
        self._banned_at = -1.0
        self._news_at = now  # when anything useful last happened
        self._progress_at = now  # when anything was last verified

    @property
    def revision(self) -> tuple[int, int, int]:
        """Changes whenever :meth:`priorities` may have changed."""
        mixed = self.mix.revision if self.mix is not None else 0
        return self._revision, self.swarm.revision if self._by_chunk or self._spoilt else 0, mixed

    # --- what happened -----------------------------------------------------------------------------------------------
    def restore(self, have: bytes | bytearray, verified: Verified | None) -> None:
        """Start from what an earlier run left: finished pieces and verified chunks."""
        self.pieces.restore(have, verified)
        self._by_chunk = {piece for piece in self.layout.tgz.pieces if self.pieces.is_partial(piece)}
        self._revision += 1

    def piece_done(self, piece: int, now: float) -> tuple[Kind, range] | None:
        """A piece passed the session's check: which chunks are now whole on disk and must be verified, if any."""
        self._by_chunk.discard(piece)
        self._news_at = self._progress_at = now
        alone = self._map_alone()
        whole = self.pieces.finish(piece)
        if self.mix is not None:
            self.mix.session_finished(piece, now)
        self._revision += alone != self._map_alone()
        return whole

    def piece_failed(self, piece: int, now: float) -> None:
        """A piece did not hold; after ``limits.PIECE_FAILURES`` times it is left to single chunks."""
        self._failures[piece] = self._failures.get(piece, 0) + 1
        if self._failures[piece] >= limits.PIECE_FAILURES or self.mix is not None:
            self._leave_to_chunks([piece])
        if self.mix is not None:
            self.mix.session_failed(piece, now)
        self._news_at = now

    def chunks_verified(self, kind: Kind, chunks: Iterable[int], now: float, *, by_session: bool = True) -> None:
        """These chunks match the signed chunk map and are on disk."""
        flags = self.verified.data if kind is Kind.DATA else self.verified.parity
        if isinstance(chunks, range):
            flags[chunks.start : chunks.stop] = b"\1" * len(chunks)
        else:
            for chunk in chunks:
                flags[chunk] = 1
        self._news_at = self._progress_at = now
        self._revision += not by_session

    def chunks_bad(self, kind: Kind, chunks: Iterable[int]) -> None:
        """These chunks lie in finished pieces and do not match the chunk map: only parity can bring them."""
        flags = self.verified.data if kind is Kind.DATA else self.verified.parity
        for chunk in chunks:
            flags[chunk] = 0
            self._refused.add((kind, chunk))

    def chunks_lost(self, kind: Kind, chunks: Iterable[int]) -> None:
        """These were verified and do not hold any more: a late block of a refused piece was written over them. They are
        fetched anew, one by one; what is lost again and again is left to parity."""
        flags = self.verified.data if kind is Kind.DATA else self.verified.parity
        for chunk in chunks:
            flags[chunk] = 0
            self._lost[kind, chunk] = self._lost.get((kind, chunk), 0) + 1
            if self._lost[kind, chunk] >= limits.PIECE_FAILURES:
                self._refused.add((kind, chunk))
            self._by_chunk.update(self.pieces.pieces_of(kind, chunk))
        self._revision += 1

    def salvaged(self, wants: Iterable[Chunk], result: Salvaged, now: float) -> None:
        """Peers were asked for these chunks one by one. A piece that never failed is left to the session again.

        When nobody gives any answer, ``limits.SALVAGE_ATTEMPTS`` times, they are asked for no more until there is news
        of a peer; which says nothing about the chunks.
        """
        if result.found:
            self._progress_at = now
        if result.found or result.refused or result.by_peer:
            self._unanswered = 0
        else:  # peers that have just lost a connection may take the next one in a moment
            self._ask_again_at = now + limits.FETCH_QUIET_SECONDS * 2**self._unanswered
            self._unanswered += 1
        self._refused |= result.refused
        for wanted in wants if self._nobody_answers else result.refused:
            left = {p for p in self.pieces.pieces_of(*wanted) if p not in self._failures}
            self._by_chunk -= left
            if wanted in result.refused:
                self._spoilt |= left
        self._news_at = now
        self._revision += 1

    def source_heard(self, now: float) -> None:
        """There is another address to ask; which renews no patience, because addresses cost nothing."""
        if now < self._alive_at + self._patience_s:
            self._unanswered = 0

    def peer_banned(self, address: tuple[str, int], now: float) -> None:
        """The session banned a peer: chunks that could not be salvaged before may be had from one that is new."""
        if not self.swarm.was_banned(address):
            self._refused = {wanted for wanted in self._refused if self.pieces.is_whole(*wanted)}
            self._unanswered = 0
        if address not in self.swarm.banned:  # else it called back, and was sent away at once: who is there is known
            self._banned_at = now
            self._news_at = now
        self.swarm.ban(address, now)

    def readmitted(self, addresses: Iterable[Address], now: float) -> None:
        """Banned peers are taken back: what failed so far is left to single chunks, so that they can give the rest."""
        self._readmissions.note(addresses)
        self.swarm.forgive(addresses)
        self._leave_to_chunks(self._failures)
        self._news_at = self._progress_at = now  # they gave good pieces since, and get the time to give more

    def take_probes(self) -> list[tuple[Kind, range]]:
        """Chunks of pieces that failed: most of their bytes are on disk, and mostly good. To be verified there."""
        probes, self._probes = self._probes, []
        return probes

    # --- what next ---------------------------------------------------------------------------------------------------
    def priorities(self) -> list[int]:
        """The priority of every piece, for the session; finished pieces keep theirs."""
        wishes = [0] * self.layout.piece_count
        if self.mix is not None and self.mix.first_asked:
            return wishes
        for piece in self.layout.chunks.pieces:
            mirrored = self.mix is not None and self.pieces.has(piece)  # maybe not by the session
            wishes[piece] = 0 if mirrored else MAP
        if self._map_alone():
            return wishes
        for piece in self.layout.tgz.pieces:
            if self.pieces.has(piece) or self._wished(piece):
                wishes[piece] = tgz_wish(self.layout, piece)
        for piece in self._parity_pieces:
            if self.pieces.has(piece) or self._wished(piece):
                wishes[piece] = PARITY
        for piece in self.mix.stoppers if self.mix is not None else ():
            wishes[piece] = LAST
        return wishes

    def _map_alone(self) -> bool:
        """Whether a peer that was banned shall give the chunk map before anything else, or it is banned once more."""
        return self._readmissions.any and not self.pieces.chunk_map_done()

    def to_give(self) -> list[int]:
        """Pieces that are complete without the session, which shall have them; but for those it has to wish for."""
        kept = self.mix.stoppers if self.mix is not None and not self.verified.complete else ()
        return [piece for piece in self.pieces.completed_without_session() if piece not in kept]

    def owed(self) -> list[int]:
        """Like :meth:`priorities`, without what is finished: what peers still owe."""
        wishes = self.priorities()
        return [0 if self.pieces.has(piece) else wish for piece, wish in enumerate(wishes)]

    def decide(self, now: float) -> Decision:
        """What to do now. Raises ``source.none``, ``source.incomplete`` or ``repair.beyond`` when hope is over."""
        if self.verified.complete:
            return Decision(Need.DONE)
        if self.mix is not None and self.mix.able(now):  # no other way is tried before they have given what they can
            return Decision(Need.MORE, until=self._sooner(self.mix.wake_at(now), self._next_doubt(now)))
        self._may_ask = now >= self._ask_again_at
        salvage = self._single_chunks() if self.pieces.chunk_map_done() and not self.salvaging else ()
        if salvage or self._on_offer(self.layout.chunks, now) or self._on_offer(self.layout.tgz, now):
            return Decision(Need.MORE, salvage, until=self._next_doubt(now))
        settled = self._banned_at + (limits.FETCH_QUIET_SECONDS if self.swarm.has_others else 0)
        unseen = self.swarm.updated_at <= settled or self.swarm.strangers
        if self.swarm.banned and unseen and now < self._banned_at + self._patience_s:
            return Decision(Need.MORE, until=now + limits.FETCH_QUIET_SECONDS)  # who else is there is not known yet
        if not self.salvaging and (readmit := self._readmissions.worthy(self.swarm.banned)):
            return Decision(Need.MORE, readmit=readmit)
        if not self.pieces.chunk_map_done():
            return self._wait(now)
        changed_at = min(self.swarm.changed_at, self._alive_at + self._silence_s)
        quiet_until = max(changed_at, self._news_at) + limits.FETCH_QUIET_SECONDS
        plan = plan_repair(self.verified)
        if not plan.short and (self._parity_pieces or now >= quiet_until or not self.swarm.peers):
            return Decision(Need.DECODE)
        if self.salvaging:
            return Decision(Need.MORE)
        if salvage := self._from_banned(Kind.DATA, self.verified.missing_data()):
            # The session shall not write where single chunks are written.
            self._leave_to_chunks({p for wanted in salvage for p in self.pieces.pieces_of(*wanted)})
            return Decision(Need.MORE, salvage)
        if now < quiet_until:
            return Decision(Need.MORE, until=quiet_until)
        return self._seek_parity(plan, now)

    def _seek_parity(self, plan: RepairPlan, now: float) -> Decision:
        if self.mix is not None:  # the exact chunks, where peers would give whole pieces
            hoped = bytes(map(self.mix.may_hold_parity, range(len(self.verified.parity))))
            if self.mix.want_parity(wanted_parity(self.verified, hoped), now) and self.mix.able(now):
                return Decision(Need.MORE, until=self.mix.wake_at(now))
        offered = bytes(self._parity_offered(j) for j in range(len(self.verified.parity)))
        pieces = {p for j in wanted_parity(self.verified, offered) for p in self.pieces.pieces_of(Kind.PARITY, j)}
        if not pieces <= self._parity_pieces:
            self._parity_pieces |= pieces
            self._revision += 1
        if any(self._wished(piece) and self._offered(piece, now) for piece in pieces):
            return Decision(Need.MORE, until=self._next_doubt(now))
        hoped = bytes(offered[j] or (Kind.PARITY, j) not in self._refused for j in range(len(offered)))
        if salvage := self._from_banned(Kind.PARITY, wanted_parity(self.verified, hoped)):
            return Decision(Need.MORE, salvage)
        return self._wait(now, plan)

    def _wait(self, now: float, plan: RepairPlan | None = None) -> Decision:
        """Nothing that is lacking is on offer: hope ``patience_s`` seconds for another peer, then say what lacks.

        Who claims to have it gets the time to prove that besides; only what is verified or delivered renews either.
        """
        until = self._alive_at + self._patience_s + (self._silence_s if self.swarm.speaking else 0)
        if now < until or self.salvaging:
            return Decision(Need.MORE, until=max(until, now + 0.1))
        raise self.verdict(plan)

    def lacks_sources(self) -> bool:
        """Whether what is here is too little without any peer."""
        return not self.verified.complete and bool(plan_repair(self.verified).short)

    def verdict(self, plan: RepairPlan | None = None) -> LibreSeedError:
        """Why it cannot be completed, from what is known now."""
        asked = not (self._nobody_answers and self.swarm.banned)  # else their good chunks are only out of reach
        given = self.swarm.peers + len(self.swarm.banned) > 0 or (self.mix is not None and self.mix.proven)
        if asked and self.pieces.chunk_map_done() and given:
            try:
                (plan or plan_repair(self.verified)).require_repairable()
            except LibreSeedError as error:
                return error.at_step(6)
        evidence = {"peers": self.swarm.peers, "silent": len(self.swarm.silent), "banned": len(self.swarm.banned)}
        if self.mix is not None:
            return self.mix.verdict(self.swarm.peers + len(self.swarm.banned))
        if not self.swarm.peers and not self.swarm.banned:
            return TransportFault("source.none", "no peer that holds any of the release answered", evidence=evidence)
        peers = self.swarm.peers + len(self.swarm.banned)
        message = f"the {peers} peers found do not offer or deliver what is lacking"
        return TransportFault("source.incomplete", message, evidence=evidence)

    def _leave_to_chunks(self, pieces: Iterable[int]) -> None:
        """The session shall not fetch these any more; the chunk map has no other way than the session."""
        for piece in pieces:
            if piece not in self._by_chunk and not self.pieces.has(piece) and piece not in self.layout.chunks.pieces:
                self._by_chunk.add(piece)
                self._probes.append((self.pieces.kind_of(piece), self.pieces.touched(piece)))
        self._revision += 1

    # --- who could give it -------------------------------------------------------------------------------------------
    def _wished(self, piece: int) -> bool:
        """Whether the session shall fetch ``piece``: also one that failed, once a peer without fault offers it."""
        if self.pieces.has(piece) or self.pieces.is_covered(piece):
            return False
        if self.mix is not None and piece in self.layout.tgz.pieces and not self.mix.allows(piece):
            return False
        if piece in self._spoilt and self.swarm.banned and not self.swarm.offers_clean(piece):
            return False  # who was banned would give the same bytes again
        failures = self._failures.get(piece, 0)
        return piece not in self._by_chunk or (
            0 < failures < limits.PIECE_FAILURES_MOST and self.swarm.offers_clean(piece)
        )

    @property
    def _alive_at(self) -> float:
        """When anything was last verified or delivered: connections and claims cost nothing, and prove nothing."""
        return max(self._progress_at, self.swarm.delivered_at)

    @property
    def _nobody_answers(self) -> bool:
        return self._unanswered >= limits.SALVAGE_ATTEMPTS

    def _offered(self, piece: int, now: float) -> bool:
        """Whether somebody offers ``piece`` who delivered before, or may still prove it: ever new peers that claim
        everything and deliver nothing must neither keep a fetch alive nor keep it from using parity."""
        if now < self._alive_at + self._silence_s:
            return self.swarm.offers(piece)
        return self.swarm.offers_proven(piece)

    def _next_doubt(self, now: float) -> float | None:
        """When an offer may stop counting."""
        doubt, silence = self._alive_at + self._silence_s, self.swarm.next_silence()
        return doubt if now < doubt and (silence is None or doubt < silence) else silence

    @staticmethod
    def _sooner(*times: float | None) -> float | None:
        return min((at for at in times if at is not None), default=None)

    def _on_offer(self, file: LayoutFile, now: float) -> bool:
        """Whether a peer offers a wished piece of ``file``."""
        is_map = file is self.layout.chunks
        return any(
            not self.pieces.has(piece) and self._offered(piece, now) and (is_map or self._wished(piece))
            for piece in file.pieces
        )

    def _parity_offered(self, j: int) -> bool:
        """Whether parity chunk ``j`` is here, or all pieces that it touches can be had from the session."""
        if self.verified.parity[j]:
            return True
        pieces = self.pieces.pieces_of(Kind.PARITY, j)
        offered = (self.pieces.has(p) or (self._wished(p) and self.swarm.offers(p)) for p in pieces)
        return (Kind.PARITY, j) not in self._refused and all(offered)

    def _single_chunks(self) -> tuple[Chunk, ...]:
        """Missing chunks of pieces that are left to single chunks, as long as anybody can be asked."""
        if (
            not self._by_chunk
            or self._nobody_answers
            or not self._may_ask
            or not (self.swarm.speaking or self.swarm.banned)
        ):
            return ()
        wants = {(kind, chunk) for piece in self._by_chunk for kind, chunk in self.pieces.missing_in(piece)}
        return tuple(sorted(wants - self._refused))

    def _from_banned(self, kind: Kind, chunks: Iterable[int]) -> tuple[Chunk, ...]:
        """Peers whose pieces failed can still hold good chunks of everything."""
        if not self.swarm.banned or self._nobody_answers or not self._may_ask:
            return ()
        return tuple((kind, chunk) for chunk in chunks if (kind, chunk) not in self._refused)
