"""Interoperation with libtorrent's own DHT, both ways: items, peers, and a record that outlives its first holders."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import libtorrent as lt
import pytest
import trio

from libreseed import bencode
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.dht.items import SignedItem, sign_item
from libreseed.ids import PackageName, PublicKey, Signature
from libreseed.keys.ed25519 import PrivateKey

pytestmark = pytest.mark.integration

KEY = PrivateKey(b"\x21" * 32)
SALT = b"m:tool@1.0.0"
TEXT = b'{"some":"minimal manifest"}' * 20
Endpoint = tuple[str, int]


def _item(seq: int = 1_700_000_000_000) -> SignedItem:
    return sign_item(KEY, SALT, seq, bencode.encode(TEXT))


class Foreign:
    """A libtorrent session of which only the DHT is used; settings for several nodes on loopback."""

    def __init__(self, host: str) -> None:
        category = lt.alert.category_t
        self.session = lt.session(
            {
                "listen_interfaces": f"{host}:0",
                "enable_dht": True,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "dht_bootstrap_nodes": "",
                "dht_restrict_routing_ips": False,
                "dht_restrict_search_ips": False,
                "alert_mask": int(category.dht_notification | category.dht_operation_notification),
            }
        )
        self.host = host

    @property
    def address(self) -> Endpoint:
        return self.host, self.session.listen_port()

    def meet(self, *others: Endpoint) -> None:
        for other in others:
            self.session.add_dht_node(other)

    @property
    def node_count(self) -> int:
        state = lt.bdecode(lt.write_session_params_buf(self.session.session_state()))
        nodes: bytes = state.get(b"dht state", {}).get(b"nodes", [])
        return len(nodes)

    async def first(self, kind: type, accept: Callable[[Any], bool]) -> Any:
        """The next alert of a kind that is accepted; the test's limit is the caller's."""
        while True:
            for alert in self.session.pop_alerts():
                if isinstance(alert, kind) and accept(alert):
                    return alert
            await trio.sleep(0.02)

    async def get(self, pubkey: PublicKey, salt: bytes) -> Any:
        """The first item that is no mere "nothing found": asked again while the session gets to know others."""
        while True:
            self.session.dht_get_mutable_item(pubkey.raw, salt)
            with trio.move_on_after(0.5):
                return await self.first(lt.dht_mutable_item_alert, lambda alert: alert.seq > 0)


@asynccontextmanager
async def _foreign_network(count: int, net: str) -> AsyncGenerator[list[Foreign], None]:
    foreign = [Foreign(f"{net}.{number + 1}") for number in range(count)]
    while not all(node.session.is_dht_running() and node.address[1] for node in foreign):
        await trio.sleep(0.02)
    while any(node.node_count < min(count - 1, 3) for node in foreign):
        for node in foreign:
            node.meet(*[other.address for other in foreign if other is not node][:4])
        await trio.sleep(0.2)
    yield foreign
    for node in foreign:
        node.session.pause()
    del foreign


@asynccontextmanager
async def _our_network(count: int, net: str, *bootstrap: Endpoint) -> AsyncGenerator[list[DhtNode], None]:
    async with trio.open_nursery() as nursery:
        nodes: list[DhtNode] = []
        for number in range(count):
            known = bootstrap or tuple(node.addresses[0] for node in nodes[:2])
            node = DhtNode(DhtOptions(listen=((f"{net}.{number + 1}", 0),), bootstrap=known))
            await nursery.start(node.run)
            nodes.append(node)
        yield nodes
        nursery.cancel_scope.cancel()


async def _client(nursery: trio.Nursery, *bootstrap: Endpoint) -> DhtNode:
    client = DhtNode(DhtOptions(listen=(("127.0.0.1", 0),), bootstrap=bootstrap, client=True))
    await nursery.start(client.run)
    return client


async def _confirmed_put(node: DhtNode, item: SignedItem, least: int) -> int:
    """Put until ``least`` nodes give it back: libtorrent limits how much it answers while nodes get acquainted."""
    while (confirmed := (await node.put_item(item)).confirmed) < least:
        await trio.sleep(0.2)
    return confirmed


async def test_libtorrent_fetches_our_item_and_its_signature_holds() -> None:
    with trio.fail_after(60):
        async with _our_network(4, "127.0.21") as nodes:
            await _confirmed_put(nodes[0], _item(), 3)
            async with _foreign_network(1, "127.0.22") as [foreign]:
                foreign.meet(*[node.addresses[0] for node in nodes])
                alert = await foreign.get(KEY.public, SALT)
    received = SignedItem(  # proves the signature over exactly what libtorrent handed out
        PublicKey(bytes(alert.key)),
        bytes(alert.salt),
        alert.seq,
        bencode.encode(alert.item),
        Signature(bytes(alert.signature)),
    )
    assert received == _item()


async def test_our_client_finds_a_record_in_a_network_of_libtorrent_nodes_only() -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            async with _foreign_network(6, "127.0.23") as foreign:
                putter = await _client(nursery, *[node.address for node in foreign[:2]])
                assert await _confirmed_put(putter, _item(), 3) >= 3
                finder = await _client(nursery, foreign[5].address)
                found = None
                while found is None:
                    found = await finder.get_item(KEY.public, SALT)
                assert found == _item()
        nursery.cancel_scope.cancel()


async def test_an_item_that_libtorrent_signed_is_found_by_us() -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            async with _foreign_network(5, "127.0.24") as foreign:
                foreign[0].session.dht_put_mutable_item(KEY.expanded(), KEY.public.raw, b"from libtorrent", b"s")
                client = await _client(nursery, foreign[3].address)
                found = None
                while found is None:
                    found = await client.get_item(KEY.public, b"s")
                assert bencode.decode(found.value, max_bytes=100) == b"from libtorrent"
        nursery.cancel_scope.cancel()


async def test_a_record_put_again_without_its_key_outlives_the_packager_and_the_first_holders() -> None:
    """Everything that took part in the first put goes; only a node that read the item and holds no key is left."""
    with trio.fail_after(90):
        async with _foreign_network(4, "127.0.25") as late:
            async with _our_network(1, "127.0.26", *[node.address for node in late]) as [keeper]:
                async with trio.open_nursery() as nursery:
                    async with _our_network(3, "127.0.27") as first:
                        packager = await _client(nursery, first[0].addresses[0])
                        await _confirmed_put(packager, _item(), 3)
                        reader = await _client(nursery, first[1].addresses[0])
                        kept = await reader.get_item(KEY.public, SALT)
                    nursery.cancel_scope.cancel()
                assert kept == _item()
                await _confirmed_put(keeper, kept, 3)
            alert = await late[2].get(KEY.public, SALT)
            assert alert.seq == _item().seq


async def test_a_name_is_discovered_through_libtorrent_nodes_only() -> None:
    text = b'{"name":"tool","protocol":"libreseed-index-v1","versions":["1.0.0"]}'
    index = sign_item(KEY, b"i:tool", 3, bencode.encode(text))
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            async with (
                _foreign_network(5, "127.0.30") as foreign,
                _our_network(1, "127.0.31", *[node.address for node in foreign]) as [holder],
            ):
                holder.set_records(lambda name: [index])
                while await holder.announce_name(PackageName("tool")) < 3:
                    await trio.sleep(0.1)
                client = await _client(nursery, foreign[4].address)
                while await client.find_records(PackageName("tool")) != [index]:
                    await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


async def test_peers_announced_by_libtorrent_are_found_by_us_and_the_other_way_round() -> None:
    theirs, ours = b"\x31" * 20, b"\x32" * 20
    with trio.fail_after(60):
        async with (
            _foreign_network(5, "127.0.28") as foreign,
            _our_network(1, "127.0.29", *[node.address for node in foreign]) as [node],
        ):
            foreign[0].session.dht_announce(lt.sha1_hash(theirs), 7007, 0)
            while ("127.0.28.1", 7007) not in await node.get_peers(theirs):
                await trio.sleep(0.1)
            while await node.announce_peer(ours, 7008) < 3:
                await trio.sleep(0.1)
            foreign[4].session.dht_get_peers(lt.sha1_hash(ours))
            alert = await foreign[4].first(
                lt.dht_get_peers_reply_alert, lambda alert: alert.info_hash == lt.sha1_hash(ours)
            )
            assert ("127.0.29.1", 7008) in alert.peers()
