"""Who is asked for which chunks over HTTP, without any HTTP: simulated mirrors, a clock that is a number."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.ids import ReleaseId
from libreseed.resolve.fetch_plan import FetchPlan, Need
from libreseed.resolve.journal import Kind
from libreseed.resolve.mirror_board import ANYBODY, LATER, MIRRORS_ONLY, Ask, MirrorBoard
from libreseed.resolve.mirror_score import MirrorScore
from libreseed.resolve.piece_map import PieceMap
from libreseed.resolve.source_mix import SourceMix
from libreseed.resolve.swarm_view import PeerOffer, SwarmView
from libreseed.torrent.bitfield import pack_bitfield
from libreseed.torrent.layout import TorrentLayout

RELEASE = ReleaseId.parse("sample@1.0.0")


def board_of(mirrors: int, chunks: int) -> MirrorBoard:
    board = MirrorBoard([f"http://m{number}" for number in range(mirrors)], (chunks, 10))
    board.pools[Kind.DATA][:] = bytes([MIRRORS_ONLY]) * chunks
    return board


def answer(board: MirrorBoard, ask: Ask, holds: set[int], now: float) -> list[int]:
    """The mirror answers with what it holds and junk for the rest; returns the good chunks."""
    good: list[int] = []
    while ask.left:
        chunk = ask.left[0]
        flag = chunk in holds
        good += [chunk] if flag else []
        if not board.arrived(ask, bytes([flag])):
            break
    board.ended(ask, now)
    return good


def run(board: MirrorBoard, holdings: list[set[int]], missing: set[int]) -> int:
    """Let all mirrors answer in turn until nobody is able; returns how many chunks were sent."""
    sent, now = 0, 0.0
    pool = board.pools[Kind.DATA]
    for _ in range(10_000):
        now += 1.0
        pool[:] = bytes(MIRRORS_ONLY if chunk in missing else 0 for chunk in range(len(pool)))
        if not missing or not board.able(now):
            return sent
        for mirror, holds in zip(board.mirrors, holdings, strict=True):
            pool[:] = bytes(MIRRORS_ONLY if chunk in missing else 0 for chunk in range(len(pool)))
            ask = board.next(mirror, now)
            if ask is not None and ask.kind is Kind.DATA:
                missing -= set(answer(board, ask, holds, now))
                sent += ask.done
    raise AssertionError("it does not end")


def test_requests_grow_while_everything_verifies_and_never_overlap() -> None:
    board = board_of(1, 40_000)
    lengths, seen = [], set[int]()
    for now in range(12):
        ask = board.next(board.mirrors[0], float(now))
        assert ask is not None
        assert seen.isdisjoint(ask.chunks)
        seen.update(ask.chunks)
        lengths.append(len(ask.chunks))
        board.arrived(ask, b"\1" * len(ask.chunks))
        board.ended(ask, now + 0.001)
    assert lengths[0] == limits.MIRROR_FIRST_CHUNKS
    assert lengths[:6] == sorted(lengths[:6])
    assert max(lengths) > 16 * limits.MIRROR_FIRST_CHUNKS


def test_a_mirror_has_one_request_until_it_has_proven_itself() -> None:
    board = board_of(1, 4000)
    mirror = board.mirrors[0]
    first = board.next(mirror, 0.0)
    assert first is not None
    assert board.next(mirror, 0.0) is None
    board.arrived(first, b"\1" * len(first.chunks))
    board.ended(first, 1.0)
    more = [board.next(mirror, 1.0) for _ in range(limits.MIRROR_CONNECTIONS + 1)]
    assert sum(ask is not None for ask in more) == limits.MIRROR_CONNECTIONS


def test_a_liar_is_dropped_after_a_few_chunks() -> None:
    board = board_of(1, 4000)
    assert run(board, [set()], set(range(4000))) <= limits.MIRROR_BAD_CHUNKS + limits.MIRROR_FIRST_CHUNKS
    assert board.mirrors[0].reason == "source.mirror-lies"


def test_good_parts_of_a_damaged_copy_are_found_for_few_wasted_bytes() -> None:
    chunks = 4000
    holds = set(range(1500)) | set(range(2500, 3600))
    board = board_of(1, chunks)
    missing = set(range(chunks))
    sent = run(board, [holds], missing)
    assert holds.isdisjoint(missing)
    # What it lacks is tried once at the end, chunk by chunk, since nobody else is there; no chunk is tried twice.
    assert sent <= chunks


def test_two_halves_are_joined_with_little_waste() -> None:
    chunks = 4000
    missing = set(range(chunks))
    sent = run(board_of(2, chunks), [set(range(2200)), set(range(1800, chunks))], missing)
    assert not missing
    assert sent < 1.03 * chunks


def test_what_a_mirror_refuses_is_not_asked_of_it_again() -> None:
    board = board_of(1, 200)
    mirror, lacks, refused = board.mirrors[0], set(range(50, 60)), list[int]()
    for now in range(1000):
        ask = board.next(mirror, float(now))
        if ask is None:
            break
        if lacks.isdisjoint(ask.chunks):
            board.arrived(ask, b"\1" * len(ask.chunks))
            board.ended(ask, now + 0.1)
            continue
        if len(ask.chunks) == 1:
            refused += ask.chunks
        board.refused(ask, float(now))
        board.pools[Kind.DATA][ask.chunks.start : ask.chunks.stop] = bytes([MIRRORS_ONLY]) * len(ask.chunks)
    assert sorted(refused) == sorted(lacks)
    assert mirror.alive
    assert board.wasted == 0


def test_a_mirror_that_asks_for_rest_gets_it_a_few_times() -> None:
    board = board_of(1, 200)
    mirror, now, rests = board.mirrors[0], 0.0, 0
    while mirror.alive:
        ask = board.next(mirror, now)
        if ask is None:
            rests += 1
            assert mirror.ready_at <= now + limits.MIRROR_PAUSE_SECONDS
            now = mirror.ready_at
            continue
        board.refused(ask, now, 3600.0)
    assert 0 < rests <= limits.MIRROR_REFUSALS
    assert mirror.reason == "source.mirror-lacks"


def test_faults_in_a_row_end_a_mirror_and_good_chunks_forgive_them() -> None:
    score = MirrorScore("http://m")
    for now in range(limits.MIRROR_STRIKES - 1):
        score.failed("http.cut-off", "broke off", float(now))
    score.took(Kind.DATA, 1, 0)
    for now in range(limits.MIRROR_STRIKES - 1):
        score.failed("http.cut-off", "broke off", float(now))
    assert score.alive
    score.failed("http.cut-off", "broke off", 9.0)
    assert (score.reason, score.why) == ("http.cut-off", "broke off")


@pytest.mark.parametrize("reason", ["http.certificate", "http.encoding", "http.redirect"])
def test_what_no_second_try_mends_ends_it_at_once(reason: str) -> None:
    score = MirrorScore("http://m")
    score.failed(reason, "x", 0.0)
    assert score.reason == reason


def test_an_idle_mirror_takes_over_from_a_slow_one() -> None:
    board = board_of(2, 64)
    quick, slow = board.mirrors
    quick.took(Kind.DATA, 4, 0)
    quick.rate = 1e6
    ask = board.next(slow, 0.0)
    assert ask is not None
    board.pools[Kind.DATA][:] = bytes(64)
    assert board.rob(quick, limits.MIRROR_ROB_SECONDS / 2) is None
    assert board.rob(quick, 3.0) is ask
    assert ask.robbed
    assert slow.ready_at > 3.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(20, 400))
def test_all_that_any_mirror_holds_is_found(seed: int, mirrors: int, chunks: int) -> None:
    """Whatever is damaged where: every chunk that somebody who was not dropped holds comes, and it ends."""
    draw = random.Random(seed)
    holdings = [set(draw.sample(range(chunks), draw.randint(chunks // 3, chunks))) for _ in range(mirrors)]
    board, missing = board_of(mirrors, chunks), set(range(chunks))
    run(board, holdings, missing)
    alive = [holds for mirror, holds in zip(board.mirrors, holdings, strict=True) if mirror.alive]
    assert missing.isdisjoint(set().union(*alive))


# --- beside the swarm ------------------------------------------------------------------------------------------------


class Mixed:
    """A mix over a layout, with peers that hold ``offers`` of the .tgz's pieces."""

    def __init__(self, size: int, mirrors: int = 1) -> None:
        self.layout = TorrentLayout(RELEASE, size, 12)
        self.pieces = PieceMap(self.layout)
        self.swarm = SwarmView(self.layout.piece_count, 5)
        self.mix = SourceMix([f"http://m{number}" for number in range(mirrors)], self.pieces, self.swarm)

    def peer(self, name: str, held: set[int]) -> PeerOffer:
        return PeerOffer((name, 1), pack_bitfield(piece in held for piece in range(self.layout.piece_count)), 0)

    def shared(self) -> set[int]:
        return {piece for piece in self.layout.tgz.pieces if self.mix.allows(piece)}


def test_a_piece_is_the_swarms_or_the_mirrors_never_both() -> None:
    it = Mixed(8_000_000)
    held = set(list(it.layout.tgz.pieces)[::2])
    it.swarm.update([it.peer("a", held)], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    share, pool = it.shared(), it.mix.board.pools[Kind.DATA]
    assert share
    assert share <= held
    for piece in share:
        inner = list(it.pieces.touched(piece))[1:-1]
        assert not any(pool[chunk] for chunk in inner)
    for piece in set(it.layout.tgz.pieces) - share:
        assert all(pool[chunk] for chunk in it.pieces.touched(piece))


def test_mirrors_begin_with_what_no_peer_offers() -> None:
    it = Mixed(8_000_000)
    pieces = list(it.layout.tgz.pieces)
    it.swarm.update([it.peer("a", set(pieces) - set(pieces[100:110]))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    ask = it.mix.next(it.mix.board.mirrors[0], 1.0)
    assert ask is not None
    assert set(ask.chunks) <= {chunk for piece in pieces[100:110] for chunk in it.pieces.touched(piece)}


def test_the_share_grows_with_what_the_swarm_delivers() -> None:
    it = Mixed(40_000_000)
    it.swarm.update([it.peer("a", set(it.layout.tgz.pieces))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    first = it.shared()
    for piece in sorted(first):
        it.pieces.finish(piece)
        it.mix.session_finished(piece, 2.0)
    assert len(it.shared()) > len(first)


def test_without_a_mirror_the_swarm_may_fetch_everything() -> None:
    it = Mixed(8_000_000)
    it.swarm.update([it.peer("a", set(it.layout.tgz.pieces))], [0] * it.layout.piece_count, 1.0)
    it.mix.board.mirrors[0].drop("http.unreachable", "x")
    it.mix.update(1.0)
    assert it.shared() == set(it.layout.tgz.pieces)


def test_pieces_of_peers_that_leave_go_back_to_the_mirrors() -> None:
    it = Mixed(8_000_000)
    it.swarm.update([it.peer("a", set(it.layout.tgz.pieces))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    it.swarm.update([], [0] * it.layout.piece_count, 2.0)
    it.mix.update(2.0)
    assert it.mix.board.pools[Kind.DATA].count(MIRRORS_ONLY) == it.layout.grid.n


def test_a_failed_piece_goes_to_the_mirrors() -> None:
    it = Mixed(8_000_000)
    it.swarm.update([it.peer("a", set(it.layout.tgz.pieces))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    piece = min(it.shared())
    it.mix.session_failed(piece, 1.5)
    assert piece not in it.shared()
    assert all(it.mix.board.pools[Kind.DATA][chunk] in (MIRRORS_ONLY, ANYBODY) for chunk in it.pieces.touched(piece))


def test_a_plan_with_mirrors_ends_only_when_they_are_through() -> None:
    layout = TorrentLayout(RELEASE, 600_000, 12)
    plan = FetchPlan(layout, patience_s=5, silence_s=3, now=0.0, mirrors=["http://m"])
    for piece in layout.chunks.pieces:
        plan.piece_done(piece, 0.0)
    mix = plan.mix
    assert mix is not None
    mix.update(0.0)
    now = 100.0  # long past any patience: a mirror that may give something counts
    assert plan.decide(now).need is Need.MORE
    while (ask := mix.next(mix.board.mirrors[0], now)) is not None:
        mix.board.arrived(ask, b"\1" * len(ask.chunks))
        plan.chunks_verified(ask.kind, ask.chunks, now)
        mix.board.ended(ask, now)
        mix.ended(ask, now)
        now += 1
    assert plan.decide(now).need is Need.DONE


def test_peers_are_asked_for_the_chunk_map_only_once_mirrors_had_a_moment() -> None:
    layout = TorrentLayout(RELEASE, 600_000, 12)
    plan = FetchPlan(layout, patience_s=5, silence_s=3, now=0.0, mirrors=["http://m"])
    assert plan.mix is not None
    plan.mix.opens()
    before = plan.revision
    assert not any(plan.priorities())
    plan.mix.hastens()
    assert plan.revision != before
    assert all(plan.priorities()[piece] for piece in layout.chunks.pieces)
    for piece in layout.chunks.pieces:
        plan.piece_done(piece, 1.0)
    plan.mix.opened()
    assert not any(plan.priorities()[piece] for piece in layout.chunks.pieces)  # the session may not know it yet


def test_a_few_pieces_that_nobody_offers_are_wished_for_beside_the_share() -> None:
    """So the session never has asked for all that it wishes for: then it would ask two peers for the same blocks."""
    layout = TorrentLayout(RELEASE, 8_000_000, 12)
    plan = FetchPlan(layout, patience_s=5, silence_s=3, now=0.0, mirrors=["http://m"])
    mix, pieces = plan.mix, list(layout.tgz.pieces)
    assert mix is not None
    for piece in layout.chunks.pieces:
        plan.piece_done(piece, 0.0)

    def besides(held: list[int]) -> set[int]:
        flags = set(held)
        have = pack_bitfield(piece in flags for piece in range(layout.piece_count))
        plan.swarm.update([PeerOffer(("a", 1), have, 0)], plan.owed(), 1.0)
        assert mix is not None
        mix.update(1.0)
        return {piece for piece, wish in enumerate(plan.priorities()) if wish and not mix.allows(piece)}

    few = limits.SHARE_FIRST_BYTES // layout.piece_bytes
    assert len(besides(pieces[:-100])) == few
    assert besides(pieces[:-2]) == set(pieces[-2:])
    chunks = layout.grid.chunks_in((pieces[-1] - pieces[0]) * layout.piece_bytes, layout.piece_bytes)
    plan.chunks_verified(Kind.DATA, chunks, 1.0)
    assert plan.pieces.completed_without_session() == [pieces[-1]]
    assert not plan.to_give()  # the session would not have it to wish for any more
    before = plan.revision
    assert besides([*pieces[:-2], pieces[-1]]) == {pieces[-2]}
    assert plan.revision != before
    assert plan.to_give() == [pieces[-1]]
    mix.board.mirrors[0].drop("http.unreachable", "x")  # nobody stands in for a slow peer any more
    besides(pieces[:-2])
    assert not mix.stoppers


@pytest.mark.parametrize("writes", ["before", "after"])
def test_a_block_for_a_piece_that_nobody_offered_is_not_trusted_beside_a_mirrors_chunks(writes: str) -> None:
    """A new peer offers just that piece, sends one false block of it and leaves: no piece fails, nobody is banned."""
    it = Mixed(8_000_000)
    pieces = list(it.layout.tgz.pieces)
    it.swarm.update([it.peer("a", set(pieces[:-100]))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    piece = max(it.mix.stoppers)
    whole = it.pieces.touched(piece)
    if writes == "before":
        it.mix.begun([piece])
        assert not it.mix.crossed
    while it.pieces.verified.data.find(0, whole.start, whole.stop) >= 0:
        ask = it.mix.next(it.mix.board.mirrors[0], 1.0)
        assert ask is not None
        it.mix.board.arrived(ask, b"\1" * len(ask.chunks))
        it.pieces.verified.data[ask.chunks.start : ask.chunks.stop] = b"\1" * len(ask.chunks)
        it.mix.board.ended(ask, 1.0)
        it.mix.ended(ask, 1.0)
    if writes == "after":
        assert not it.mix.crossed
        it.mix.begun([piece])
    assert it.mix.crossed


def test_a_piece_of_its_share_that_the_session_has_begun_crosses_nothing() -> None:
    it = Mixed(8_000_000)
    it.swarm.update([it.peer("a", set(it.layout.tgz.pieces))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    it.mix.begun(it.shared())
    assert it.mix.next(it.mix.board.mirrors[0], 1.0) is not None
    it.mix.begun(it.shared())
    assert not it.mix.crossed


def test_a_chunk_that_another_mirror_is_sending_is_asked_of_no_third_one() -> None:
    """One that gave it wrongly ends its answer a moment after all was shared out anew."""
    it = Mixed(8_000_000, 3)
    it.mix.update(1.0)
    liar, other, third = it.mix.board.mirrors
    wrong = it.mix.next(liar, 1.0)
    assert wrong is not None
    it.mix.board.arrived(wrong, bytes(2))
    it.mix.update(1.1)
    mended = it.mix.next(other, 1.1)
    assert mended is not None
    assert mended.chunks.start == wrong.chunks.start
    it.mix.board.ended(wrong, 1.1)
    it.mix.ended(wrong, 1.1)
    asked = it.mix.next(third, 1.1)
    assert asked is not None
    assert set(asked.chunks).isdisjoint(mended.chunks)


def alternating(mirrors: int = 1) -> tuple[Mixed, list[int]]:
    """A mix beside one peer that offers every other piece; the .tgz's pieces."""
    it = Mixed(8_000_000, mirrors)
    pieces = list(it.layout.tgz.pieces)
    it.swarm.update([it.peer("a", set(pieces[::2]))], [0] * it.layout.piece_count, 1.0)
    it.mix.update(1.0)
    return it, pieces


def test_a_mirror_is_not_asked_for_bytes_that_the_session_has_finished() -> None:
    it, pieces = alternating()
    lone, size = pieces[1], it.layout.piece_bytes
    for piece in pieces[::2]:
        it.pieces.finish(piece)
        it.mix.session_finished(piece, 1.5)
        whole = range(it.pieces.touched(piece).start + 1, it.pieces.touched(piece).stop - 1)
        it.pieces.verified.data[whole.start : whole.stop] = b"\1" * len(whole)
    it.mix.update(1.5)
    ask = it.mix.next(it.mix.board.mirrors[0], 1.5)
    assert ask is not None
    assert ask.chunks.start == it.pieces.touched(lone).start
    assert ask.chunks.start * limits.CHUNK_BYTES + ask.head == size
    stop = ask.chunks.stop * limits.CHUNK_BYTES - ask.tail
    assert stop == 2 * size if ask.tail else stop < 2 * size


def test_a_chunk_across_two_pieces_that_are_here_and_unjudged_is_never_asked_for_as_no_bytes() -> None:
    """Its peers left before it was judged, or it was found wrong. A request for no bytes is refused, or answered with
    all: for that the mirror counted as lacking the chunk, or was dropped."""
    it = Mixed(8_000_000)
    first, second = list(it.layout.tgz.pieces)[:2]
    across = it.pieces.touched(first)[-1]
    assert across == it.pieces.touched(second).start
    for piece in (first, second):
        it.pieces.finish(piece)
        it.mix.session_finished(piece, 1.0)
    it.pieces.verified.data[:] = b"\1" * it.layout.grid.n
    it.pieces.verified.data[across] = 0
    it.mix.update(1.5)
    ask = it.mix.next(it.mix.board.mirrors[0], 1.5)
    assert ask is not None
    assert ask.chunks == range(across, across + 1)
    assert (ask.head, ask.tail) == (0, 0)


def test_a_proven_mirror_leaves_pieces_between_the_sessions_for_later() -> None:
    it, pieces = alternating()
    mirror = it.mix.board.mirrors[0]
    mirror.took(Kind.DATA, 100, 0)
    pool = it.mix.board.pools[Kind.DATA]
    assert LATER in pool
    ask = it.mix.next(mirror, 1.0)
    assert ask is not None
    first = it.pieces.touched(pieces[-2 if len(pieces) % 2 else -1])  # peers offer this one; none is being fetched yet
    assert ask.chunks.stop >= first.start


def test_what_waits_for_the_session_is_taken_once_that_stalls() -> None:
    it, _ = alternating()
    board = it.mix.board
    board.mirrors[0].took(Kind.DATA, 10, 5)
    assert board.mirrors[0].patchy
    it.mix.update(1.1)
    assert it.mix.next(board.mirrors[0], 1.1) is None
    it.mix.update(1.2 + limits.MIRROR_ROB_SECONDS)
    assert LATER not in board.pools[Kind.DATA]
    assert it.mix.next(board.mirrors[0], 1.2 + limits.MIRROR_ROB_SECONDS) is not None


def test_a_patchy_mirror_takes_nothing_that_peers_offer_and_the_session_has_it_all() -> None:
    it = Mixed(8_000_000)
    pieces = list(it.layout.tgz.pieces)
    it.swarm.update([it.peer("a", set(pieces))], [0] * it.layout.piece_count, 1.0)
    mirror = it.mix.board.mirrors[0]
    mirror.took(Kind.DATA, 10, 5)
    mirror.tried(1.0)
    it.mix.update(1.0)
    assert it.shared() == set(pieces)
    assert it.mix.next(mirror, 1.1) is None
    piece = min(pieces)
    it.pieces.finish(piece)
    it.mix.session_finished(piece, mirror.try_at)
    ask = it.mix.next(mirror, mirror.try_at)  # it may have come to better parts
    assert ask is not None
    assert len(it.shared()) == len(pieces) - 2
    assert mirror.try_at > 2 * limits.MIRROR_ROB_SECONDS


def test_parity_brings_what_it_can_where_mirrors_send_junk() -> None:
    """It costs as much as a chunk that is right, and mirrors that send junk cost more for each."""
    it, pieces = alternating(2)
    for mirror in it.mix.board.mirrors:
        mirror.took(Kind.DATA, 10, 5)
    grid, pool = it.layout.grid, it.mix.board.pools[Kind.DATA]
    it.pieces.verified.data[:] = b"\1" * grid.n
    lacking = [chunk for piece in pieces[1::2] for chunk in it.pieces.touched(piece)][: grid.s * 30]
    for chunk in lacking:
        it.pieces.verified.data[chunk] = 0
    it.mix.update(1.1)
    assert any(pool)
    by_stripe = [[chunk for chunk in sorted(set(lacking)) if chunk % grid.s == stripe] for stripe in range(grid.s)]
    for chunks in by_stripe:
        for chunk in chunks[it.layout.m :]:
            it.pieces.verified.data[chunk] = 1
    it.mix.update(1.2)
    assert not any(pool)
    board = it.mix.board
    board.mirrors[1].drop("http.cut-off", "x")
    board.pools[Kind.PARITY][:] = bytes([MIRRORS_ONLY]) * len(board.pools[Kind.PARITY])
    ask = board.next(board.mirrors[0], 1.2)
    assert ask is not None
    assert ask.kind is Kind.PARITY
    board.arrived(ask, bytes(1))  # junk, too: one chunk less can be hoped for
    board.ended(ask, 1.3)
    it.mix.update(1.3)
    assert any(pool)


def test_of_chunks_that_may_be_junk_the_cheapest_are_asked_for_first() -> None:
    it, pieces = alternating()
    mirror = it.mix.board.mirrors[0]
    mirror.took(Kind.DATA, 10, 5)
    for piece in pieces[::2]:
        it.pieces.finish(piece)
        it.mix.session_finished(piece, 1.5)
    it.mix.update(1.5)
    costs = []
    for _ in range(20):
        ask = it.mix.next(mirror, 1.5)
        assert ask is not None
        costs.append(len(ask.chunks) * limits.CHUNK_BYTES - ask.head - ask.tail)
        it.mix.board.arrived(ask, b"\1")
        it.pieces.verified.data[ask.chunks.start] = 1
        it.mix.board.ended(ask, 1.5)
        it.mix.board.mirrors[0].holds = 0.5
        it.mix.update(1.5)
    assert costs == sorted(costs)
    assert costs[0] == 1024


def test_a_mirror_becomes_patchy_soon_and_whole_again_after_a_while() -> None:
    score = MirrorScore("http://m")
    score.took(Kind.DATA, 1000, 2)
    assert not score.patchy
    score.took(Kind.DATA, 0, 4)
    assert score.patchy
    score.took(Kind.PARITY, 1000, 0)  # says nothing about the other file
    assert score.patchy
    score.took(Kind.DATA, 30, 0)
    assert not score.patchy
    for _ in range(3):
        score.lacked(Kind.DATA, 1, 0.0, 0.0)
    assert score.patchy


def test_a_mirror_that_sends_junk_is_tried_with_bytes_that_are_here() -> None:
    it, pieces = alternating()
    mix, mirror = it.mix, it.mix.board.mirrors[0]
    for piece in pieces[::2]:
        it.pieces.finish(piece)
        mix.session_finished(piece, 1.5)
    mix.update(1.5)
    mirror.took(Kind.DATA, 10, 5)
    mix.update(1.6)
    first = mix.next(mirror, 1.6)
    assert first is not None
    assert first.sample
    mix.board.compared(first, same=True)
    mix.board.ended(first, 1.6)
    mix.ended(first, 1.6)
    again = mix.next(mirror, 1.6)
    assert again is not None
    assert (again.chunks, again.sample) == (first.chunks, False)
    mix.board.arrived(again, b"\1")
    it.pieces.verified.data[again.chunks.start] = 1
    mix.board.ended(again, 1.7)
    mix.ended(again, 1.7)
    mirror.holds = 0.5
    wrong = mix.next(mirror, 1.7)
    assert wrong is not None
    assert wrong.sample
    bad = mirror.bad
    mix.board.compared(wrong, same=False)
    mix.board.ended(wrong, 1.8)
    mix.ended(wrong, 1.8)
    assert mirror.bad == bad + 1
    assert not mix.board.may_hold(Kind.DATA, wrong.chunks.start)


def test_what_an_ask_did_not_bring_waits_again_before_all_is_shared_out_anew() -> None:
    it, _ = alternating()
    mix, mirror = it.mix, it.mix.board.mirrors[0]
    ask = mix.next(mirror, 1.0)
    assert ask is not None
    assert len(ask.chunks) > 1
    tier = ask.tier
    mix.board.arrived(ask, b"\1")
    it.pieces.verified.data[ask.chunks.start] = 1
    mix.board.ended(ask, 1.0)
    mix.ended(ask, 1.0 + limits.MIX_SECONDS / 2)
    pool = mix.board.pools[Kind.DATA]
    assert not pool[ask.chunks.start]
    assert all(pool[chunk] == tier for chunk in ask.chunks[1:])


def test_what_may_be_hoped_for_is_here_or_not_known_to_lack_everywhere() -> None:
    board = board_of(3, 200)
    board.mirrors[2].drop("http.unreachable", "x")
    board._lacking(board.mirrors[0], Kind.PARITY)[:4] = b"\1" * 4
    board._lacking(board.mirrors[1], Kind.PARITY)[2:6] = b"\1" * 4
    here = bytearray(10)
    here[3] = 1
    assert list(board.hopes(Kind.PARITY, here)) == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    for mirror in board.mirrors:
        mirror.drop("http.unreachable", "x")
    assert list(board.hopes(Kind.PARITY, here)) == list(here)


def test_the_last_chunk_that_mirrors_cannot_give_opens_everything_at_once() -> None:
    """Where no swarm is, nobody else would share out anew."""
    it = Mixed(600_000)
    mix, mirror = it.mix, it.mix.board.mirrors[0]
    it.pieces.verified.data[:] = b"\1" * it.layout.grid.n
    it.pieces.verified.data[7] = 0
    mirror.took(Kind.DATA, 100, 0)
    mix.update(1.0)
    ask = mix.next(mirror, 1.0)
    assert ask is not None
    assert ask.chunks == range(7, 8)
    mix.board.arrived(ask, bytes(1))
    mix.board.ended(ask, 1.0)
    mix.ended(ask, 1.0 + limits.MIX_SECONDS / 2)
    assert mix.open
    assert not mix.able(1.1)


def test_a_long_gap_is_no_worse_than_a_short_one() -> None:
    """Beside it all may be good; a mirror that lacks a chunk here and there leaves most pieces incomplete."""
    gap, scattered = MirrorScore("http://gap"), MirrorScore("http://scattered")
    for mirror in (gap, scattered):
        mirror.took(Kind.DATA, 100, 0)
    gap.took(Kind.DATA, 0, 200, gaps=1)
    assert gap.patchy  # for the moment
    assert gap.hopeful
    for _ in range(4):
        scattered.took(Kind.DATA, 1, 0)
        scattered.took(Kind.DATA, 0, 1)
    assert scattered.patchy
    assert not scattered.hopeful
    gap.took(Kind.DATA, 1, 0)
    assert not gap.patchy
    gap.took(Kind.DATA, 0, limits.MIRROR_BAD_RUN, gaps=0)
    for now in range(limits.MIRROR_TRIES):
        gap.tried(float(now))
    assert not gap.hopeful
    gap.drop("http.unreachable", "x")
    assert not gap.hopeful


def test_the_board_counts_gaps_across_answers() -> None:
    board = board_of(1, 400)
    mirror = board.mirrors[0]
    ask = board.next(mirror, 0.0)
    assert ask is not None
    board.arrived(ask, b"\1\0")
    once = mirror.holds
    board.arrived(ask, b"\0\0")  # the same gap
    assert mirror.holds == once
