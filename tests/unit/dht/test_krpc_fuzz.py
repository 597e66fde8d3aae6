"""Whatever arrives: nothing but ``Malformed`` leaves the codec, nothing at all leaves a node, and no state grows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import bencode, limits
from libreseed.dht import krpc, requests
from libreseed.dht.krpc import Query
from libreseed.dht.node import NodeMachine
from libreseed.errors import Malformed
from libreseed.ids import PackageName
from libreseed.testing.network import DatagramNetwork, address_of
from tests.unit.dht.dht_support import ASKER, KEY, SALT, item, machine, nodes, respond

_ID = b"\x31" * 20
_KEYS = [b"t", b"y", b"q", b"a", b"r", b"e", b"ro", b"id", b"target", b"info_hash", b"port", b"implied_port", b"token"]
_KEYS += [b"k", b"v", b"sig", b"seq", b"cas", b"salt", b"values", b"nodes", b"nodes6", b"want", b"ip", b"name"]
_KEYS.append(b"cursor")
_WORDS = [b"q", b"r", b"e", b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put", b"ls_records", b"x"]
_VALUES: st.SearchStrategy[object] = st.recursive(
    st.sampled_from(_WORDS) | st.binary(max_size=40) | st.just(_ID) | st.integers(-(2**70), 2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6),
    max_leaves=12,
)
_QUERIES = st.builds(
    lambda method, args: {b"t": b"aa", b"y": b"q", b"q": method, b"a": {b"id": _ID} | args},
    st.sampled_from(_WORDS),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=8),
)
_DATAGRAMS = st.binary(max_size=300) | (_QUERIES | st.dictionaries(st.sampled_from(_KEYS), _VALUES)).map(bencode.encode)


def _valid() -> list[bytes]:
    it = item()
    put = {"k": it.pubkey.raw, "salt": SALT, "seq": 5, "sig": it.signature.raw, "v": b"hello", "token": b"12345678"}
    query = Query(b"aa", b"get", _ID, {})
    return [
        krpc.encode_query(b"aa", b"put", {b"id": _ID} | {name.encode(): value for name, value in put.items()}),
        krpc.encode_query(b"aa", b"get_peers", {b"id": _ID, b"info_hash": _ID, b"want": [b"n4", b"n6"]}),
        krpc.encode_query(b"aa", b"ls_records", {b"id": _ID, b"name": b"tool", b"token": b"x", b"cursor": 0}),
        respond(query, ASKER, _ID, nodes=nodes((_ID, ASKER)), token=b"t", values=[b"\x01" * 6]),
        respond(query, ASKER, _ID, k=it.pubkey.raw, seq=5, sig=it.signature.raw, v=b"hello"),
        krpc.encode_failure(b"aa", 203, "words"),
    ]


@settings(max_examples=150, deadline=None)
@given(_DATAGRAMS)
def test_only_malformed_escapes_the_codec(data: bytes) -> None:
    try:
        krpc.parse(data)
    except Malformed:
        return


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_valid()), st.integers(0, 400), st.integers(0, 255), st.integers(0, 2))
def test_a_mutated_message_is_read_or_refused_and_never_misread_as_longer(
    data: bytes, place: int, byte: int, cut: int
) -> None:
    place %= len(data)
    mutated = data[:place] + bytes([byte]) + data[place + cut :]
    try:
        krpc.parse(mutated)
    except Malformed:
        return
    assert bencode.encode(bencode.decode(mutated, max_bytes=2048)) == mutated


def _busy(client: bool) -> NodeMachine:
    network = DatagramNetwork(1)
    node = machine(network, client=client, bootstrap=(ASKER,))
    if not client:
        node.handle_timeout(0.0)
    node.start(requests.get_item(node, KEY.public, SALT, 0, None), 0.0)
    node.start(requests.find_peers(node, _ID), 0.0)
    node.start(requests.list_records(node, PackageName("tool")), 0.0)
    return node


@pytest.mark.parametrize("client", [True, False])
@settings(max_examples=60, deadline=None)
@given(st.lists(_DATAGRAMS, max_size=12))
def test_a_node_in_the_middle_of_lookups_survives_any_datagrams(client: bool, datagrams: list[bytes]) -> None:
    node = _busy(client)
    for step, data in enumerate(datagrams):
        node.handle_datagram(data, ASKER, 0.01 * step)
        _answer_with(node, data, 0.01 * step)
    node.handle_timeout(100.0)
    assert node.pending_count <= limits.DHT_PENDING_QUERIES
    assert node.node_count <= limits.DHT_STATE_NODES


def _answer_with(node: NodeMachine, data: bytes, now: float) -> None:
    """The same datagram as an answer that carries the right transaction, where it can be made into one."""
    queries = [send for send in node.outbox if send.via is None]
    node.outbox.clear()
    try:
        message = bencode.decode(data, max_bytes=2048)
    except Malformed:
        return
    if type(message) is not dict:
        return
    for send in queries:
        query = krpc.parse(send.data)
        values = message if b"id" in message else message | {b"id": _ID}
        try:
            answer = bencode.encode({b"t": query.transaction, b"y": b"r", b"r": values})
        except TypeError:
            return
        node.handle_datagram(answer, send.endpoint, now)


def test_a_flood_of_queries_from_everywhere_stays_within_every_bound() -> None:
    network = DatagramNetwork(2)
    node = machine(network)
    assert node.responder is not None
    for number in range(6000):
        data = krpc.encode_query(b"aa", b"get_peers", {b"id": network.entropy(20), b"info_hash": network.entropy(20)})
        node.handle_datagram(data, address_of(number), number / 1000)
        node.outbox.clear()
    assert len(node.responder.guard) <= limits.DHT_GUARD_SOURCES
    assert node.pending_count <= limits.DHT_UNPROVEN_PINGS
    assert node.node_count == len(node.responder.items) == len(node.responder.peers) == 0
