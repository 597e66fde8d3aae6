"""One file from the swarm and from mirrors at once: which pieces the torrent session may fetch, which chunks mirrors.

The session is given a *share*: pieces that its peers offer, as many as it has shown to be able to take. All else
that is missing is in the mirrors' pool: first what no peer offers, then from the end, as the session works from the
start. So no byte is asked for twice, whatever libtorrent picks first. When the pool is empty, mirrors take pieces of
the share that the session has not begun; when mirrors can give nothing more, the session may fetch everything.

Invariants: a piece is in the share or its chunks are in the pool, never both (a chunk across both is the mirrors');
chunks under way over HTTP are in neither. Owned by one task; no IO; time is an argument.
``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from libreseed import limits
from libreseed.errors import TransportFault
from libreseed.repair.plan import Verified
from libreseed.resolve.journal import Kind
from libreseed.resolve.mirror_board import ANYBODY, LATER, MIRRORS_ONLY, TAKEN, Ask, MirrorBoard
from libreseed.resolve.mirror_score import MirrorScore
from libreseed.resolve.piece_map import PieceMap
from libreseed.resolve.swarm_view import SwarmView

__all__ = ["SourceMix"]

_MISSING = bytes([3, 0]) + bytes(254)  # flags of verified chunks -> which bits of a pool's value may stand
_OFFERED = bytes(value if value == ANYBODY else TAKEN for value in range(256))


class SourceMix:
    """``update`` whenever anything changed; then ``allows`` for the session, ``next`` for mirrors."""

    def __init__(self, urls: Sequence[str], pieces: PieceMap, swarm: SwarmView) -> None:
        grid = pieces.layout.grid
        self.board = MirrorBoard(urls, (grid.n, grid.parity_chunks(pieces.layout.m)))
        self.revision = 0  # changes with what the session may fetch
        self.open = False  # the session may fetch everything: mirrors can give nothing more
        self.opening = False  # mirrors are being asked for the chunk map
        self.first_asked = False  # and peers are not, yet
        self.stoppers: frozenset[int] = frozenset()  # the session wishes for these, and nobody offers them
        self.crossed = False  # a chunk came from a mirror where the session may have been writing
        self._pieces = pieces
        self._swarm = swarm
        self._share: set[int] = set()
        self._ever: set[int] = set()  # pieces that were ever in the share, or begun beside it
        self._begun: frozenset[int] = frozenset()
        self._parity: set[int] = set()  # parity chunks that mirrors shall fetch
        self._failed: set[int] = set()  # pieces that did not hold
        self._gained = 0  # pieces that the session has finished
        self._gained_at = 0.0
        self._filled_at = 0.0
        self._updated_at = 0.0

    # --- for the session ---------------------------------------------------------------------------------------------
    def allows(self, piece: int) -> bool:
        """Whether the session may fetch this piece of the .tgz."""
        return self.open or piece in self._share

    def opens(self) -> None:
        """Mirrors are asked for the chunk map: one of them has just given the torrent, so peers are not asked yet."""
        self.opening = self.first_asked = True
        self.revision += 1

    def hastens(self) -> None:
        """The chunk map takes mirrors too long: let peers send it, too."""
        self.revision += self.first_asked
        self.first_asked = False

    def opened(self) -> None:
        """Mirrors gave the chunk map, or cannot."""
        self.opening = False
        self.hastens()

    def session_finished(self, piece: int, now: float) -> None:
        """The session has finished a piece; its share is filled up when half of it is done."""
        if piece in self._share:
            self._share.discard(piece)
            self._gained += 1
            self._gained_at = now
            few = 4 * len(self._share) <= 3 * self._target()
            if few and (not self._share or now >= self._updated_at + limits.MIX_SECONDS):
                self.update(now)

    def session_failed(self, piece: int, now: float) -> None:
        """A piece did not hold: mirrors shall fetch what is not good of it."""
        self._failed.add(piece)
        self.update(now)

    def begun(self, pieces: Iterable[int]) -> None:
        """Of these pieces the session has blocks, or has asked for them.

        One beside its share may come from mirrors, too: then a block that nobody judges can be written over chunks that
        were verified.
        """
        self._begun, tgz = frozenset(pieces), self._pieces.layout.tgz.pieces
        strays = {piece for piece in self._begun - self._share if piece in tgz and not self._pieces.has(piece)}
        self._ever |= strays
        asks = [ask for ask in self.board.asks if ask.kind is Kind.DATA and ask.left]
        asked = {piece for ask in asks for piece in self._touching(ask.left)}
        self.crossed |= any(piece in asked or self._pieces.is_partial(piece) for piece in strays)

    # --- for mirrors -------------------------------------------------------------------------------------------------
    def next(self, mirror: MirrorScore, now: float) -> Ask | None:
        """What ``mirror`` shall fetch next."""
        self.board.stalled = self._stalls(now)
        ask = self.board.next(mirror, now)
        if ask is None and mirror.alive and mirror.proven and not self.board.asks_of(mirror):
            if mirror.patchy and not self.board.stalled:
                ask = self._try_again(mirror, now)
            elif self._steal(now):
                ask = self.board.next(mirror, now)
            elif self.board.rob(mirror, now) is None:
                return None
        if ask is not None and ask.kind is Kind.DATA:
            self.crossed |= any(self._was_shared(piece) for piece in self._touching(ask.chunks))
            ask.head, ask.tail = self._edges(ask.chunks)
            ask.sample = self.board.worth_a_sample(ask)
        return ask

    def _try_again(self, mirror: MirrorScore, now: float) -> Ask | None:
        """A patchy mirror is asked for a little of what peers offer, ever more seldom: it may have better parts."""
        if now < mirror.try_at or not self._steal(now, most=1):
            return None
        self.board.tried = mirror
        ask = self.board.next(mirror, now)
        self.board.tried = None
        mirror.tried(now)
        return ask

    def _edges(self, chunks: range) -> tuple[int, int]:
        """How many bytes of the first and of the last chunk lie in a piece that the session has finished.

        None of a chunk across two finished ones: it is whole here, and being judged or found wrong.
        """
        has, head, tail = self._pieces.has, self._boundary(chunks.start), self._boundary(chunks[-1])
        return (
            head[1] if head is not None and has(head[0]) and not has(head[0] + 1) else 0,
            tail[2] if tail is not None and has(tail[0] + 1) and not has(tail[0]) else 0,
        )

    def _boundary(self, chunk: int) -> tuple[int, int, int] | None:
        """For a chunk across two pieces: the first of them, and how many bytes it has in each."""
        tgz, size = self._pieces.layout.tgz, self._pieces.layout.piece_bytes
        start, end = chunk * limits.CHUNK_BYTES, min((chunk + 1) * limits.CHUNK_BYTES, tgz.size)
        inner = (end - 1) // size * size
        return (tgz.pieces.start + inner // size - 1, inner - start, end - inner) if inner > start else None

    def ended(self, ask: Ask, now: float) -> None:
        """An ask is over, however it ended. All is shared out anew, unless that was done a moment ago."""
        if now >= self._updated_at + limits.MIX_SECONDS:
            self.update(now)
            return
        pool, verified = self.board.pools[ask.kind], self._pieces.verified
        flags = verified.data if ask.kind is Kind.DATA else verified.parity
        for chunk in ask.chunks:
            pool[chunk] = TAKEN if flags[chunk] else ask.tier
        self._keep_off(ask.kind)
        if ask.kind is Kind.DATA and self.board.wasteful:
            grid = self._pieces.layout.grid
            self._spare(pool, verified, {grid.stripe_of(chunk) for chunk in ask.chunks})
        self._judge_open(now)
        if self.open:  # nothing may follow that would share out anew
            self.update(now)

    def able(self, now: float) -> bool:
        """Whether mirrors are at work or may yet give what lacks."""
        return self.opening or self.board.able(now)

    @property
    def proven(self) -> bool:
        """Whether any mirror gave a good chunk."""
        return any(mirror.proven for mirror in self.board.mirrors)

    def verdict(self, peers: int) -> TransportFault:
        """Why neither ``peers`` peers nor the mirrors can complete it: what is wrong with each mirror."""
        why = {one.url: one.why or one.last_fault or "lacks what is missing" for one in self.board.mirrors}
        said = "; ".join(f"{url}: {text}" for url, text in why.items())
        message = f"neither peers ({peers} found) nor mirrors give what is lacking; {said}"
        return TransportFault("source.incomplete", message, evidence={"peers": peers, "mirrors": why})

    def wake_at(self, now: float) -> float | None:
        """When :meth:`able` or :meth:`next` may have another answer though nothing happened."""
        rested = self.board.wake_at(now)
        doubt = now + limits.MIRROR_ROB_SECONDS / 2 if self.board.asks or self._share else None
        return min((at for at in (rested, doubt) if at is not None), default=None)

    def may_hold_parity(self, chunk: int) -> bool:
        """Whether a mirror may give a parity chunk."""
        return self.board.may_hold(Kind.PARITY, chunk)

    def want_parity(self, chunks: Iterable[int], now: float) -> set[int]:
        """Let mirrors fetch these parity chunks; returns those that are not here."""
        wanted = {chunk for chunk in chunks if not self._pieces.verified.parity[chunk]}
        if not wanted <= self._parity:
            self._parity |= wanted
            self.update(now)
        return wanted

    # --- sharing out -------------------------------------------------------------------------------------------------
    def update(self, now: float) -> None:
        """Share out anew what is missing."""
        before = len(self._share), self._gained, self.stoppers
        self._share = {piece for piece in self._share if self._is_open(piece) and self._swarm.offers(piece)}
        self._fill_share(now)
        self.board.stalled = self._stalls(now)
        self._fill_pools(self._pieces.verified)
        self._choose_stoppers()
        self.revision += (len(self._share), self._gained, self.stoppers) != before
        self._judge_open(now)
        self._updated_at = now

    def _judge_open(self, now: float) -> None:
        before = self.open
        waiting = self._share and (
            self.board.pools[Kind.DATA].find(LATER) >= 0
            or any(mirror.patchy and mirror.hopeful for mirror in self.board.mirrors)
        )
        self.open = not self.board.able(now) and not waiting
        self.revision += self.open != before

    def _choose_stoppers(self) -> None:
        """Wish for a few pieces that nobody offers, so that the session sends no request to two peers.

        libtorrent does that once it has asked for all that it wishes for, and it wishes for no more than its share:
        each peer that is through with its part would ask for the others'. Here mirrors stand in for a slow peer.
        """
        layout = self._pieces.layout
        if not self._swarm.speaking or not any(mirror.alive for mirror in self.board.mirrors):
            self.stoppers = frozenset()
        elif not self.stoppers or not all(map(self._is_nobodys, self.stoppers)):
            few = max(1, limits.SHARE_FIRST_BYTES // layout.piece_bytes)
            self.stoppers = frozenset(islice(filter(self._is_nobodys, reversed(layout.tgz.pieces)), few))

    def _is_nobodys(self, piece: int) -> bool:
        return not self._pieces.has(piece) and not self._swarm.offers(piece)

    def _fill_share(self, now: float) -> None:
        """Each peer's first pieces that nobody has, up to the target."""
        offers = self._swarm.offerings()
        need = self._target() - len(self._share)
        if not offers or need <= 0:
            return
        asks = [ask for ask in self.board.asks if ask.kind is Kind.DATA and ask.left]
        busy = {piece for ask in asks for piece in self._touching(ask.left)}
        free = [piece for piece in self._pieces.layout.tgz.pieces if piece not in busy and self._is_open(piece)]
        free = [piece for piece in free if piece not in self._share and self._pieces.is_untouched(piece)]
        quota = -(-need // len(offers))
        for offer in offers:
            self._share.update(islice((piece for piece in free if piece not in self._share and offer(piece)), quota))
        if not self._share <= self._ever:
            self._filled_at = now
        self._ever |= self._share

    def _is_open(self, piece: int) -> bool:
        """Whether the session may still be asked for ``piece``."""
        return not self._pieces.has(piece) and piece not in self._failed and not self._pieces.is_covered(piece)

    def _target(self) -> int:
        """How many pieces the session shall have before it: what it has shown to take, of what is its part by speed.

        A peer that has nothing left to ask for asks for what another one is sending, so the share is no smaller than
        caution demands, and everything where no mirror has been without fault.
        """
        layout, board = self._pieces.layout, self.board
        if not any(one.hopeful for one in board.mirrors):
            return len(layout.tgz.pieces)
        left = len(layout.tgz.pieces) - self._pieces.finished_of(layout.tgz)
        trusted = min(limits.SHARE_FIRST_BYTES, layout.tgz.size // 32)
        first = max(1, len(self._swarm.offerings())) * max(2, trusted // layout.piece_bytes)
        most = max(1, limits.SHARE_BYTES // layout.piece_bytes)
        mirrored = sum(one.good for one in board.mirrors if one.alive and one.clean) * limits.CHUNK_BYTES
        gained = self._gained * layout.piece_bytes
        part = left if not mirrored else left * max(gained, mirrored // 4) // (gained + mirrored)
        return max(1, min(first + 16 * self._gained, part, most))

    def _fill_pools(self, verified: Verified) -> None:
        board, tgz = self.board, self._pieces.layout.tgz
        board.backward = bool(self._share)
        if not self._share and not self._swarm.speaking:
            pool = bytearray([MIRRORS_ONLY]) * len(verified.data)
        else:
            pool = bytearray(len(verified.data))
            free = (piece for piece in tgz.pieces if piece not in self._share and not self._pieces.has(piece))
            tiers: dict[int, list[range]] = {ANYBODY: [], LATER: [], MIRRORS_ONLY: []}
            for piece in free:
                tiers[self._tier(piece)].append(self._pieces.touched(piece))
            for tier, runs in tiers.items():  # what lies in two pieces belongs to the more urgent one
                for chunks in runs:
                    pool[chunks.start : chunks.stop] = bytes([tier]) * len(chunks)
        board.pools[Kind.DATA][:] = _only(pool, verified.data)
        board.cheapest = self._cheapest() if board.wasteful else []
        if board.wasteful:
            self._spare(board.pools[Kind.DATA], verified, range(self._pieces.layout.grid.s))
        parity = board.pools[Kind.PARITY]
        parity[:] = bytes(len(parity))
        for chunk in self._parity:
            parity[chunk] = TAKEN if verified.parity[chunk] else MIRRORS_ONLY
        for kind in Kind:
            self._keep_off(kind)

    def _keep_off(self, kind: Kind) -> None:
        """Ask nobody for what a mirror is at work on."""
        for ask in self.board.asks:
            if ask.kind is kind:
                self.board.pools[kind][ask.left.start : ask.left.stop] = bytes(len(ask.left))

    def _spare(self, pool: bytearray, verified: Verified, stripes: Iterable[int]) -> None:
        """Leave to parity what it can bring, where mirrors would send junk for a good part of it."""
        grid, m = self._pieces.layout.grid, self._pieces.layout.m
        hopes = self.board.hopes(Kind.PARITY, verified.parity)
        for stripe in stripes:
            rows, parity = pool[stripe :: grid.s], grid.parity_of(stripe, m)
            if rows.count(MIRRORS_ONLY) + rows.count(LATER) <= hopes.count(1, parity.start, parity.stop):
                pool[stripe :: grid.s] = rows.translate(_OFFERED)

    def _cheapest(self) -> list[int]:
        """Chunks of pieces that no peer offers of which a part is here, the smallest rest first."""
        costs: dict[int, int] = {}
        pieces = self._pieces
        for piece in pieces.layout.tgz.pieces:
            if not pieces.has(piece) and not self._swarm.offers(piece):
                for chunk in (pieces.touched(piece).start, pieces.touched(piece)[-1]):
                    head, tail = self._edges(range(chunk, chunk + 1))
                    if (head or tail) and not pieces.verified.data[chunk]:
                        costs[chunk] = limits.CHUNK_BYTES - head - tail
        return sorted(costs, key=costs.__getitem__)

    def _tier(self, piece: int) -> int:
        """Who shall give what is missing of a piece that is not in the share."""
        if self._swarm.offers(piece):
            return ANYBODY
        beside = (piece - 1, piece + 1)
        return LATER if any(self._comes(other) for other in beside) and not self.board.stalled else MIRRORS_ONLY

    def _comes(self, piece: int) -> bool:
        """Whether the session is going to finish ``piece``, as far as is known."""
        if piece not in self._pieces.layout.tgz.pieces or not self._share:
            return False
        return piece in self._share or (self._is_open(piece) and self._swarm.offers(piece))

    def _stalls(self, now: float) -> bool:
        """Whether the session has finished nothing of its share for ``limits.MIRROR_ROB_SECONDS``."""
        return bool(self._share) and now - max(self._gained_at, self._filled_at) > limits.MIRROR_ROB_SECONDS

    def _steal(self, now: float, most: int | None = None) -> bool:
        """Take half of the pieces that the session has not begun out of its share, from the end; ``most`` at most.

        All pieces, if it has finished none for ``limits.MIRROR_ROB_SECONDS``.
        """
        pool = self.board.pools[Kind.DATA]
        if not self._share or pool.count(TAKEN) < len(pool):
            return False
        idle = sorted(piece for piece in self._share if piece not in self._begun)
        stolen = idle[len(idle) // 2 :] if most is None else idle[-most:]
        if self._stalls(now):
            stolen = list(self._share)
        self._share.difference_update(stolen)
        self.open &= not stolen
        self.revision += bool(stolen)
        self._fill_pools(self._pieces.verified)
        return bool(stolen)

    def _was_shared(self, piece: int) -> bool:
        """Whether the session may have written to ``piece``, and will not judge it any more."""
        return piece in self._ever and piece not in self._share and not self._pieces.has(piece)

    def _touching(self, chunks: range) -> range:
        """The pieces that hold a byte of ``chunks`` of the .tgz."""
        first = self._pieces.pieces_of(Kind.DATA, chunks.start)
        return range(first.start, self._pieces.pieces_of(Kind.DATA, chunks[-1]).stop)


def _only(pool: bytearray, verified: bytearray) -> bytes:
    """``pool`` where ``verified`` is 0, else 0."""
    mask = int.from_bytes(verified.translate(_MISSING), "little")
    return (int.from_bytes(pool, "little") & mask).to_bytes(len(pool), "little")
