"""Step 2: find the minimal manifest of a release in the DHT, under a believed publisher's key or by its name alone.

What comes back is bytes and claims; :mod:`libreseed.resolve.engine` judges them. Nothing is believed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import trio

from libreseed import bencode, limits
from libreseed.dht.items import SignedItem
from libreseed.dht.records import manifest_salt, minimal_from_item
from libreseed.errors import LibreSeedError, NotFound, RecordRejected
from libreseed.ids import PackageName, PublicKey, ReleaseId
from libreseed.resolve.engine import FoundRecord
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis, untrusted

__all__ = ["RecordSource", "find_record"]


class RecordSource(Protocol):
    """What is needed of a DHT node."""

    async def get_item(self, pubkey: PublicKey, salt: bytes) -> SignedItem | None: ...  # noqa: D102
    async def find_records(self, name: PackageName) -> Sequence[SignedItem]: ...  # noqa: D102


async def find_record(source: RecordSource, request: Request, basis: TrustBasis | None) -> FoundRecord:
    """The record of the requested release by the first believed publisher who has one.

    Raises ``trust.unknown-publisher`` (21) with the publishers found when nobody is believed for the name, and
    ``notfound.record`` (10) when there is no record.
    """
    if basis is None:
        raise await _refusal(source, request)
    found = await _by_key(source, request.release, basis.keys) or await _by_name(source, request.release, basis.keys)
    if found is None:
        keys = ", ".join(str(key) for key in basis.keys)
        raise NotFound("notfound.record", f"no record of {request.release} by {keys} was found in the DHT")
    return found


async def _by_key(source: RecordSource, release: ReleaseId, keys: Sequence[PublicKey]) -> FoundRecord | None:
    items: dict[PublicKey, SignedItem] = {}

    async def look_up(key: PublicKey) -> None:
        item = await source.get_item(key, manifest_salt(release))
        if item is not None:
            items[key] = item

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(look_up, key)
    return next((_found(items[key], "dht") for key in keys if key in items), None)


async def _by_name(source: RecordSource, release: ReleaseId, keys: Sequence[PublicKey]) -> FoundRecord | None:
    """Name discovery: a record that the DHT's nodes have forgotten may still be held by its seeders."""
    items = _of_release(await source.find_records(release.name), release)
    for key in keys:
        mine = [item for item in items if item.pubkey == key]
        if mine:
            return _found(max(mine, key=lambda item: item.seq), "name discovery")
    return None


async def _refusal(source: RecordSource, request: Request) -> LibreSeedError:
    """Nobody is believed: name who claims the release, with the command that pins each."""
    claims: list[PublicKey] = []
    for item in _of_release(await source.find_records(request.release.name), request.release):
        if item.pubkey not in claims and _is_sound(item):
            claims.append(item.pubkey)
    if not claims:
        return NotFound("notfound.record", f"nobody who was asked knows {request.release}")
    return untrusted(request, claims)


def _of_release(items: Iterable[SignedItem], release: ReleaseId) -> list[SignedItem]:
    salt = manifest_salt(release)
    return [item for item in items if item.salt == salt]


def _is_sound(item: SignedItem) -> bool:
    """Whether a stranger's record is worth listing to the user; what is listed is still not believed."""
    try:
        minimal_from_item(item)
    except RecordRejected:
        return False
    return True


def _found(item: SignedItem, source: str) -> FoundRecord:
    value = bencode.decode(item.value, max_bytes=limits.ITEM_VALUE_BYTES)
    if not isinstance(value, bytes):
        raise RecordRejected("dhtrecord.type", "the DHT item's value is not a text").at_step(2)
    return FoundRecord(item.pubkey, value, item.seq, source)
