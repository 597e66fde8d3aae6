"""Name discovery asks strangers who say that they hold a name: they lie, they forge, and they never come to an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from libreseed import bencode, limits
from libreseed.dht.addresses import Endpoint, pack_endpoint
from libreseed.dht.items import SignedItem
from libreseed.dht.krpc import Query
from libreseed.dht.requests import Listed, list_records
from libreseed.ids import PackageName
from libreseed.keys.ed25519 import PrivateKey
from libreseed.testing.network import DatagramNetwork, address_of
from tests.unit.dht.dht_support import Liar, item, machine, respond

NAME = PackageName("tool")
HUB, CLIENT = address_of(1), address_of(2)
Page = Callable[[int], list[dict[str, Any]]]  # cursor -> the records listed


def listed(record: SignedItem, **changes: Any) -> dict[str, Any]:
    value = bencode.decode(record.value, max_bytes=1000)
    fields = {"k": record.pubkey.raw, "salt": record.salt, "seq": record.seq, "sig": record.signature.raw, "v": value}
    return fields | changes


def discover(page: Page, *, holders: int = 1, endless: bool = False) -> tuple[Listed, Counter[Endpoint]]:
    """Look for ``NAME`` where ``holders`` nodes claim to hold it; also how often each of them was asked."""
    network = DatagramNetwork(1)
    asked: Counter[Endpoint] = Counter()
    addresses = [address_of(1000 + 256 * number) for number in range(holders)]
    values = [pack_endpoint(address) for address in addresses]
    Liar(lambda query, source: respond(query, source, b"\1" * 20, nodes=b"", values=values, token=b"t")).on(
        network, HUB
    )

    def holder(address: Endpoint) -> Callable[[Query, Endpoint], bytes]:
        def answer(query: Query, source: Endpoint) -> bytes:
            asked[address] += query.method == b"ls_records"
            cursor = query.args.get(b"cursor", 0)
            more = {"next": cursor + 1} if endless else {}
            return respond(query, source, b"\2" * 20, token=b"t", n=2**31, records=page(cursor), **more)

        return answer

    for address in addresses:
        Liar(holder(address)).on(network, address)
    client = network.attach(CLIENT, machine(network, client=True, bootstrap=(HUB,)))
    result = network.finish(client, list_records(client.machine, NAME))
    assert isinstance(result, Listed)
    assert client.machine.pending_count == 0
    return result, asked


def test_an_honest_holder_is_believed_as_far_as_its_signatures_go() -> None:
    """Else the lies below would be refused for the wrong thing."""
    result, _ = discover(lambda _: [listed(item(5))])
    assert result.items == (item(5),)


def test_forged_and_broken_records_are_dropped_one_by_one() -> None:
    good = item(5)
    lies = [
        listed(good, seq=6),
        listed(good, v=b"evil"),
        listed(good, salt=b"m:tool@9.9.9"),
        listed(good, k=PrivateKey(b"\x66" * 32).public.raw),
        listed(good, sig=bytes(64)),
        listed(good, k=b"short"),
        listed(good, salt=b""),
        listed(good, seq=-1),
        {},
    ]
    assert discover(lambda _: [*lies, listed(good)])[0].items == (good,)
    assert discover(lambda _: lies)[0].items == ()


def test_an_old_record_does_not_displace_a_newer_one() -> None:
    assert discover(lambda _: [listed(item(9)), listed(item(5))])[0].items == (item(9),)


def test_a_list_without_end_is_left_after_a_bound() -> None:
    result, asked = discover(lambda cursor: [listed(item(salt=b"m:%d" % cursor))], endless=True)
    assert len(result.items) <= limits.DHT_LISTED_RECORDS
    assert max(asked.values()) <= 2 * limits.DHT_LISTED_RECORDS  # a page that is late is asked for again


def test_a_crowd_of_holders_costs_a_bounded_number_of_questions_and_records() -> None:
    def page(cursor: int) -> list[dict[str, Any]]:
        return [listed(item(salt=b"m:%d.%d" % (cursor, number))) for number in range(3)]

    result, asked = discover(page, holders=40, endless=True)
    assert len(asked) == limits.DHT_DISCOVERY_PEERS
    assert len(result.items) <= limits.DHT_FOUND_RECORDS
