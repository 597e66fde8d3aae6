"""Whole networks in virtual time: what is stored is found, fast, when a third or half of the nodes die at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libreseed import bencode
from libreseed.dht import requests
from libreseed.dht.addresses import Endpoint, NodeInfo
from libreseed.dht.items import SignedItem, sign_item
from libreseed.dht.krpc import Query, encode_query
from libreseed.dht.node import NodeConfig, NodeMachine
from libreseed.keys.ed25519 import PrivateKey
from libreseed.testing.network import DatagramNetwork, SimulatedNode, address_of, grow
from tests.unit.dht.dht_support import Liar, nodes, respond

KEY = PrivateKey(b"\x41" * 32)


def _store(network: DatagramNetwork, members: list[SimulatedNode], count: int) -> list[SignedItem]:
    items = [sign_item(KEY, b"m:%d" % number, 5, bencode.encode(b"x" * 900)) for number in range(count)]
    for item in items:
        node = network.random.choice(members)
        outcome = network.finish(node, requests.put_item(node.machine, item, (4,)))
        assert isinstance(outcome, requests.PutOutcome)
        assert outcome.confirmed >= 12
    return items


def _kill(network: DatagramNetwork, members: list[SimulatedNode], share: float) -> None:
    doomed = int(len(members) * share) - sum(not node.alive for node in members)
    for node in network.random.sample([node for node in members if node.alive], doomed):
        node.alive = False


def _seconds_of_gets(network: DatagramNetwork, members: list[SimulatedNode], items: list[SignedItem]) -> list[float]:
    """Virtual seconds that each successful get took, sorted; the asker never holds the item itself."""
    took = []
    for item in items:
        strangers = [
            n
            for n in members
            if n.alive and n.machine.responder and not n.machine.responder.held(item.target, network.now)
        ]
        node = network.random.choice(strangers)
        begun = network.now
        found = network.finish(node, requests.get_item(node.machine, KEY.public, item.salt, 0, None))
        assert isinstance(found, requests.Found)
        assert found.queries <= 200
        if found.item == item:
            took.append(network.now - begun)
    return sorted(took)


def test_a_hundred_and_fifty_nodes_with_packet_loss_lose_no_record() -> None:
    network = DatagramNetwork(3, round_trip=0.08, loss=0.02)
    members = grow(network, 150)
    items = _store(network, members, 15)
    _kill(network, members, 0.3)
    assert len(_seconds_of_gets(network, members, items)) == len(items)
    assert network.largest <= 1400


@pytest.mark.slow
def test_a_thousand_nodes_of_which_a_third_and_then_half_die_without_notice() -> None:
    network = DatagramNetwork(7, round_trip=0.08)
    members = grow(network, 1000)
    items = _store(network, members, 100)
    for share, least in ((0.3, 100), (0.5, 99)):
        _kill(network, members, share)
        took = _seconds_of_gets(network, members, items)
        assert len(took) >= least
        assert took[len(took) // 2] < 0.3
        assert took[int(len(took) * 0.99)] < 3 if len(took) == 100 else took[-1] < 3


def test_a_client_that_asks_again_and_again_is_answered_in_full() -> None:
    """Nobody knows a client's address to be its own at first; it proves it by answering one ping."""
    network = DatagramNetwork(5, round_trip=0.01)
    members = grow(network, 3)
    items = _store_small(network, members)
    client = network.add(("12.0.0.1", 5000), bootstrap=(members[0].endpoint,), client=True)
    for item in items:
        found = network.finish(client, requests.get_item(client.machine, KEY.public, item.salt, 0, None))
        assert isinstance(found, requests.Found)
        assert found.item == item
    assert all(client.endpoint not in [c.endpoint for c in node.machine.tables[4].contacts()] for node in members)


def test_a_client_whose_saved_nodes_are_all_gone_loses_little_time() -> None:
    network = DatagramNetwork(6, round_trip=0.01)
    members = grow(network, 3)
    item = _store_small(network, members)[0]
    gone = tuple(NodeInfo(network.entropy(20), address_of(500 + number)) for number in range(30))
    config = NodeConfig(b"\x01" * 20, client=True, bootstrap=(members[0].endpoint,), known=gone)
    client = network.attach(("12.0.0.1", 5000), NodeMachine(config, network.entropy, network.now))
    begun = network.now
    found = network.finish(client, requests.get_item(client.machine, KEY.public, item.salt, 0, None))
    assert isinstance(found, requests.Found)
    assert found.item == item
    assert network.now - begun < 0.3  # virtual seconds; the first timeout alone is 0.5 where nobody answers


def _store_small(network: DatagramNetwork, members: list[SimulatedNode]) -> list[SignedItem]:
    items = [sign_item(KEY, b"m:%d" % number, 5, bencode.encode(b"x" * 990)) for number in range(20)]
    for item in items:
        outcome = network.finish(members[1], requests.put_item(members[1].machine, item, (4,)))
        assert isinstance(outcome, requests.PutOutcome)
        assert outcome.confirmed == 2
    return items


def _sybils(network: DatagramNetwork, target: bytes) -> list[tuple[bytes, Endpoint]]:
    """Nodes in the 20 places nearest to ``target``, each in its own network, that name only each other."""
    wanted = int.from_bytes(target, "big")
    places = [((wanted ^ number + 1).to_bytes(20, "big"), (f"77.0.{number}.1", 6881)) for number in range(20)]

    def answer(node_id: bytes) -> Callable[[Query, Endpoint], bytes]:
        return lambda query, source: respond(query, source, node_id, nodes=nodes(*places[:8]), token=b"tttttttt")

    for node_id, endpoint in places:
        Liar(answer(node_id)).on(network, endpoint)
    return places


def _introduce(network: DatagramNetwork, members: list[SimulatedNode], places: list[tuple[bytes, Endpoint]]) -> None:
    """The sybils ask everybody something, so that they are pinged and known."""
    for node in members:
        for node_id, endpoint in places:
            network.send(endpoint, node.endpoint, encode_query(b"t", b"ping", {b"id": node_id}))
    network.run(until=network.now + 5)


def test_twenty_sybils_in_the_places_nearest_to_a_record_do_not_hide_it() -> None:
    network = DatagramNetwork(9)
    members = grow(network, 100)
    [item] = _store(network, members, 1)
    _introduce(network, members, _sybils(network, item.target))
    assert len(_seconds_of_gets(network, members, [item] * 15)) == 15


def test_a_record_put_among_twenty_sybils_is_stored_by_others_as_well() -> None:
    network = DatagramNetwork(9)
    members = grow(network, 100)
    item = sign_item(KEY, b"m:late", 5, bencode.encode(b"x"))
    _introduce(network, members, _sybils(network, item.target))
    network.finish(members[3], requests.put_item(members[3].machine, item, (4,)))
    holders = [n for n in members if n.machine.responder and n.machine.responder.held(item.target, network.now)]
    assert len(holders) >= 12
    assert len(_seconds_of_gets(network, members, [item] * 15)) == 15
