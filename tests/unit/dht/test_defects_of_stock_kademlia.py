"""The 23 defects found in ``kademlia`` 2.2.3 and ``rpcudp`` 5.0.1, each shown to be absent here, in the same order."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.adapters.dht.dht_state import NONE, load_nodes
from libreseed.dht import krpc, requests
from libreseed.dht.addresses import Endpoint, NodeInfo
from libreseed.dht.krpc import Query
from libreseed.dht.node import NodeMachine
from libreseed.dht.requests import Found, PutOutcome
from libreseed.dht.routing import Bucket, Table
from libreseed.errors import Malformed
from libreseed.testing.network import DatagramNetwork, SimulatedNode, address_of, grow
from tests.unit.dht.dht_support import ASKER, KEY, OWN_ID, SALT, Asker, Liar, Mirror, item, machine, nodes, respond

LIAR: Endpoint = ("198.51.100.1", 6881)
LIAR_ID = b"\x99" * 20


def _get(network: DatagramNetwork, node: SimulatedNode) -> Found:
    found = network.finish(node, requests.get_item(node.machine, KEY.public, SALT, 0, None))
    assert isinstance(found, Found)
    return found


def _put(network: DatagramNetwork, node: SimulatedNode, seq: int = 5) -> PutOutcome:
    outcome = network.finish(node, requests.put_item(node.machine, item(seq), (4,)))
    assert isinstance(outcome, PutOutcome)
    return outcome


def _client(network: DatagramNetwork, *bootstrap: Endpoint) -> SimulatedNode:
    return network.add(("12.0.0.1", 5000), bootstrap=bootstrap, client=True)


_STRANGE = [
    {"nodes": [[b"a" * 20, "127.0.0.1", 70000]]},
    {"nodes": [[b"a" * 20, b"", b""]]},
    {"nodes": b"\x01" * 25},
    {"nodes": nodes((b"\x01" * 20, ("8.8.8.8", 0)), (b"\x02" * 20, ("224.0.0.1", 5)), (b"\x03" * 20, ("0.0.0.0", 5)))},
    {"nodes": 7, "nodes6": b"\x01" * 37},
    {"token": 5, "nodes": b""},
    {"v": [], "k": 5, "sig": {}, "seq": b"1"},
    {"v": b"x", "k": KEY.public.raw, "sig": b"\0" * 64, "seq": 2**70},
    {"v": b"x", "k": KEY.public.raw, "sig": b"\0" * 64, "seq": -1},
    {"values": [b"localhost:80", b"", 5, b"\x01" * 7], "nodes": b""},
]


@pytest.mark.parametrize("values", _STRANGE, ids=str)
def test_01_and_09_an_answer_of_strange_shape_neither_raises_nor_stops_the_node(values: dict[str, object]) -> None:
    network = DatagramNetwork(1)
    good = network.add(address_of(1))
    Liar(lambda query, source: respond(query, source, LIAR_ID, **values)).on(network, LIAR)
    client = _client(network, LIAR, good.endpoint)
    assert _put(network, good).asked == 0
    assert good.machine.responder is not None
    good.machine.responder.own.put(item(), network.now)
    assert _get(network, client).item == item()
    for operation in (requests.find_peers(client.machine, b"h" * 20), requests.find_node(client.machine, b"h" * 20)):
        network.finish(client, operation)
    assert client.machine.pending_count == 0


def test_02_a_network_with_full_buckets_does_not_store_on_its_own() -> None:
    network = DatagramNetwork(2)
    members = grow(network, 60)
    for seq in range(1, 4):
        _put(network, members[seq], seq)
    kinds: Counter[bytes] = Counter()

    network.tap = lambda source, destination, data: kinds.update([_method(data)])
    network.run(until=network.now + 120)
    assert kinds[b"put"] == kinds[b"announce_peer"] == 0
    assert kinds.total() - kinds[b""] < 60 * 120  # upkeep stays below one query per node and second


def test_03_an_answer_from_another_address_is_not_taken() -> None:
    network = DatagramNetwork(3)
    node = machine(network, client=True, bootstrap=(LIAR,))
    node.start(requests.get_item(node, KEY.public, SALT, 0, None), 0.0)
    [query] = [krpc.parse(send.data) for send in node.outbox]
    assert isinstance(query, Query)
    forged = respond(query, ASKER, LIAR_ID, nodes=b"")
    for source in (ASKER, (LIAR[0], LIAR[1] + 1), ("198.51.100.2", LIAR[1])):
        node.handle_datagram(forged, source, 0.1)
        assert (node.pending_count, node.node_count, node.outcomes) == (1, 0, [])
    node.handle_datagram(forged, LIAR, 0.1)
    assert (node.pending_count, node.node_count) == (0, 1)


def test_04_an_answer_under_another_id_neither_counts_nor_is_recorded_under_the_id_that_was_claimed() -> None:
    network = DatagramNetwork(4)
    honest = network.add(address_of(1))
    claimed = item().target[:19] + b"\x00"
    Liar(lambda query, source: respond(query, source, LIAR_ID, nodes=nodes((claimed, honest.endpoint)))).on(
        network, LIAR
    )
    victim = network.add(address_of(2), bootstrap=(LIAR,))
    assert _get(network, victim).answers == 1  # the liar's own
    network.run(until=network.now + 5)
    known = {contact.endpoint: contact.id for contact in victim.machine.tables[4].contacts()}
    assert known[honest.endpoint] == honest.machine.node_id
    assert claimed not in known.values()


@pytest.mark.parametrize("client", [True, False], ids=["client", "full-node"])
def test_04_a_reflector_that_sends_our_own_answers_back_is_no_node(client: bool) -> None:
    network = DatagramNetwork(4)
    mirror = Mirror()
    mirror.on(network, LIAR)
    victim = network.add(address_of(2), bootstrap=(LIAR,), client=client)
    found = _get(network, victim)
    assert mirror.answers > 0  # it did give an answer back that matched a query
    assert (found.item, found.answers, victim.machine.node_count) == (None, 0, 0)


def test_05_askers_that_never_answered_are_in_no_table_and_one_network_fills_no_bucket() -> None:
    network = DatagramNetwork(5)
    node = machine(network)
    target = item().target
    for number in range(60):
        Asker(node, ("203.0.113.7", 2000 + number), target[:18] + number.to_bytes(2, "big")).ask(b"ping")
    assert node.node_count == 0
    table = Table(OWN_ID)
    for number in range(60):  # and if all of them did answer
        table.seen(NodeInfo(target[:18] + number.to_bytes(2, "big"), (f"203.0.113.{number + 1}", 2000)), 1.0)
    assert len(table) == 1


def test_05_an_id_that_is_held_cannot_be_taken_over_while_its_holder_answers() -> None:
    table = Table(OWN_ID)
    holder = NodeInfo(LIAR_ID, ("198.51.100.1", 1))
    table.seen(holder, 1.0)
    doubtful = table.seen(NodeInfo(LIAR_ID, ("203.0.113.1", 1)), 2.0)
    assert doubtful is not None
    assert doubtful.info == holder
    assert [contact.info for contact in table.contacts()] == [holder]


def test_06_stores_need_a_token_a_signature_and_a_size() -> None:
    asker = Asker(machine(DatagramNetwork(6)))
    it = item()
    store = asker.target.responder
    assert store is not None
    refused = [
        asker.put(it, token=b"12345678"),
        asker.put(it, sig=b"\0" * 64),
        asker.put(it, v=b"x" * 1001),
        asker.put(it, salt=b"s" * 65),
        asker.put(it, seq=b"5"),
        asker.put(it, k=b"short"),
    ]
    assert [answer and answer[b"e"][0] for answer in refused] == [203, 206, 205, 207, 203, 203]
    other = Asker(asker.target, ("203.0.113.6", 4000))
    assert other.put(it, token=asker.token(it.target))[b"e"][0] == 203  # type: ignore[index]  # an answer is due
    assert len(store.items) == 0
    assert asker.put(it)[b"y"] == b"r"  # type: ignore[index]
    assert len(store.items) == 1


@pytest.mark.parametrize("method", [b"ping", b"find_node", b"get_peers", b"get", b"ls_records", b"nonsense"])
def test_07_a_flood_in_a_victims_name_is_not_amplified(method: bytes) -> None:
    network = DatagramNetwork(7)
    node = machine(network)
    assert node.responder is not None
    for number in range(200):
        node.tables[4].seen(NodeInfo(network.entropy(20), address_of(number)), 0.5)
        node.responder.peers.announce(item().target, address_of(number), 0.5)
    node.responder.own.put(item(value=b"x" * 990), 0.5)
    node.responder.records = lambda name: [item(value=b"x" * 990)] * 50
    asker = Asker(node)
    for step in range(500):
        asker.ask(method, 1 + step / 100, target=item().target, info_hash=item().target, name=b"tool")
    assert asker.received <= limits.DHT_FIRST_BYTES + limits.DHT_AMPLIFICATION * asker.sent


def test_07_the_total_upload_is_capped_whoever_asks() -> None:
    network = DatagramNetwork(7)
    node = machine(network)
    assert node.responder is not None
    node.responder.own.put(item(value=b"x" * 990), 0.5)
    received = 0
    for number in range(3000):
        asker = Asker(node, address_of(number))
        asker.ask(b"get", 1.0, target=item().target)
        received += asker.received
    assert received <= 2 * limits.DHT_UPLOAD_BYTES_PER_SECOND + 60 * limits.DHT_UNPROVEN_PINGS


def test_08_the_highest_valid_seq_wins_over_the_first_answer_and_a_get_stores_nothing() -> None:
    network = DatagramNetwork(8)
    members = grow(network, 40)
    _put(network, members[0], 5)
    forged = item(9)
    by_distance = sorted(
        members, key=lambda node: int.from_bytes(node.machine.node_id, "big") ^ int.from_bytes(item().target, "big")
    )
    for node in by_distance[:4]:
        assert node.machine.responder is not None
        node.machine.responder.own.put(item(7), network.now)
    kinds: Counter[bytes] = Counter()
    network.tap = lambda source, destination, data: kinds.update([_method(data)])

    def lie(query: Query, source: Endpoint) -> bytes:
        signature = item(5).signature.raw
        return respond(query, source, LIAR_ID, k=forged.pubkey.raw, seq=9, sig=signature, v=b"hello", nodes=b"")

    Liar(lie).on(network, LIAR)
    client = _client(network, LIAR, by_distance[-1].endpoint)
    found = _get(network, client)
    assert found.item is not None
    assert found.item.seq == 7
    assert kinds[b"put"] == 0


def _method(data: bytes) -> bytes:
    message = krpc.parse(data)
    return message.method if isinstance(message, Query) else b""


def test_10_ever_closer_nodes_that_do_not_end_are_given_up_after_a_bound() -> None:
    network = DatagramNetwork(10)
    wanted = int.from_bytes(item().target, "big")
    named = 0

    def id_of(number: int) -> bytes:
        return (wanted ^ (2**150 - number)).to_bytes(20, "big")

    def closer(number: int) -> Callable[[Query, Endpoint], bytes]:
        def answer(query: Query, source: Endpoint) -> bytes:
            nonlocal named
            named += 8
            infos = [(id_of(following), address_of(following)) for following in range(named - 7, named + 1)]
            return respond(query, source, id_of(number), nodes=nodes(*infos))

        return answer

    for number in range(2500):
        Liar(closer(number)).on(network, address_of(number))
    found = _get(network, _client(network, address_of(0)))
    assert found.item is None
    assert 50 < found.queries <= limits.DHT_SEARCH_QUERIES


def test_11_an_answer_full_of_dead_nodes_is_cut_and_the_lookup_ends() -> None:
    network = DatagramNetwork(11)
    dead = [(network.entropy(20), address_of(1000 + number)) for number in range(78)]
    Liar(lambda query, source: respond(query, source, LIAR_ID, nodes=nodes(*dead))).on(network, LIAR)
    client = _client(network, LIAR)
    lookup = client.machine.lookup(item().target)
    [seed] = lookup.take()
    lookup.answered(seed, LIAR_ID, [NodeInfo(network.entropy(20), address_of(number)) for number in range(1700)])
    assert lookup.candidates <= limits.DHT_SEARCH_CANDIDATES
    begun = network.now
    found = _get(network, client)
    assert found.queries <= 1 + limits.DHT_NODES_READ
    assert network.now - begun < 12


def test_12_a_dead_node_costs_a_few_round_trips_and_no_fixed_time() -> None:
    network = DatagramNetwork(12, round_trip=0.005)
    members = grow(network, 30)
    _put(network, members[0])
    for node in members[3:18]:
        node.alive = False
    begun = network.now
    assert _get(network, members[1]).item == item()
    assert network.now - begun < 0.5


def test_13_nested_and_junk_datagrams_are_dropped_without_a_trace() -> None:
    node = machine(DatagramNetwork(13))
    asker = Asker(node)
    junk = [
        b"l" * 1000 + b"e" * 1000,
        b"d" * 2000,
        b"i" + b"9" * 2000 + b"e",
        b"",
        b"\0" * 21,
        b"d1:t1:ae",
        b"le" * 30_000,
    ]
    for data in junk:
        assert asker.raw(data) is None
    assert (node.pending_count, node.node_count, node.outbox, node.outcomes) == (0, 0, [], [])
    assert asker.ask(b"ping") is not None


@pytest.mark.parametrize("size", [0, 1, 19, 21, 40, 400])
def test_14_an_id_that_is_not_20_bytes_is_no_id(size: int) -> None:
    node = machine(DatagramNetwork(14))
    assert Asker(node, node_id=b"\x05" * size).ask(b"ping") is None
    assert Asker(node).error_of(b"find_node", target=b"\x05" * size) == 203
    with pytest.raises(Malformed):
        krpc.parse(krpc.encode_response(b"t", {b"id": b"\x05" * size}, ASKER))


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 400), st.integers(1, 30))
def test_15_the_closest_contacts_are_exactly_the_closest(rng: object, count: int, wanted: int) -> None:
    entropy = rng.randbytes  # type: ignore[attr-defined]  # hypothesis types it as Random
    table = Table(entropy(20))
    for number in range(count):
        table.seen(NodeInfo(entropy(20), address_of(number)), 1.0)
    target = entropy(20)
    distances = sorted(contact.long_id ^ int.from_bytes(target, "big") for contact in table.contacts())
    closest = table.closest(target, wanted)
    assert [contact.long_id ^ int.from_bytes(target, "big") for contact in closest] == distances[:wanted]


def test_16_a_put_with_nobody_there_says_so() -> None:
    network = DatagramNetwork(16)
    assert _put(network, network.add(address_of(1))) == PutOutcome(0, 0, 0, 0)
    assert _put(network, network.add(address_of(2), bootstrap=(address_of(99),))) == PutOutcome(0, 0, 0, 0)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_17_a_state_file_runs_no_code(tmp_path: Path) -> None:
    state, proof = tmp_path / "dht.json", tmp_path / "proof"
    state.write_bytes(pickle.dumps(_Bomb(proof)))
    assert load_nodes(state) == NONE
    assert not proof.exists()
    assert not hasattr(sys.modules[load_nodes.__module__], "pickle")


@pytest.mark.parametrize("host", ["localhost", "example.org", "127.0.0.1%lo", "1.2.3", "0", "::ffff:1.2.3.4", ""])
def test_18_no_host_name_is_taken_from_anybody(host: str, tmp_path: Path) -> None:
    """KRPC carries addresses as bytes; the only other way in is the file of saved nodes."""
    state = tmp_path / "dht.json"
    state.write_text(f'{{"id":"{"00" * 20}","nodes":[["{"01" * 20}","{host}",80]]}}')
    assert load_nodes(state) == NONE
    state.write_text(f'{{"id":"{"00" * 20}","nodes":[["{"01" * 20}","192.0.2.1",80]]}}')
    assert [info.endpoint for info in load_nodes(state).nodes] == [("192.0.2.1", 80)]


def test_19_and_22_an_item_lives_at_the_sha1_of_key_and_salt_and_is_handed_to_nobody() -> None:
    network = DatagramNetwork(19)
    members = grow(network, 5)
    _put(network, members[0])
    held = [
        node.machine.responder.items.get(item().target, network.now) for node in members[1:] if node.machine.responder
    ]
    assert held == [item()] * 4
    asked: list[bytes] = []
    newcomer = Liar(lambda query, source: respond(query, source, item().target, nodes=b""))
    newcomer.on(network, LIAR)
    network.send(LIAR, members[1].endpoint, krpc.encode_query(b"t", b"ping", {b"id": item().target}))
    network.run(until=network.now + 60)
    asked = [query.method for query in newcomer.asked]
    assert b"ping" in asked
    assert b"put" not in asked
    client = _client(network, LIAR)
    _get(network, client)
    assert [query.args[b"target"] for query in newcomer.asked if query.method == b"get"] == [item().target]


def test_20_an_item_expires_after_its_last_put_and_no_get_renews_it() -> None:
    asker = Asker(machine(DatagramNetwork(20)))
    store = asker.target.responder
    assert store is not None
    assert asker.put(item(), 1.0) is not None
    for hour in range(1, 3):
        asker.ask(b"get", 3600.0 * hour, target=item().target)
    assert store.items.get(item().target, limits.DHT_ITEM_SECONDS) == item()
    assert store.items.get(item().target, limits.DHT_ITEM_SECONDS + 1.5) is None
    asker.target.handle_timeout(limits.DHT_ITEM_SECONDS + 10.0)
    assert len(store.items) == 0


def test_21_a_join_finds_contacts_in_every_large_subtree_and_not_only_near_itself() -> None:
    network = DatagramNetwork(21)
    members = grow(network, 80)
    for node in members:
        contacts = node.machine.tables[4].contacts()
        assert len(contacts) >= 30
        own = int.from_bytes(node.machine.node_id, "big")
        others = [int.from_bytes(other.machine.node_id, "big") for other in members if other is not node]
        subtrees = {160 - (other ^ own).bit_length() for other in others}
        assert {160 - (contact.long_id ^ own).bit_length() for contact in contacts} == subtrees


def test_23_the_depth_of_a_bucket_follows_from_its_range() -> None:
    bucket = Bucket(0, 2**160 - 1, 20)
    for depth in range(8):
        assert bucket.depth() == depth
        bucket = bucket.split()[depth % 2]


def test_24_the_last_id_of_a_range_belongs_to_it() -> None:
    """Not in the list: the package looks for it one bucket further on."""
    table = Table(b"\xff" * 20)
    table.split_bucket(0)
    last = NodeInfo((2**159 - 1).to_bytes(20, "big"), address_of(1))
    table.seen(last, 1.0)
    assert len(table.buckets[0]) == 1


def test_cancelling_an_operation_leaves_nothing_that_fires_later() -> None:
    """The stock stack raises ``InvalidStateError`` five seconds after one cancelled get."""
    network = DatagramNetwork(24)
    node: NodeMachine = machine(network, client=True, bootstrap=(LIAR,))
    number = node.start(requests.get_item(node, KEY.public, SALT, 0, None), 0.0)
    node.cancel(number)
    node.handle_timeout(60.0)
    assert (node.pending_count, node.outcomes, node.next_timeout()) == (0, [], None)
