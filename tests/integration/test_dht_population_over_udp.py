"""Two hundred nodes on real sockets: a third, then half of them vanish, and every record is still found."""

from __future__ import annotations

import random

import pytest
import trio

from libreseed import bencode
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.dht.items import SignedItem, sign_item
from libreseed.keys.ed25519 import PrivateKey

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KEY = PrivateKey(b"\x51" * 32)
COUNT = 200


class _Member:
    """A node and the scope that switches it off."""

    def __init__(self, host: str, known: tuple[tuple[str, int], ...]) -> None:
        self.node = DhtNode(DhtOptions(listen=((host, 0),), bootstrap=known))
        self.scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            await self.node.run(task_status=task_status)


async def _found(members: list[_Member], items: list[SignedItem], draw: random.Random) -> int:
    found = 0
    for item in items:
        found += await draw.choice(members).node.get_item(KEY.public, item.salt) == item
    return found


async def test_every_record_is_found_with_a_third_and_with_half_of_the_nodes_gone() -> None:
    draw = random.Random(5)
    items = [sign_item(KEY, b"m:%d" % number, 5, bencode.encode(b"x" * 900)) for number in range(100)]
    members: list[_Member] = []
    async with trio.open_nursery() as nursery:
        for number in range(COUNT):
            known = tuple({draw.choice(members[:10]).node.addresses[0] for _ in range(min(2, number))})
            members.append(_Member(f"127.1.{number // 200}.{number % 200 + 1}", known))
            await nursery.start(members[-1].run)
        while min(member.node.node_count for member in members) < 20:
            await trio.sleep(0.2)
        for item in items:
            assert (await draw.choice(members).node.put_item(item)).confirmed >= 12
        for gone, least in ((COUNT * 3 // 10, 100), (COUNT // 2, 99)):
            draw.shuffle(members)
            while len(members) > COUNT - gone:
                members.pop().scope.cancel()
            assert await _found(members, items, draw) >= least
        nursery.cancel_scope.cancel()
