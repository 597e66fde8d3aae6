"""The DHT node on real sockets: what one node puts, any client finds; errors of the network are survived."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from libreseed import bencode
from libreseed.adapters.dht.dht_state import load_nodes
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.dht import krpc
from libreseed.dht.items import SignedItem, sign_item
from libreseed.dht.records import index_salt
from libreseed.errors import LocalFault, TransportFault
from libreseed.ids import PackageName
from libreseed.keys.ed25519 import PrivateKey

pytestmark = pytest.mark.integration

KEY = PrivateKey(b"\x11" * 32)
NAME = PackageName("tool")


def _item(seq: int = 5, salt: bytes = b"m:tool@1.0.0", value: bytes = b"hello") -> SignedItem:
    return sign_item(KEY, salt, seq, bencode.encode(value))


def _index() -> SignedItem:
    text = b'{"name":"tool","protocol":"libreseed-index-v1","versions":["1.0.0"]}'
    return sign_item(KEY, index_salt(NAME), 3, bencode.encode(text))


async def _settled(condition: Callable[[], bool]) -> None:
    """Wait for a state that datagrams on loopback bring about; the test's own timeout is the limit."""
    while not condition():  # nothing to wait on: the state belongs to other nodes
        await trio.sleep(0.01)


@asynccontextmanager
async def _network(count: int, net: str = "127.0.1") -> AsyncGenerator[tuple[trio.Nursery, list[DhtNode]], None]:
    async with trio.open_nursery() as nursery:
        nodes: list[DhtNode] = []
        for number in range(count):
            bootstrap = tuple(node.addresses[0] for node in nodes[:2])
            node = DhtNode(DhtOptions(listen=((f"{net}.{number + 1}", 0),), bootstrap=bootstrap))
            await nursery.start(node.run)
            nodes.append(node)
        with trio.fail_after(30):
            await _settled(lambda: all(node.node_count >= min(count - 1, 3) for node in nodes))
        yield nursery, nodes
        nursery.cancel_scope.cancel()


async def _client(nursery: trio.Nursery, *bootstrap: tuple[str, int]) -> DhtNode:
    client = DhtNode(DhtOptions(listen=(("127.0.0.1", 0),), bootstrap=bootstrap, client=True))
    await nursery.start(client.run)
    return client


async def test_a_client_finds_what_a_node_put_through_any_other_node() -> None:
    async with _network(6) as (nursery, nodes):
        report = await nodes[1].put_item(_item())
        assert (report.asked, report.accepted, report.confirmed, report.newer) == (5, 5, 5, None)
        client = await _client(nursery, nodes[4].addresses[0])
        assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()
        assert await client.get_item(KEY.public, b"m:tool@2.0.0") is None
        assert await client.get_item(KEY.public, b"m:tool@1.0.0", min_seq=6) is None


async def test_a_network_of_one_node_answers_for_itself() -> None:
    async with _network(1) as (nursery, [node]):
        assert (await node.put_item(_item())).asked == 0
        assert await node.announce_peer(b"h" * 20, 6881) == 0
        await node.announce_name(NAME)
        node.set_records(lambda name: [_index()])
        client = await _client(nursery, node.addresses[0])
        assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()
        assert await client.get_peers(b"h" * 20) == [(node.addresses[0][0], 6881)]
        assert await client.find_records(NAME) == [_index()]


async def test_peers_are_announced_and_streamed() -> None:
    async with _network(5) as (nursery, nodes):
        assert await nodes[0].announce_peer(b"h" * 20, 7001) == 4
        assert await nodes[1].announce_peer(b"h" * 20, None) == 4
        client = await _client(nursery, nodes[3].addresses[0])
        expected = {(nodes[0].addresses[0][0], 7001), nodes[1].addresses[0]}
        assert set(await client.get_peers(b"h" * 20)) == expected
        async with aclosing(client.iter_peers(b"h" * 20)) as peers:
            assert {peer async for peer in peers} == expected


async def test_name_discovery_lists_the_signed_records_of_every_holder() -> None:
    other = sign_item(PrivateKey(b"\x12" * 32), b"i:tool", 9, _index().value)
    junk = _item()  # signed, but no record of a name
    async with _network(5) as (nursery, nodes):
        nodes[0].set_records(lambda name: [_index(), junk] if name == NAME else [])
        nodes[1].set_records(lambda name: [other] if name == NAME else [])
        for node in nodes[:2]:
            await node.announce_name(NAME)
        client = await _client(nursery, nodes[3].addresses[0])
        assert set(await client.find_records(NAME)) == {_index(), other}
        assert await client.find_records(PackageName("nothing")) == []


async def test_a_newer_item_stops_the_put_of_an_older_one() -> None:
    async with _network(4) as (_, nodes):
        await nodes[0].put_item(_item(seq=9))
        report = await nodes[1].put_item(_item(seq=8))
        assert (report.asked, report.newer) == (0, _item(seq=9))


async def test_nobody_to_bootstrap_from_is_said() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            client = await _client(nursery, silent.getsockname())
            with pytest.raises(TransportFault) as caught:
                await client.get_item(KEY.public, b"m:tool@1.0.0")
            assert (caught.value.reason, caught.value.exit_code) == ("source.no-bootstrap", 11)
            with pytest.raises(TransportFault):
                await client.get_peers(b"h" * 20)
            nursery.cancel_scope.cancel()


async def test_a_closed_port_answers_with_icmp_and_is_survived() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        closed = gone.getsockname()
    async with _network(1) as (nursery, [node]):
        await node.put_item(_item())
        client = await _client(nursery, closed, node.addresses[0])
        assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()
        assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()


async def test_an_occupied_port_is_named_and_nothing_stays_bound() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        node = DhtNode(DhtOptions(listen=(("127.0.0.3", 0), holder.getsockname())))
        with pytest.raises(LocalFault) as caught:
            await node.run()
        assert (caught.value.reason, caught.value.exit_code) == ("config.port", 3)
        assert node.addresses == ()


async def test_cancelling_a_lookup_leaves_the_node_working_and_nothing_pending() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with _network(1) as (nursery, [node]):
            client = await _client(nursery, silent.getsockname(), node.addresses[0])
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.get_item(KEY.public, b"m:tool@1.0.0")
            with trio.move_on_after(0.02):
                await client.get_item(KEY.public, b"m:nowhere")
            assert client._waiters == {}
            await node.put_item(_item())
            assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()


async def test_after_a_standstill_of_this_machine_what_has_arrived_counts(mock_clock: trio.testing.MockClock) -> None:
    """The answer lies in the socket when the machine goes on, long after the query: nobody was silent."""
    it = _item()
    for _ in range(10):  # which task comes first is drawn
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            holder.bind(("127.0.0.1", 0))
            async with trio.open_nursery() as nursery:
                client = await _client(nursery, holder.getsockname())
                found: list[SignedItem | None] = []

                async def get(client: DhtNode = client, found: list[SignedItem | None] = found) -> None:
                    found.append(await client.get_item(KEY.public, it.salt))

                nursery.start_soon(get)
                await trio.testing.wait_all_tasks_blocked()
                data, asker = holder.recvfrom(2000)
                query = krpc.parse(data)
                assert isinstance(query, krpc.Query)
                fields: krpc.Fields = {b"k": KEY.public.raw, b"sig": it.signature.raw, b"seq": it.seq, b"v": b"hello"}
                mock_clock.jump(20)
                holder.sendto(krpc.encode_response(query.transaction, fields | {b"id": b"x" * 20}, asker), asker)
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
            assert found == [it]


async def test_good_nodes_are_saved_as_json_and_used_without_any_bootstrap(tmp_path: Path) -> None:
    state = tmp_path / "dht.json"
    async with _network(4) as (_, nodes):
        await nodes[0].put_item(_item())
        async with trio.open_nursery() as nursery:
            first = DhtNode(DhtOptions(listen=(("127.0.2.1", 0),), bootstrap=nodes[0].addresses, state_file=state))
            await nursery.start(first.run)
            with trio.fail_after(30):
                await _settled(lambda: first.node_count >= 4)
            nursery.cancel_scope.cancel()
        saved = load_nodes(state)
        assert {info.endpoint for info in saved.nodes} == {node.addresses[0] for node in nodes}
        async with trio.open_nursery() as nursery:
            again = DhtNode(DhtOptions(listen=(("127.0.2.1", 0),), state_file=state))
            await nursery.start(again.run)
            assert await again.get_item(KEY.public, b"m:tool@1.0.0") == _item()
            nursery.cancel_scope.cancel()
        assert load_nodes(state).node_id == saved.node_id


async def test_both_address_families_in_one_node() -> None:
    async with trio.open_nursery() as nursery:
        both = DhtNode(DhtOptions(listen=(("127.0.0.1", 0), ("::1", 0))))
        await nursery.start(both.run)
        four, six = both.addresses
        narrow = DhtNode(DhtOptions(listen=(("::1", 0),), bootstrap=(six,)))
        await nursery.start(narrow.run)
        old = DhtNode(DhtOptions(listen=(("127.0.0.2", 0),), bootstrap=(four,)))
        await nursery.start(old.run)
        with trio.fail_after(30):
            await _settled(lambda: both.node_count == 2 and old.node_count == narrow.node_count == 1)
        report = await both.put_item(_item())
        assert report.confirmed == 2
        for bootstrap in (narrow.addresses[0], old.addresses[0]):
            client = DhtNode(DhtOptions(client=True, bootstrap=(bootstrap,)))
            await nursery.start(client.run)
            assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()
        nursery.cancel_scope.cancel()


async def test_a_bootstrap_name_is_resolved_before_the_first_lookup() -> None:
    async with trio.open_nursery() as nursery:
        node = DhtNode(DhtOptions(listen=(("127.0.0.1", 0),)))  # where "localhost" leads to
        await nursery.start(node.run)
        await node.put_item(_item())
        client = await _client(nursery, ("localhost", node.addresses[0][1]))
        assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()
        nursery.cancel_scope.cancel()


async def test_junk_and_giant_datagrams_leave_the_socket_and_the_node_as_they_were() -> None:
    draw = random.Random(1)
    async with _network(2) as (nursery, nodes):
        await nodes[0].put_item(_item())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.bind(("127.0.0.9", 0))
            for _ in range(500):
                attacker.sendto(draw.randbytes(draw.randrange(200)), nodes[0].addresses[0])
            for junk in (
                b"",
                b"le" * 30_000,
                b"l" * 30_000 + b"e" * 30_000,
                b"d1:t1:a1:y1:re",
                b"\0" + b"x" * 20 + b"\xc1",
            ):
                attacker.sendto(junk, nodes[0].addresses[0])
            client = await _client(nursery, nodes[0].addresses[0])
            assert await client.get_item(KEY.public, b"m:tool@1.0.0") == _item()
            assert nodes[0].node_count == 1


async def test_a_node_that_is_stopped_gives_its_port_back_and_can_be_followed_by_another() -> None:
    async with _network(1) as (_, [node]):
        address = node.addresses[0]
    async with trio.open_nursery() as nursery:
        again = DhtNode(DhtOptions(listen=(address,)))
        await nursery.start(again.run)
        assert again.addresses == (address,)
        nursery.cancel_scope.cancel()
