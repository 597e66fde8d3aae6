"""The fetch plan where disks rotted: peers that fail again and again, call back, and still hold most of the release."""

from __future__ import annotations

from libreseed import limits
from libreseed.resolve.fetch_plan import Need
from libreseed.resolve.journal import Kind
from libreseed.resolve.piece_map import Salvaged
from tests.unit.test_fetch_plan import CHUNKS, DATA, LAYOUT, ONE, TICK, TWO, Simulation

CALLED_BACK = (ONE[0], 40_000)  # the same host, from a port of its own choice


def banned_twice() -> Simulation:
    """The only peer gave ten pieces, failed, was taken back, gave ten more and failed again."""
    swarm = Simulation(range(LAYOUT.piece_count))
    swarm.look()
    for piece in [*CHUNKS, *DATA[:10]]:
        swarm.finish(piece)
    swarm.plan.piece_failed(DATA[11], swarm.now)
    swarm.plan.peer_banned(ONE, swarm.now)
    swarm.plan.readmitted([ONE], swarm.now)
    for piece in DATA[12:22]:
        swarm.finish(piece)
    swarm.plan.piece_failed(DATA[23], swarm.now)
    swarm.plan.peer_banned(ONE, swarm.now)
    del swarm.peers[ONE]
    swarm.now += TICK
    swarm.look()
    return swarm


def test_who_fails_again_soon_is_asked_for_single_chunks_and_not_taken_back() -> None:
    swarm = banned_twice()
    swarm.plan.salvaged(wants := swarm.plan.decide(swarm.now).salvage, Salvaged({}, set(wants)), swarm.now)
    decision = swarm.plan.decide(swarm.now)
    assert decision.readmit == ()
    assert {chunk for _, chunk in decision.salvage} >= set(swarm.plan.pieces.touched(DATA[30]))


def test_session_writes_nothing_where_single_chunks_are_asked_for() -> None:
    swarm = banned_twice()
    first = swarm.plan.decide(swarm.now).salvage  # what is left of the pieces that failed
    swarm.plan.salvaged(first, Salvaged({}, set(first)), swarm.now)
    wants = swarm.plan.decide(swarm.now).salvage  # all the rest
    owed = swarm.plan.owed()
    assert {kind for kind, _ in wants} == {Kind.DATA}
    assert not any(owed[piece] for wanted in wants for piece in swarm.plan.pieces.pieces_of(*wanted))


def test_banned_peer_that_calls_back_does_not_start_the_wait_anew() -> None:
    swarm = Simulation(range(LAYOUT.piece_count))
    swarm.look()
    for piece in [*CHUNKS, *DATA[:10]]:
        swarm.finish(piece)
    swarm.plan.swarm.heard_of([TWO])  # somebody without fault may be on the way
    swarm.plan.peer_banned(ONE, swarm.now)
    del swarm.peers[ONE]
    began = swarm.now
    while not (decision := swarm.plan.decide(swarm.now)).readmit:
        assert decision.need is Need.MORE
        swarm.plan.peer_banned(ONE, swarm.now)
        swarm.now += TICK
        swarm.look()
    assert swarm.now - began <= limits.FETCH_QUIET_SECONDS + 2 * TICK


def test_piece_of_which_everybody_gave_a_chunk_wrongly_is_not_hoped_for_from_who_was_banned() -> None:
    swarm = banned_twice()
    while wants := swarm.plan.decide(swarm.now).salvage:
        swarm.plan.salvaged(wants, Salvaged({}, set(wants)), swarm.now)
    swarm.peers[CALLED_BACK], swarm.sent[CALLED_BACK] = set(range(LAYOUT.piece_count)), 0
    swarm.look()
    assert not any(swarm.plan.owed()[piece] for piece in DATA)
    swarm.peers[TWO], swarm.sent[TWO] = set(range(LAYOUT.piece_count)), 0
    swarm.look()
    assert all(swarm.plan.owed()[piece] for piece in DATA if not swarm.plan.pieces.has(piece))


def test_chunk_that_was_overwritten_is_asked_for_anew_but_not_for_ever() -> None:
    swarm = Simulation(range(LAYOUT.piece_count))
    for piece in (*CHUNKS, *DATA):
        swarm.finish(piece)
    victim = swarm.plan.pieces.touched(DATA[7])[1]
    swarm.look()
    for _ in range(limits.PIECE_FAILURES - 1):
        swarm.plan.chunks_lost(Kind.DATA, [victim])
        assert swarm.plan.decide(swarm.now).salvage == ((Kind.DATA, victim),)
        swarm.plan.chunks_verified(Kind.DATA, [victim], swarm.now, by_session=False)
    swarm.plan.chunks_lost(Kind.DATA, [victim])
    assert swarm.plan.decide(swarm.now).salvage == ()
    swarm.run()  # parity gives it
    assert swarm.plan.verified.complete


def test_peers_that_answer_are_not_out_of_reach_because_others_are() -> None:
    """All that answered refuse; an address that a connection came from never does: nothing is refused for good yet."""
    swarm = banned_twice()
    for _ in range(limits.SALVAGE_ATTEMPTS + 1):
        wants = swarm.plan.decide(swarm.now).salvage
        assert wants
        swarm.plan.salvaged(wants, Salvaged({}, set(), {ONE: set(wants)}, {CALLED_BACK}), swarm.now)
