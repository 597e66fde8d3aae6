"""Asks the DHT for everything that anybody says about a name: its holders' records, and the indexes of known keys.

Believes nothing of it (:mod:`libreseed.resolve.offers` sorts it). DESIGN 3.8, name discovery and release index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import trio

from libreseed.dht.items import SignedItem
from libreseed.dht.records import index_salt
from libreseed.ids import PackageName, PublicKey

__all__ = ["ItemSource", "items_about"]


class ItemSource(Protocol):
    """What is needed of a DHT node."""

    async def get_item(self, pubkey: PublicKey, salt: bytes) -> SignedItem | None: ...  # noqa: D102
    async def find_records(self, name: PackageName) -> list[SignedItem]: ...  # noqa: D102


async def items_about(source: ItemSource, name: PackageName, keys: Iterable[PublicKey]) -> list[SignedItem]:
    """Every signed item about ``name``; raises ``source.no-bootstrap`` (11) when no node answers.

    ``keys`` are publishers whose index is looked up by key: it outlives all holders of their records.
    """
    found: list[SignedItem] = []

    async def indexed(key: PublicKey) -> None:
        item = await source.get_item(key, index_salt(name))
        if item is not None:
            found.append(item)

    async def held() -> None:
        found.extend(await source.find_records(name))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(held)
        for key in dict.fromkeys(keys):
            nursery.start_soon(indexed, key)
    return found
