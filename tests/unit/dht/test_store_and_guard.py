"""What a node keeps and gives: order of puts, shares, expiry, tokens, rates, ids that follow from addresses."""

from __future__ import annotations

import pytest

from libreseed import limits
from libreseed.dht.addresses import (
    Endpoint,
    Scope,
    family_of,
    may_name,
    pack_endpoint,
    prefix_of,
    scope_of,
    source_of,
    unpack_endpoint,
)
from libreseed.dht.guard import Guard
from libreseed.dht.items import SignedItem
from libreseed.dht.nodeid import follows_address, id_for_address
from libreseed.dht.roundtrip import RoundTrip
from libreseed.dht.store import ItemStore, PeerStore, Refused
from libreseed.dht.tokens import Tokens
from libreseed.keys.ed25519 import PrivateKey
from libreseed.testing.network import DatagramNetwork, address_of
from tests.unit.dht.dht_support import ASKER, Asker, item, machine

A: Endpoint = ("203.0.113.1", 1)
B: Endpoint = ("203.0.113.2", 1)


def _numbered(number: int, key: PrivateKey | None = None) -> SignedItem:
    return item(salt=b"m:%d" % number, key=key or PrivateKey(bytes([number % 251 + 1]) * 32))


def _code(store: ItemStore, it: SignedItem, source: Endpoint = A, **options: int) -> int:
    before = len(store), store.size
    with pytest.raises(Refused) as caught:
        store.put(it, source, 1.0, **options)
    assert (len(store), store.size) == before
    return caught.value.code


def test_a_lower_seq_or_another_value_at_the_same_seq_is_refused_and_the_same_item_renews() -> None:
    store = ItemStore()
    store.put(item(5), A, 1.0)
    assert _code(store, item(4)) == 302
    assert _code(store, item(5, b"other")) == 302
    assert _code(store, item(6), cas=4) == 301
    store.put(item(5), B, 1000.0)
    assert store.get(item().target, 1.0 + limits.DHT_ITEM_SECONDS) == item(5)
    store.put(item(6), B, 1000.0, cas=5)
    assert store.get(item().target, 1001.0) == item(6)
    assert len(store) == 1


def test_no_source_and_no_key_has_more_than_its_share() -> None:
    store = ItemStore(share=3, key_share=2)
    key = PrivateKey(b"\x05" * 32)
    for number in range(2):
        store.put(_numbered(number, key), A, 1.0)
    assert _code(store, _numbered(9, key), B) == 202
    store.put(_numbered(2), A, 1.0)
    assert _code(store, _numbered(3), A) == 202
    store.put(_numbered(3), B, 1.0)


def test_a_flood_displaces_its_own_items_and_not_another_sources() -> None:
    store = ItemStore(capacity=10)
    store.put(_numbered(100), B, 1.0)
    for number in range(9):
        store.put(_numbered(number), A, 2.0)
    store.put(_numbered(101), B, 3.0)
    assert store.get(_numbered(100).target, 4.0) is not None
    assert store.get(_numbered(0).target, 4.0) is None
    assert _code(store, _numbered(50), A) == 202
    assert len(store) == 10


def test_the_store_is_bounded_in_bytes_as_well() -> None:
    store = ItemStore(capacity_bytes=3000)
    for number in range(3):
        store.put(item(value=b"x" * 900, salt=b"m:%d" % number), A, 1.0)
    with pytest.raises(Refused):
        store.put(item(value=b"x" * 900, salt=b"m:9"), A, 1.0)
    assert store.size <= 3000


def test_peers_expire_and_no_address_takes_more_than_its_share_of_an_info_hash() -> None:
    store = PeerStore()
    for port in range(1, limits.DHT_PEERS_PER_HASH_AND_SOURCE + 1):
        store.announce(b"h" * 20, ("203.0.113.1", port), 1.0)
    with pytest.raises(Refused):
        store.announce(b"h" * 20, ("203.0.113.1", 99), 1.0)
    store.announce(b"h" * 20, ("203.0.113.1", 1), 2.0)  # renewing is no new one
    for number in range(limits.DHT_PEERS_PER_HASH + 50):
        store.announce(b"h" * 20, address_of(number), 3.0)
    assert len(store.peers(b"h" * 20, 4, 3.0)) == limits.DHT_PEERS_PER_HASH == len(store)
    assert store.peers(b"h" * 20, 6, 3.0) == []
    store.expire(4.0 + limits.DHT_PEER_SECONDS)
    assert len(store) == 0


def test_a_full_peer_store_takes_from_the_heaviest_source() -> None:
    store = PeerStore(capacity=20)
    for number in range(20):
        store.announce(bytes([number]) * 20, A, 1.0)
    for number in range(5):
        store.announce(bytes([number]) * 20, B, 2.0)
    assert len(store) == 20
    assert store.peers(bytes(20), 4, 3.0) == [B]


def test_a_token_is_for_one_host_one_target_and_a_short_time() -> None:
    network = DatagramNetwork(1)
    tokens = Tokens(network.entropy, 0.0)
    token = tokens.make("203.0.113.1", b"t" * 20, 10.0)
    assert tokens.holds(token, "203.0.113.1", b"t" * 20, 11.0)
    assert not tokens.holds(token, "203.0.113.2", b"t" * 20, 11.0)
    assert not tokens.holds(token, "203.0.113.1", b"u" * 20, 11.0)
    assert not tokens.holds(b"", "203.0.113.1", b"t" * 20, 11.0)
    assert tokens.holds(token, "203.0.113.1", b"t" * 20, limits.DHT_TOKEN_SECONDS + 1)
    assert not tokens.holds(token, "203.0.113.1", b"t" * 20, 2 * limits.DHT_TOKEN_SECONDS + 1)
    assert not tokens.holds(token, "203.0.113.1", b"t" * 20, 1e6)


def test_a_source_that_asks_too_often_is_not_answered_and_others_are() -> None:
    guard = Guard(0.0)
    admitted = sum(guard.admit(A, 100, 1.0) for _ in range(2000))
    assert admitted == limits.DHT_QUERY_BURST
    assert guard.admit(B, 100, 1.0)
    assert guard.admit(A, 100, 2.0)


def test_a_proven_source_is_limited_by_the_upload_cap_only() -> None:
    guard = Guard(0.0, upload=10_000)
    guard.admit(A, 100, 1.0)
    assert guard.allowance(A, 1.0) == limits.DHT_FIRST_BYTES + 300
    guard.proven(A, 1.0)
    assert guard.allowance(A, 1.0) == 20_000
    guard.spend(A, 20_000, 1.0)
    assert guard.allowance(A, 1.0) == 0
    assert guard.allowance(A, 2.0) == 10_000


@pytest.mark.parametrize(
    ("host", "last", "head"),
    [  # the examples of BEP 42
        ("124.31.75.21", 1, "5fbfb8"),
        ("21.75.31.124", 86, "5a3ce8"),
        ("65.23.51.170", 22, "a5d430"),
        ("84.124.73.14", 65, "1b0320"),
        ("43.213.53.83", 90, "e56f68"),
    ],
)
def test_ids_that_follow_from_an_address(host: str, last: int, head: str) -> None:
    node_id = id_for_address(host, bytes(19) + bytes([last]))
    assert node_id[:3].hex() == head  # with the three free bits zero
    assert follows_address(node_id, host)
    assert not follows_address(bytes([node_id[0] ^ 1]) + node_id[1:], host)
    assert id_for_address("127.0.0.1", b"\x07" * 20) == b"\x07" * 20


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("8.8.8.8", Scope.GLOBAL),
        ("127.9.9.9", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("10.1.2.3", Scope.LOCAL),
        ("172.31.0.1", Scope.LOCAL),
        ("192.168.1.1", Scope.LOCAL),
        ("169.254.169.254", Scope.LOCAL),
        ("100.64.0.1", Scope.LOCAL),
        ("fe80::1", Scope.LOCAL),
        ("fd00::1", Scope.LOCAL),
        ("2001:db8::1", Scope.GLOBAL),
        ("0.0.0.0", Scope.UNUSABLE),
        ("255.255.255.255", Scope.UNUSABLE),
        ("224.0.0.1", Scope.UNUSABLE),
        ("::", Scope.UNUSABLE),
        ("ff02::1", Scope.UNUSABLE),
        ("::ffff:1.2.3.4", Scope.UNUSABLE),
        ("localhost", Scope.UNUSABLE),
    ],
)
def test_scopes(host: str, scope: Scope) -> None:
    assert scope_of(host) is scope


def test_a_stranger_cannot_point_us_into_this_machine_or_this_lan() -> None:
    assert may_name(("8.8.8.8", 1), ("9.9.9.9", 1))
    assert may_name(("127.0.0.1", 1), ("127.0.0.2", 1))
    assert may_name(("127.0.0.1", 1), ("9.9.9.9", 1))
    for inner in ("127.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "224.0.0.1"):
        assert not may_name(("8.8.8.8", 1), (inner, 80))
    assert not may_name(("192.168.1.2", 1), ("127.0.0.1", 80))
    assert not may_name(("8.8.8.8", 1), ("9.9.9.9", 0))


@pytest.mark.parametrize("endpoint", [("203.0.113.1", 6881), ("2001:db8::1", 65535), ("::1", 1)])
def test_compact_addresses_round_trip(endpoint: Endpoint) -> None:
    packed = pack_endpoint(endpoint)
    assert len(packed) == (18 if family_of(endpoint[0]) == 6 else 6)
    assert unpack_endpoint(packed) == endpoint


def test_prefixes_and_sources() -> None:
    assert prefix_of("203.0.113.9") == prefix_of("203.0.113.77") != prefix_of("203.0.114.9")
    assert prefix_of("2001:db8::1") == prefix_of("2001:db8::ffff:1") != prefix_of("2001:db8:0:1::1")
    assert prefix_of("127.0.0.1") is prefix_of("::1") is None
    assert source_of(("203.0.113.9", 1)) == source_of(("203.0.113.9", 2))
    assert source_of(("127.0.0.1", 1)) != source_of(("127.0.0.1", 2))


def test_the_timeout_follows_the_round_trips_within_its_bounds() -> None:
    estimate = RoundTrip()
    assert estimate.timeout == 0.5
    for _ in range(50):
        estimate.sample(0.001)
    assert estimate.timeout == 0.05
    for _ in range(50):
        estimate.sample(30.0)
    assert estimate.timeout == 2.0


def test_the_answers_of_bep_5_and_44() -> None:
    asker = Asker(machine(DatagramNetwork(1)))
    assert asker.error_of(b"vote") == 204
    assert asker.error_of(b"get") == 203
    assert asker.error_of(b"announce_peer", info_hash=b"h" * 20, port=1, token=b"wrong") == 203
    assert asker.error_of(b"announce_peer", info_hash=b"h" * 20, port=70000, token=b"wrong") == 203
    answer = asker.ask(b"get_peers", info_hash=b"h" * 20)
    assert answer is not None
    assert answer[b"ip"] == pack_endpoint(ASKER)
    assert b"values" not in answer[b"r"]
    token = answer[b"r"][b"token"]
    assert asker.ask(b"announce_peer", info_hash=b"h" * 20, port=1, implied_port=1, token=token) is not None
    again = asker.ask(b"get_peers", info_hash=b"h" * 20)
    assert again is not None
    assert again[b"r"][b"values"] == [pack_endpoint(ASKER)]


def test_a_get_with_a_seq_is_spared_what_it_knows() -> None:
    asker = Asker(machine(DatagramNetwork(1)))
    assert asker.put(item(5)) is not None
    for known, full in ((4, True), (5, False), (6, False)):
        answer = asker.ask(b"get", target=item().target, seq=known)
        assert answer is not None
        assert answer[b"r"][b"seq"] == 5
        assert (b"v" in answer[b"r"]) is full


def test_a_node_takes_an_id_that_follows_from_the_address_that_many_report() -> None:
    """BEP 42: enough answers, from different networks, name the same address of ours."""
    network = DatagramNetwork(3)
    node = machine(network)
    assert node.maintenance is not None
    before = node.node_id
    for number in range(7):
        node.maintenance.observe(address_of(number), ("5.6.7.8", 1), 1.0)
        node.maintenance.observe(address_of(number), ("5.6.7.8", 1), 1.0)
    assert node.node_id == before
    node.maintenance.observe(address_of(8), ("5.6.7.8", 1), 1.0)
    assert node.node_id != before
    assert follows_address(node.node_id, "5.6.7.8")
    assert node.tables[4].node.id == node.node_id
