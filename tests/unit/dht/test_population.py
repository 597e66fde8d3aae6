"""Whole networks in virtual time: what is stored is found, fast, when a third or half of the nodes die at once."""

from __future__ import annotations

import pytest

from libreseed import bencode
from libreseed.dht import requests
from libreseed.dht.items import SignedItem, sign_item
from libreseed.keys.ed25519 import PrivateKey
from libreseed.testing.network import DatagramNetwork, SimulatedNode, grow

KEY = PrivateKey(b"\x41" * 32)


def _store(network: DatagramNetwork, nodes: list[SimulatedNode], count: int) -> list[SignedItem]:
    items = [sign_item(KEY, b"m:%d" % number, 5, bencode.encode(b"x" * 900)) for number in range(count)]
    for item in items:
        node = network.random.choice(nodes)
        outcome = network.finish(node, requests.put_item(node.machine, item, (4,)))
        assert isinstance(outcome, requests.PutOutcome)
        assert outcome.confirmed >= 12
    return items


def _kill(network: DatagramNetwork, nodes: list[SimulatedNode], share: float) -> None:
    doomed = int(len(nodes) * share) - sum(not node.alive for node in nodes)
    for node in network.random.sample([node for node in nodes if node.alive], doomed):
        node.alive = False


def _seconds_of_gets(network: DatagramNetwork, nodes: list[SimulatedNode], items: list[SignedItem]) -> list[float]:
    """Virtual seconds that each successful get took, sorted; the asker never holds the item itself."""
    took = []
    for item in items:
        strangers = [
            n for n in nodes if n.alive and n.machine.responder and not n.machine.responder.held(item.target, 0)
        ]
        node = network.random.choice(strangers)
        begun = network.now
        found = network.finish(node, requests.get_item(node.machine, KEY.public, item.salt, 0, None))
        assert isinstance(found, requests.Found)
        assert found.queries <= 200
        if found.item == item:
            took.append(network.now - begun)
    return sorted(took)


def test_two_hundred_nodes_with_packet_loss_lose_no_record() -> None:
    network = DatagramNetwork(3, round_trip=0.08, loss=0.02)
    nodes = grow(network, 200)
    items = _store(network, nodes, 15)
    _kill(network, nodes, 0.3)
    assert len(_seconds_of_gets(network, nodes, items)) == len(items)
    assert network.largest <= 1400


@pytest.mark.slow
def test_a_thousand_nodes_of_which_a_third_and_then_half_die_without_notice() -> None:
    network = DatagramNetwork(7, round_trip=0.08)
    nodes = grow(network, 1000)
    items = _store(network, nodes, 100)
    for share, least in ((0.3, 100), (0.5, 99)):
        _kill(network, nodes, share)
        took = _seconds_of_gets(network, nodes, items)
        assert len(took) >= least
        assert took[len(took) // 2] < 0.3
        assert took[int(len(took) * 0.99)] < 3 if len(took) == 100 else took[-1] < 3


def test_a_client_that_asks_again_and_again_is_answered_in_full() -> None:
    """Nobody knows a client's address to be its own at first; it proves it by answering one ping."""
    network = DatagramNetwork(5, round_trip=0.01)
    nodes = grow(network, 3)
    items = _store_small(network, nodes)
    client = network.add(("12.0.0.1", 5000), bootstrap=(nodes[0].endpoint,), client=True)
    for item in items:
        found = network.finish(client, requests.get_item(client.machine, KEY.public, item.salt, 0, None))
        assert isinstance(found, requests.Found)
        assert found.item == item
    assert all(client.endpoint not in [c.endpoint for c in node.machine.tables[4].contacts()] for node in nodes)


def _store_small(network: DatagramNetwork, nodes: list[SimulatedNode]) -> list[SignedItem]:
    items = [sign_item(KEY, b"m:%d" % number, 5, bencode.encode(b"x" * 990)) for number in range(20)]
    for item in items:
        outcome = network.finish(nodes[1], requests.put_item(nodes[1].machine, item, (4,)))
        assert isinstance(outcome, requests.PutOutcome)
        assert outcome.confirmed == 2
    return items
