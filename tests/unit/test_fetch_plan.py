"""The fetch plan against simulated swarms, in virtual time: what it wishes for, when it decodes, when it gives up."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.errors import ContentRejected, LibreSeedError, TransportFault
from libreseed.ids import ReleaseId
from libreseed.repair.plan import Coherence, RepairPlan, Verified, plan_repair
from libreseed.resolve.fetch_plan import FetchPlan, Need
from libreseed.resolve.journal import Kind
from libreseed.resolve.piece_map import PieceMap, Salvaged
from libreseed.resolve.salvage_roster import SalvageRoster
from libreseed.resolve.swarm_view import PeerOffer
from libreseed.torrent.bitfield import pack_bitfield
from libreseed.torrent.layout import TorrentLayout

SIZE = 2_600_000  # 508 chunks in 3 stripes, 159 pieces of 16 KiB, the last of each file short
LAYOUT = TorrentLayout(ReleaseId.parse("pkg@1.0.0"), SIZE, 9)
CHUNKS, PARITY, DATA = LAYOUT.chunks.pieces, LAYOUT.parity.pieces, LAYOUT.tgz.pieces
ONE, TWO = ("127.0.0.2", 1), ("127.0.0.3", 1)
TICK = 0.25


class Simulation:
    """A session and a swarm that deliver at once what is wished and offered."""

    def __init__(self, *peers: Iterable[int], patience_s: float = 5, silence_s: float = 3) -> None:
        self.now = 100.0
        self.plan = FetchPlan(LAYOUT, patience_s=patience_s, silence_s=silence_s, now=self.now)
        self.peers = {(f"127.0.0.{number}", 1): set(pieces) for number, pieces in enumerate(peers, 2)}
        self.mute: set[tuple[str, int]] = set()
        self.failed: set[int] = set()  # pieces that no peer has in good order
        self.silenced: set[tuple[str, int]] = set()
        self.sent = dict.fromkeys(self.peers, 0)
        self.parity_fetched: list[int] = []

    def look(self) -> None:
        offers = [
            PeerOffer(
                address, pack_bitfield(piece in pieces for piece in range(LAYOUT.piece_count)), self.sent[address]
            )
            for address, pieces in self.peers.items()
        ]
        self.plan.swarm.update(offers, self.plan.owed(), self.now)
        self.silenced |= self.plan.swarm.silent

    def deliver(self) -> None:
        wishes = self.plan.priorities()
        for address, pieces in self.peers.items():
            if address in self.mute:
                continue
            for piece in sorted(pieces):
                if wishes[piece] and not self.plan.pieces.has(piece):
                    self.check_wish(piece)
                    self.sent[address] += 1
                    self.finish(piece)

    def check_wish(self, piece: int) -> None:
        if piece in PARITY:
            self.parity_fetched.append(piece)
            speaking = [pieces for address, pieces in self.peers.items() if address not in self.mute]
            on_offer = {p for pieces in speaking for p in pieces if p in DATA} - self.failed
            assert all(self.plan.pieces.has(p) for p in on_offer), "parity is fetched while data is on offer"

    def finish(self, piece: int) -> None:
        whole = self.plan.piece_done(piece, self.now)
        if whole is not None:
            kind, chunks = whole
            flags = self.plan.verified.data if kind is Kind.DATA else self.plan.verified.parity
            assert not any(flags[chunk] for chunk in chunks), "a chunk becomes whole twice"
            self.plan.chunks_verified(kind, chunks, self.now)

    def run(self, seconds: float = 60) -> None:
        """Until all data is verified; decodes as the repair would. Raises what the plan raises."""
        end = self.now + seconds
        while self.now < end:
            self.look()
            decision = self.plan.decide(self.now)
            if decision.need is Need.DONE:
                return
            if decision.need is Need.DECODE:
                plan = plan_repair(self.plan.verified)
                assert not plan.short
                self.plan.chunks_verified(Kind.DATA, self.plan.verified.missing_data(), self.now, by_session=False)
                continue
            if decision.salvage:
                self.plan.salvaged(decision.salvage, Salvaged({}, set(decision.salvage)), self.now)
                continue
            self.deliver()
            self.now += TICK
        raise AssertionError("neither done nor given up")


def reachable(*peers: Iterable[int]) -> bool:
    """Whether the union of the peers' pieces has k parts of every stripe."""
    pieces = PieceMap(LAYOUT)
    for piece in sorted({piece for each in peers for piece in each}):
        whole = pieces.finish(piece)
        if whole is not None:
            kind, chunks = whole
            flags = pieces.verified.data if kind is Kind.DATA else pieces.verified.parity
            for chunk in chunks:
                flags[chunk] = 1
    return pieces.chunk_map_done() and not plan_repair(pieces.verified).short


# --- healthy swarms ----------------------------------------------------------------------------------------------


def test_whole_seed_is_fetched_without_parity() -> None:
    swarm = Simulation(range(LAYOUT.piece_count))
    swarm.run()
    assert swarm.parity_fetched == []


def test_chunk_map_comes_first_then_data_from_its_start() -> None:
    wishes = Simulation().plan.priorities()
    assert {wishes[piece] for piece in CHUNKS} == {7}
    levels = [wishes[piece] for piece in DATA]
    assert levels == sorted(levels, reverse=True)
    assert set(levels) == {1, 2, 3, 4, 5, 6}
    assert {wishes[piece] for piece in PARITY} == {0}


def test_union_of_partial_peers_needs_no_parity() -> None:
    swarm = Simulation([*CHUNKS, *DATA[::2], *PARITY], [*DATA[1::2]])
    swarm.run()
    assert swarm.parity_fetched == []


def test_late_peer_spares_the_parity() -> None:
    """Within the quiet time after the last news nothing is given up."""
    swarm = Simulation([*CHUNKS, *DATA[10:], *PARITY])
    swarm.look()
    swarm.deliver()
    swarm.now += limits.FETCH_QUIET_SECONDS / 2
    swarm.look()
    assert swarm.plan.decide(swarm.now).need is Need.MORE
    assert not any(swarm.plan.priorities()[piece] for piece in PARITY)
    swarm.peers[TWO] = set(DATA)
    swarm.sent[TWO] = 0
    swarm.run()
    assert swarm.parity_fetched == []


# --- parity ------------------------------------------------------------------------------------------------------


def test_only_the_parity_that_the_lacking_stripes_need_is_fetched() -> None:
    lost = DATA[20]
    swarm = Simulation([*CHUNKS, *PARITY, *(piece for piece in DATA if piece != lost)])
    swarm.run()
    touched = swarm.plan.pieces.touched(lost)
    stripes = {LAYOUT.grid.stripe_of(chunk) for chunk in touched}
    needed = {
        piece
        for stripe in stripes
        for j in LAYOUT.grid.parity_of(stripe, LAYOUT.m)
        for piece in swarm.plan.pieces.pieces_of(Kind.PARITY, j)
    }
    assert swarm.parity_fetched
    assert set(swarm.parity_fetched) <= needed
    assert len(swarm.parity_fetched) < len(PARITY)


def test_too_little_is_beyond_repair_and_names_the_stripes() -> None:
    swarm = Simulation([*CHUNKS, *PARITY, *DATA[30:]])
    with pytest.raises(ContentRejected) as caught:
        swarm.run()
    assert caught.value.reason == "repair.beyond"
    assert caught.value.evidence["stripes"]


def test_every_short_stripe_is_in_the_details_however_many_there_are() -> None:
    plan = RepairPlan(Coherence(1, 256), (), {stripe: 3 for stripe in range(100)})
    with pytest.raises(ContentRejected) as caught:
        plan.require_repairable()
    assert caught.value.as_json()["details"] == [f"stripe {stripe} lacks 3" for stripe in range(100)]
    assert len(caught.value.message) < 400


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_union_that_suffices_always_finishes_and_one_that_does_not_never_does(data: st.DataObject) -> None:
    share = data.draw(st.sampled_from([0.0, 0.01, 0.03, 0.05, 0.08]), label="lost")
    draw = data.draw(st.randoms(use_true_random=False))
    count = data.draw(st.integers(1, 4), label="peers")
    offered = [piece for piece in range(LAYOUT.piece_count) if piece in CHUNKS or draw.random() >= share]
    peers: list[set[int]] = [set() for _ in range(count)]
    for piece in offered:
        for peer in draw.sample(peers, draw.randint(1, count)):
            peer.add(piece)
    swarm = Simulation(*peers)
    if reachable(*peers):
        swarm.run()
        assert swarm.plan.verified.complete
    else:
        with pytest.raises(LibreSeedError) as caught:
            swarm.run()
        assert caught.value.reason == "repair.beyond"


@given(st.permutations(list(range(LAYOUT.piece_count))))
@settings(max_examples=30, deadline=None)
def test_every_chunk_becomes_whole_once_in_any_order_of_pieces(order: list[int]) -> None:
    pieces = PieceMap(LAYOUT)
    seen: list[tuple[Kind, int]] = []
    for piece in order:
        whole = pieces.finish(piece)
        if whole is not None:
            seen += [(whole[0], chunk) for chunk in whole[1]]
            assert all(pieces.is_whole(*chunk) for chunk in seen[-len(whole[1]) :])
    assert len(seen) == len(set(seen)) == LAYOUT.grid.n + LAYOUT.grid.parity_chunks(LAYOUT.m)


# --- silence, patience, blame --------------------------------------------------------------------------------------


def test_nobody_is_source_none_after_the_patience_and_not_before() -> None:
    swarm = Simulation(patience_s=5)
    swarm.look()
    swarm.now += 4.9
    assert swarm.plan.decide(swarm.now).need is Need.MORE
    swarm.now += 0.2
    with pytest.raises(TransportFault) as caught:
        swarm.plan.decide(swarm.now)
    assert caught.value.reason == "source.none"


def test_silent_peer_stops_counting_and_the_others_finish() -> None:
    swarm = Simulation(range(LAYOUT.piece_count), [*CHUNKS, *PARITY, *DATA[3:]])
    swarm.mute = {ONE}
    swarm.run()
    assert swarm.silenced == {ONE}
    assert swarm.plan.verified.complete


def test_only_a_silent_peer_is_given_up() -> None:
    swarm = Simulation(range(LAYOUT.piece_count), patience_s=5, silence_s=3)
    swarm.mute = {ONE}
    with pytest.raises(TransportFault) as caught:
        swarm.run(20)
    assert caught.value.reason == "source.incomplete"


def test_peer_that_owes_nothing_is_not_silent() -> None:
    swarm = Simulation(CHUNKS)
    swarm.deliver()
    for _ in range(40):
        swarm.now += TICK
        swarm.look()
    assert swarm.plan.swarm.silent == frozenset()


def test_piece_that_fails_again_and_again_is_left_to_chunks_and_parity() -> None:
    swarm = Simulation([*CHUNKS, *PARITY, *DATA])
    swarm.failed = {DATA[5]}
    for _ in range(limits.PIECE_FAILURES):
        assert swarm.plan.priorities()[DATA[5]]
        swarm.plan.piece_failed(DATA[5], swarm.now)
    swarm.plan.swarm.ban(ONE, swarm.now)
    swarm.plan.swarm.forgive([ONE])  # it is back, but not without fault
    swarm.look()
    assert swarm.plan.priorities()[DATA[5]] == 0
    assert swarm.plan.take_probes() == [(Kind.DATA, swarm.plan.pieces.touched(DATA[5]))]
    swarm.run()
    assert swarm.plan.verified.complete


def test_failed_piece_is_wished_again_from_a_peer_without_fault() -> None:
    swarm = Simulation(range(LAYOUT.piece_count))
    for _ in range(limits.PIECE_FAILURES):
        swarm.plan.piece_failed(DATA[5], swarm.now)
    assert swarm.plan.priorities()[DATA[5]] == 0
    swarm.look()
    assert swarm.plan.priorities()[DATA[5]]
    for _ in range(limits.PIECE_FAILURES_MOST):
        swarm.plan.piece_failed(DATA[5], swarm.now)
    assert swarm.plan.priorities()[DATA[5]] == 0


def test_banned_peer_is_taken_back_only_if_it_gave_something_since() -> None:
    swarm = Simulation(range(LAYOUT.piece_count))
    swarm.look()
    for piece in [*CHUNKS, *DATA[:10]]:
        swarm.finish(piece)
    swarm.plan.piece_failed(DATA[11], swarm.now)
    swarm.plan.peer_banned(ONE, swarm.now)
    assert swarm.plan.decide(swarm.now).readmit == ()  # nobody has looked yet who else is there
    del swarm.peers[ONE]
    swarm.now += limits.FETCH_QUIET_SECONDS + TICK  # others may be on their way back
    swarm.look()
    assert swarm.plan.decide(swarm.now).readmit == (ONE,)
    swarm.plan.readmitted([ONE], swarm.now)
    assert swarm.plan.priorities()[DATA[11]] == 0
    swarm.plan.peer_banned(ONE, swarm.now)
    swarm.now += limits.FETCH_QUIET_SECONDS + TICK
    swarm.look()
    assert swarm.plan.decide(swarm.now).readmit == ()


# --- resume --------------------------------------------------------------------------------------------------------


def test_verified_chunks_are_never_wished_again_after_a_restart() -> None:
    """A damaged chunk in a finished piece: the piece is left to single chunks, the rest of it is kept."""
    swarm = Simulation(range(LAYOUT.piece_count))
    have = bytearray(b"\1" * LAYOUT.piece_count)
    have[DATA[7]] = 0
    verified = Verified(LAYOUT.grid, LAYOUT.m, b"\1" * LAYOUT.grid.n)
    victim = swarm.plan.pieces.touched(DATA[7])[1]
    verified.data[victim] = 0
    swarm.plan.restore(have, verified)
    swarm.look()
    assert not any(swarm.plan.owed())
    assert swarm.plan.decide(swarm.now).salvage == ((Kind.DATA, victim),)


def test_what_nobody_gives_chunk_by_chunk_is_fetched_as_a_piece() -> None:
    swarm = Simulation(range(LAYOUT.piece_count))
    have = bytearray(b"\1" * LAYOUT.piece_count)
    have[DATA[7]] = 0
    verified = Verified(LAYOUT.grid, LAYOUT.m, b"\1" * LAYOUT.grid.n)
    verified.data[swarm.plan.pieces.touched(DATA[7])[1]] = 0
    swarm.plan.restore(have, verified)
    swarm.look()
    wants = swarm.plan.decide(swarm.now).salvage
    swarm.plan.salvaged(wants, Salvaged({}, set(wants)), swarm.now)
    assert [piece for piece, wish in enumerate(swarm.plan.owed()) if wish] == [DATA[7]]


def test_complete_state_needs_no_peer() -> None:
    plan = Simulation().plan
    plan.restore(bytearray(b"\1" * LAYOUT.piece_count), Verified(LAYOUT.grid, LAYOUT.m, b"\1" * LAYOUT.grid.n))
    assert plan.decide(0.0).need is Need.DONE
    assert not plan.lacks_sources()


def test_pieces_completed_by_repair_go_back_to_the_swarm() -> None:
    lost = DATA[20]
    swarm = Simulation([*CHUNKS, *PARITY, *(piece for piece in DATA if piece != lost)])
    swarm.run()
    assert swarm.plan.pieces.completed_without_session() == [lost]


# --- claims without deeds ------------------------------------------------------------------------------------------


class Crowd(Simulation):
    """Once a second a peer nobody has seen before claims everything; none of them ever sends a byte."""

    def look(self) -> None:
        second = int(self.now)
        stranger = (f"10.0.0.{second % 250}", second)
        if stranger not in self.peers:
            self.peers[stranger] = set(range(LAYOUT.piece_count))
            self.sent[stranger] = 0
            self.mute.add(stranger)
            gone = (f"10.0.0.{(second - 2) % 250}", second - 2)
            self.peers.pop(gone, None)
        super().look()


def test_ever_new_silent_peers_do_not_keep_a_fetch_alive() -> None:
    crowd = Crowd(patience_s=5, silence_s=3)
    began = crowd.now
    with pytest.raises(TransportFault) as caught:
        crowd.run(60)
    assert caught.value.reason == "source.incomplete"
    assert crowd.now - began < 5 + 3 + 1


def test_ever_new_silent_peers_do_not_keep_a_fetch_alive_that_got_somewhere() -> None:
    crowd = Crowd([*CHUNKS, *DATA[40:]], patience_s=5, silence_s=3)
    began = crowd.now
    with pytest.raises(ContentRejected) as caught:
        crowd.run(60)
    assert caught.value.reason == "repair.beyond"
    assert crowd.now - began < 2 * (5 + 3) + 1


def test_ever_new_silent_peers_do_not_keep_parity_from_being_used() -> None:
    lost = DATA[20]
    crowd = Crowd([*CHUNKS, *PARITY, *(piece for piece in DATA if piece != lost)], patience_s=5, silence_s=3)
    crowd.check_wish = lambda _: None  # type: ignore[method-assign]  # their claims to data are what is to be ignored
    crowd.run()
    assert crowd.plan.verified.complete


def test_latecomer_that_delivers_is_waited_for() -> None:
    swarm = Simulation([*CHUNKS, *DATA[40:]], patience_s=5, silence_s=3)
    with pytest.raises(AssertionError, match="neither done nor given up"):
        swarm.run(4.5)
    swarm.peers[TWO] = set(DATA)
    swarm.sent[TWO] = 0
    swarm.mute = {TWO}
    with pytest.raises(AssertionError, match="neither done nor given up"):
        swarm.run(2)
    swarm.mute = set()
    swarm.run()
    assert swarm.plan.verified.complete


# --- single chunks: who refused, and who only gave no answer --------------------------------------------------------


def banned_with_everything_else_fetched(patience_s: float = 5) -> Simulation:
    """The only peer gave all but one stretch of pieces, then failed and was banned and may not come back."""
    swarm = Simulation([], patience_s=patience_s)
    for piece in [*CHUNKS, *DATA[40:]]:
        swarm.finish(piece)
    swarm.plan.swarm.ban(ONE, swarm.now)
    swarm.plan.readmitted([ONE], swarm.now)
    swarm.plan.readmitted([ONE], swarm.now)
    swarm.plan.peer_banned(ONE, swarm.now)
    swarm.now += limits.FETCH_QUIET_SECONDS + TICK
    swarm.look()
    return swarm


def test_address_that_does_not_answer_refuses_nothing() -> None:
    swarm = banned_with_everything_else_fetched(patience_s=15)
    for attempt in range(limits.SALVAGE_ATTEMPTS):
        wants = swarm.plan.decide(swarm.now).salvage
        assert wants
        swarm.plan.salvaged(wants, Salvaged({}, set()), swarm.now)
        pause = limits.FETCH_QUIET_SECONDS * 2**attempt  # whoever is busy gets ever more time
        swarm.now += pause - TICK
        assert swarm.plan.decide(swarm.now).salvage == ()
        swarm.now += TICK
    assert swarm.plan.decide(swarm.now).salvage == ()
    swarm.plan.source_heard(swarm.now)
    assert swarm.plan.decide(swarm.now).salvage == wants  # nothing was written off


def test_peers_out_of_reach_are_no_proof_that_it_is_beyond_repair() -> None:
    swarm = banned_with_everything_else_fetched()
    for _ in range(limits.SALVAGE_ATTEMPTS):
        swarm.plan.salvaged(swarm.plan.decide(swarm.now).salvage, Salvaged({}, set()), swarm.now)
    with pytest.raises(TransportFault) as caught:
        swarm.run()
    assert caught.value.reason == "source.incomplete"


def test_refused_by_all_that_answered_is_beyond_repair() -> None:
    swarm = banned_with_everything_else_fetched()
    with pytest.raises(ContentRejected) as caught:
        swarm.run()  # the simulation's peers refuse every single chunk
    assert caught.value.reason == "repair.beyond"


A, B, C = (Kind.DATA, 1), (Kind.DATA, 2), (Kind.PARITY, 1)


def test_roster_refuses_only_what_was_answered_and_nobody_else_can_be_asked_for() -> None:
    roster = SalvageRoster()
    assert roster.to_ask([ONE, TWO], [A, B]) == {ONE: frozenset(), TWO: frozenset()}
    roster.note(Salvaged({}, {A}, {ONE: {A}}, {TWO}))
    assert roster.refused([ONE, TWO], [A, B, C]) == set()  # TWO may still answer
    assert roster.to_ask([ONE, TWO], [A]) == {TWO: frozenset()}
    assert roster.to_ask([ONE, TWO], [A, B]) == {ONE: {A}, TWO: frozenset()}
    for _ in range(limits.SALVAGE_ATTEMPTS - 1):
        roster.note(Salvaged({}, set(), {}, {TWO}))
    assert roster.to_ask([ONE, TWO], [A]) == {}
    assert roster.refused([ONE, TWO], [A, B, C]) == {A}  # B and C: ONE has not been asked for them


def test_roster_takes_who_answers_once_more_for_alive() -> None:
    roster = SalvageRoster()
    for _ in range(2 * limits.SALVAGE_ATTEMPTS):
        roster.note(Salvaged({}, set(), {}, {ONE}))
        roster.note(Salvaged({}, set(), {ONE: set()}, set()))
    assert roster.to_ask([ONE], [A]) == {ONE: frozenset()}


def test_roster_bounds_how_many_addresses_are_called() -> None:
    crowd = [(f"10.0.{n // 250}.{n % 250}", 9) for n in range(2 * limits.SALVAGE_ADDRESSES)]
    assert list(SalvageRoster().to_ask([ONE, *crowd], [A])) == [ONE, *crowd][: limits.SALVAGE_ADDRESSES]
