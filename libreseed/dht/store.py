"""What a node keeps for others: mutable items and peer announcements, bounded and expiring.

Every entry counts against its source (an IP address) and, for items, against its publisher's key. A full store makes
room only by taking from a source that holds more than the newcomer, so that a flood displaces its own entries.
Callers have checked the token; items are proven by construction (:mod:`libreseed.dht.items`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from libreseed import limits
from libreseed.dht.addresses import Endpoint, family_of, source_of
from libreseed.dht.items import SignedItem
from libreseed.dht.krpc import ErrorCode

__all__ = ["ItemStore", "PeerStore", "Refused"]


class Refused(Exception):
    """A query that is answered with an error: ``code`` of BEP 5 or 44, ``words`` for a person at the other end."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


_Name = TypeVar("_Name", str, bytes)


@dataclass(slots=True)
class _Held:
    item: SignedItem
    source: str
    expires: float


class ItemStore:
    """Mutable items by target, ordered by the time of their last put."""

    def __init__(
        self,
        capacity: int = limits.DHT_ITEMS,
        capacity_bytes: int = limits.DHT_ITEM_STORE_BYTES,
        *,
        share: int = limits.DHT_ITEMS_PER_SOURCE,
        key_share: int = limits.DHT_ITEMS_PER_KEY,
    ) -> None:
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._share = share
        self._key_share = key_share
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._bytes = 0
        self._per_source: Counter[str] = Counter()
        self._per_key: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes held: values and salts."""
        return self._bytes

    def get(self, target: bytes, now: float) -> SignedItem | None:
        """The item at ``target``, unless it has expired."""
        held = self._held.get(target)
        return held.item if held is not None and held.expires > now else None

    def put(self, item: SignedItem, source: Endpoint, now: float, *, cas: int | None = None) -> None:
        """Keep ``item``, or renew it; raises :class:`Refused` with 301, 302 or 202 (BEP 44)."""
        self.expire(now)
        name = source_of(source)
        held = self._held.get(item.target)
        if held is not None:
            self._check_order(held.item, item, cas)
            name = held.source  # whoever re-puts it, it stays on the first source's account
        else:
            self._check_shares(item, name)
            self._make_room(item, name)
        if held is not None:
            self._drop(item.target)
        self._held[item.target] = _Held(item, name, now + limits.DHT_ITEM_SECONDS)
        self._bytes += _size(item)
        self._per_source[name] += 1
        self._per_key[item.pubkey.raw] += 1

    def expire(self, now: float) -> None:
        """Forget what was not put again in time."""
        while self._held:
            target, held = next(iter(self._held.items()))
            if held.expires > now:
                return
            self._drop(target)

    @staticmethod
    def _check_order(held: SignedItem, item: SignedItem, cas: int | None) -> None:
        if cas is not None and cas != held.seq:
            raise Refused(ErrorCode.CAS_MISMATCH, f"the item here has seq {held.seq}")
        if item.seq < held.seq or (item.seq == held.seq and item.value != held.value):
            raise Refused(ErrorCode.SEQ_TOO_LOW, f"the item here has seq {held.seq}")

    def _check_shares(self, item: SignedItem, source: str) -> None:
        if self._per_source[source] >= self._share:
            raise Refused(ErrorCode.SERVER, "this address has its share of the store")
        if self._per_key[item.pubkey.raw] >= self._key_share:
            raise Refused(ErrorCode.SERVER, "this key has its share of the store")

    def _make_room(self, item: SignedItem, source: str) -> None:
        while len(self._held) >= self._capacity or self._bytes + _size(item) > self._capacity_bytes:
            heaviest, count = max(self._per_source.items(), key=lambda pair: pair[1])
            if count <= self._per_source[source] + 1:
                raise Refused(ErrorCode.SERVER, "the store is full")
            self._drop(next(target for target, held in self._held.items() if held.source == heaviest))

    def _drop(self, target: bytes) -> None:
        held = self._held.pop(target)
        self._bytes -= _size(held.item)
        _decrement(self._per_source, held.source)
        _decrement(self._per_key, held.item.pubkey.raw)


class PeerStore:
    """Announced endpoints by info-hash, ordered by the time of the last announcement."""

    def __init__(self, capacity: int = limits.DHT_PEERS) -> None:
        self._capacity = capacity
        self._expires: OrderedDict[tuple[bytes, Endpoint], tuple[float, str]] = OrderedDict()
        self._peers: dict[bytes, dict[Endpoint, str]] = {}
        self._per_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._expires)

    def announce(self, info_hash: bytes, peer: Endpoint, now: float) -> None:
        """Keep ``peer`` under ``info_hash`` (20 bytes), or renew it; raises :class:`Refused` (202)."""
        self.expire(now)
        name = source_of(peer)
        entry = (info_hash, peer)
        if entry in self._expires:
            self._drop(entry)
        self._check_shares(info_hash, name)
        self._make_room(name)
        self._expires[entry] = (now + limits.DHT_PEER_SECONDS, name)
        self._peers.setdefault(info_hash, {})[peer] = name
        self._per_source[name] += 1

    def peers(self, info_hash: bytes, family: int, now: float) -> list[Endpoint]:
        """Peers of one family under ``info_hash``, the latest announced last."""
        self.expire(now)
        return [peer for peer in self._peers.get(info_hash, {}) if family_of(peer[0]) == family]

    def expire(self, now: float) -> None:
        """Forget who did not announce again in time."""
        while self._expires:
            entry, (expires, _) = next(iter(self._expires.items()))
            if expires > now:
                return
            self._drop(entry)

    def _check_shares(self, info_hash: bytes, source: str) -> None:
        held = self._peers.get(info_hash, {})
        if sum(name == source for name in held.values()) >= limits.DHT_PEERS_PER_HASH_AND_SOURCE:
            raise Refused(ErrorCode.SERVER, "this address has its share of this info-hash")
        if self._per_source[source] >= limits.DHT_PEERS_PER_SOURCE:
            raise Refused(ErrorCode.SERVER, "this address has its share of the store")
        if len(held) >= limits.DHT_PEERS_PER_HASH:
            self._drop((info_hash, next(iter(held))))

    def _make_room(self, source: str) -> None:
        while len(self._expires) >= self._capacity:
            heaviest, count = max(self._per_source.items(), key=lambda pair: pair[1])
            if count <= self._per_source[source] + 1:
                raise Refused(ErrorCode.SERVER, "the store is full")
            self._drop(next(entry for entry, (_, name) in self._expires.items() if name == heaviest))

    def _drop(self, entry: tuple[bytes, Endpoint]) -> None:
        _, name = self._expires.pop(entry)
        info_hash, peer = entry
        del self._peers[info_hash][peer]
        if not self._peers[info_hash]:
            del self._peers[info_hash]
        _decrement(self._per_source, name)


def _size(item: SignedItem) -> int:
    return len(item.value) + len(item.salt)


def _decrement(counter: Counter[_Name], name: _Name) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
