"""A lookup's decisions: paths that do not mix, one node per network, slow and dead candidates, the fall-back."""

from __future__ import annotations

import pytest

from libreseed import limits
from libreseed.dht import krpc, requests
from libreseed.dht.addresses import Endpoint, NodeInfo
from libreseed.dht.lookup import PATH_WIDTH, PATHS, Candidate, Lookup, State
from libreseed.dht.node import Finished
from libreseed.dht.nodeid import id_for_address
from libreseed.testing.network import DatagramNetwork, address_of
from tests.unit.dht.dht_support import KEY, SALT, item, machine, respond

TARGET = b"\0" * 20
OWN = b"\xff" * 20


def _id(distance: int) -> bytes:
    return distance.to_bytes(20, "big")


def _seeds(count: int, first: int = 1000) -> list[tuple[bytes | None, Endpoint]]:
    return [(_id(first + number), address_of(number)) for number in range(count)]


def _info(distance: int, number: int) -> NodeInfo:
    return NodeInfo(_id(distance), address_of(number))


def _answer_all(lookup: Lookup, chosen: list[Candidate]) -> None:
    for candidate in chosen:
        assert candidate.node_id is not None
        lookup.answered(candidate, candidate.node_id, [])


def test_every_path_has_its_own_seeds_and_its_own_width() -> None:
    lookup = Lookup(TARGET, OWN, _seeds(20))
    chosen = lookup.take()
    assert len(chosen) == PATHS * PATH_WIDTH
    assert {candidate.path for candidate in chosen} == set(range(PATHS))
    assert lookup.take() == []


def test_what_a_lying_node_names_stays_on_its_path() -> None:
    """Two honest paths go on to the honest nearest node although the third is flooded with nearer inventions."""
    lookup = Lookup(TARGET, OWN, _seeds(6))
    chosen = lookup.take()
    liar = chosen[0]
    lookup.answered(liar, _id(1000), [_info(number + 1, 100 + number) for number in range(32)])
    honest = next(candidate for candidate in chosen if candidate.path != liar.path)
    assert honest.node_id is not None
    lookup.answered(honest, honest.node_id, [_info(500, 400)])
    following = lookup.take()
    asked = {candidate.path for candidate in following if candidate.distance < 500}
    assert asked == {liar.path}
    assert [candidate.path for candidate in following if candidate.distance == 500] == [honest.path]


def test_one_network_is_asked_once_unless_its_node_is_dead() -> None:
    near: Endpoint = ("203.0.113.1", 1)
    other: Endpoint = ("203.0.113.2", 1)
    lookup = Lookup(TARGET, OWN, [(_id(1), near), (_id(2), other)], paths=1)
    [first] = lookup.take()
    assert first.endpoint == near
    lookup.failed(first)
    [second] = lookup.take()
    assert second.endpoint == other
    lookup.answered(second, _id(2), [NodeInfo(_id(3), ("203.0.113.3", 1))])
    assert lookup.take() == []
    assert lookup.converged()


def test_nodes_on_loopback_are_not_one_network() -> None:
    lookup = Lookup(TARGET, OWN, [(_id(1), ("127.0.0.1", 1)), (_id(2), ("127.0.0.1", 2))])
    assert len(lookup.take()) == 2


def test_a_slow_candidate_gives_its_place_to_another_and_may_still_answer() -> None:
    lookup = Lookup(TARGET, OWN, _seeds(9), paths=1)
    chosen = lookup.take()
    assert len(chosen) == PATH_WIDTH
    lookup.slow(chosen[0])
    assert len(lookup.take()) == 1
    lookup.answered(chosen[0], _id(1000), [])
    assert chosen[0].state is State.OK
    assert lookup.take() == []  # its place was given back already


def test_an_impatient_asker_does_not_wait_for_slow_candidates() -> None:
    lookup = Lookup(TARGET, OWN, _seeds(2), paths=1)
    slow, quick = lookup.take()
    lookup.slow(slow)
    _answer_all(lookup, [quick])
    assert not lookup.converged()
    assert lookup.converged(patient=False)
    lookup.failed(slow)
    assert lookup.converged()


def test_a_miss_is_one_only_after_the_nearest_of_all_paths_were_asked() -> None:
    lookup = Lookup(TARGET, OWN, _seeds(40), paths=1)
    asked = 0
    while chosen := lookup.take():
        asked += len(chosen)
        _answer_all(lookup, chosen)
    assert asked == 20
    assert lookup.converged()
    assert [candidate.distance for candidate in lookup.answerers(4)][:3] == [1000, 1001, 1002]


def test_the_reserve_is_asked_when_no_seed_answers() -> None:
    spare: Endpoint = ("198.51.100.7", 1)
    lookup = Lookup(TARGET, OWN, _seeds(2), reserve=[spare])
    for candidate in lookup.take():
        lookup.failed(candidate)
    assert not lookup.converged()
    [fallback] = lookup.take()
    assert fallback.endpoint == spare
    lookup.answered(fallback, _id(7), [])
    assert lookup.converged()
    assert lookup.answerers(4) == [fallback]


def test_paths_without_anybody_are_given_some_of_what_the_first_answer_names() -> None:
    lookup = Lookup(TARGET, OWN, [(None, ("198.51.100.1", 1))])
    [bootstrap] = lookup.take()
    lookup.answered(bootstrap, _id(10**6), [_info(100 + number, number) for number in range(9)])
    assert {candidate.path for candidate in lookup.take()} == set(range(PATHS))


def test_we_never_ask_ourselves() -> None:
    lookup = Lookup(TARGET, OWN, _seeds(1))
    [seed] = lookup.take()
    lookup.answered(seed, _id(1000), [NodeInfo(OWN, address_of(50))])
    assert lookup.take() == []


def test_families_have_their_own_paths_and_their_own_nearest() -> None:
    four: Endpoint = ("203.0.113.1", 1)
    six: Endpoint = ("2001:db8::1", 1)
    lookup = Lookup(TARGET, OWN, [(_id(1), four), (_id(2), six)], (4, 6))
    first, second = lookup.take()
    lookup.answered(first, _id(1), [NodeInfo(_id(3), ("2001:db8:1::1", 1))])
    lookup.answered(second, _id(2), [])
    _answer_all(lookup, lookup.take())
    assert [candidate.distance for candidate in lookup.answerers(4)] == [1]
    assert [candidate.distance for candidate in lookup.answerers(6)] == [2, 3]


@pytest.mark.parametrize("paths", [1, 3])
def test_a_trail_of_ever_closer_nodes_is_left_after_200_queries(paths: int) -> None:
    lookup = Lookup(TARGET, OWN, _seeds(paths, first=10**6), paths=paths)
    asked = 0
    while chosen := lookup.take():
        for candidate in chosen:
            asked += 1
            assert candidate.node_id is not None
            lookup.answered(candidate, candidate.node_id, [_info(10**6 - asked, 100 + asked)])
    assert asked == lookup.queries <= limits.DHT_SEARCH_QUERIES
    assert asked > limits.DHT_SEARCH_QUERIES - paths
    assert lookup.converged()


def test_beside_those_who_took_the_nearest_places_the_nearest_who_own_theirs_are_asked() -> None:
    """The addresses of the twenty nearest do not explain their ids (BEP 42); that of one farther off does."""
    owner: Endpoint = ("198.51.100.7", 1)
    earned = id_for_address(owner[0], b"\x5a" * 20)
    lookup = Lookup(TARGET, OWN, [*_seeds(20), (earned, owner)], paths=1)
    asked: list[Endpoint] = []
    while chosen := lookup.take():
        asked += [candidate.endpoint for candidate in chosen]
        _answer_all(lookup, chosen)
    assert owner in asked


def test_one_answer_does_not_end_a_get_while_others_are_on_their_way() -> None:
    holders: list[Endpoint] = [("127.0.0.1", port) for port in range(1, 7)]
    node = machine(DatagramNetwork(1), client=True, bootstrap=tuple(holders))
    node.start(requests.get_item(node, KEY.public, SALT, 0, None), 0.0)
    asked = {send.endpoint: krpc.parse(send.data) for send in node.outbox}
    assert set(asked) == set(holders)
    for number, holder in enumerate(holders):
        query = asked[holder]
        assert isinstance(query, krpc.Query)
        assert node.outcomes == []
        it = item(7 if number == 1 else 5)
        answer = respond(query, holder, _id(number + 1), k=it.pubkey.raw, seq=it.seq, sig=it.signature.raw, v=b"hello")
        node.handle_datagram(answer, holder, 0.01)
    [finished] = node.outcomes
    assert isinstance(finished, Finished)
    assert isinstance(finished.result, requests.Found)
    assert (finished.result.item, finished.result.votes) == (item(7), 1)


def test_a_get_ends_as_soon_as_four_nodes_on_two_paths_agree() -> None:
    holders: list[Endpoint] = [("127.0.0.1", port) for port in range(1, 10)]
    node = machine(DatagramNetwork(1), client=True, bootstrap=tuple(holders))
    node.start(requests.get_item(node, KEY.public, SALT, 0, None), 0.0)
    asked = {send.endpoint: krpc.parse(send.data) for send in node.outbox}
    it = item(5)
    for number, holder in enumerate(holders[:4]):
        query = asked[holder]
        assert isinstance(query, krpc.Query)
        assert node.outcomes == []
        answer = respond(query, holder, _id(number + 1), k=it.pubkey.raw, seq=5, sig=it.signature.raw, v=b"hello")
        node.handle_datagram(answer, holder, 0.01)
    assert len(node.outcomes) == 1


def test_a_holder_on_a_quick_network_that_is_busy_for_nearly_half_a_second_is_waited_for() -> None:
    holder: Endpoint = ("127.0.0.1", 1)
    node = machine(DatagramNetwork(1), client=True, bootstrap=(holder,))
    for _ in range(50):
        node.round_trip.sample(0.001)
    node.start(requests.get_item(node, KEY.public, SALT, 0, None), 0.0)
    query = krpc.parse(node.outbox[0].data)
    assert isinstance(query, krpc.Query)
    while (due := node.next_timeout()) is not None and due < 0.45:
        node.handle_timeout(due)
    it = item(5)
    answer = respond(query, holder, _id(1), k=it.pubkey.raw, seq=5, sig=it.signature.raw, v=b"hello")
    node.handle_datagram(answer, holder, 0.45)
    while not node.outcomes and (due := node.next_timeout()) is not None:
        node.handle_timeout(due)
    [finished] = node.outcomes
    assert isinstance(finished, Finished) and isinstance(finished.result, requests.Found)
    assert finished.result.item == it
