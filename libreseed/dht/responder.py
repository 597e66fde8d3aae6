"""Answers to queries: BEP 5 (ping, find_node, get_peers, announce_peer), BEP 32, BEP 44 (get, put), ``ls_records``.

One query gives at most one datagram, of at most ``KRPC_SEND_BYTES`` and no more than the guard allows to that source.
Writes need a token that was given to that address for that target. A read-only node answers everything with its id
and no nodes, so that whoever took it for a full node does not wait for it (libtorrent
keeps a node that has put something although it says ``ro``).

Specification: ``docs/specification/dht.md``, "Messages" and "Bounds".
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from libreseed import bencode, limits
from libreseed.dht import krpc
from libreseed.dht.addresses import ID_BYTES, Endpoint, family_of, pack_endpoint
from libreseed.dht.guard import Guard
from libreseed.dht.items import SignedItem
from libreseed.dht.krpc import ErrorCode, Fields, Query
from libreseed.dht.routing import Table
from libreseed.dht.store import ItemStore, PeerStore, Refused
from libreseed.dht.tokens import Tokens
from libreseed.errors import Malformed
from libreseed.ids import PackageName, PublicKey, Signature

__all__ = ["Responder", "record_fields"]

Entropy = Callable[[int], bytes]
Records = Callable[[PackageName], Sequence[SignedItem]]
OwnEndpoint = Callable[[Endpoint], Endpoint | None]  # where an asker reaches us
# What is left out, step by step, when an answer is larger than its source may be sent.
_LUXURIES = ((b"v", b"k", b"sig", b"values", b"records"), (b"nodes", b"nodes6"))


class Responder:
    """The answering half of a node that is no mere client. Owns both stores, the tokens and the guard."""

    def __init__(self, entropy: Entropy, now: float, *, upload: int = limits.DHT_UPLOAD_BYTES_PER_SECOND) -> None:
        self.items = ItemStore()
        self.peers = PeerStore()
        self.guard = Guard(now, upload)
        self.own = OwnHoldings()
        self.records: Records = lambda _name: ()
        self.own_endpoint: OwnEndpoint = lambda _asker: None
        self._tokens = Tokens(entropy, now)
        self._entropy = entropy
        self._methods: dict[bytes, Callable[[Query, Endpoint, dict[int, Table], float], Fields]] = {
            b"ping": lambda *_: {},
            b"find_node": self._find_node,
            b"get_peers": self._get_peers,
            b"announce_peer": self._announce_peer,
            b"get": self._get,
            b"put": self._put,
            b"ls_records": self._list_records,
        }

    def answer(
        self, query: Query, source: Endpoint, own_id: bytes, tables: dict[int, Table], now: float
    ) -> bytes | None:
        """The datagram to send back, or None where nothing may be sent. ``tables`` is empty for a read-only node."""
        try:
            if not tables:
                values: Fields = {b"nodes": b""}
            elif (method := self._methods.get(query.method)) is not None:
                values = method(query, source, tables, now)
            else:
                raise Refused(ErrorCode.METHOD_UNKNOWN, "Method Unknown")
        except Malformed as error:
            return self._send(krpc.encode_failure(query.transaction, ErrorCode.PROTOCOL, error.message), source, now)
        except Refused as refused:
            return self._send(krpc.encode_failure(query.transaction, refused.code, refused.words), source, now)
        values[b"id"] = own_id
        return self._fit(query, values, source, now)

    def held(self, target: bytes, now: float) -> SignedItem | None:
        """The newest item at ``target`` that this node has, its own or one that it keeps for others."""
        held = [item for store in (self.items, self.own.items) if (item := store.get(target, now)) is not None]
        return max(held, key=lambda item: item.seq, default=None)

    def expire(self, now: float) -> None:
        """Forget what was not renewed."""
        self.items.expire(now)
        self.peers.expire(now)
        self.own.expire(now)

    def _fit(self, query: Query, values: Fields, source: Endpoint, now: float) -> bytes | None:
        data = krpc.encode_response(query.transaction, values, source)
        allowed = min(self.guard.allowance(source, now), limits.KRPC_SEND_BYTES)
        for names in _LUXURIES:
            if len(data) <= allowed:
                break
            values = {name: value for name, value in values.items() if name not in names}
            data = krpc.encode_response(query.transaction, values, source)
        return self._send(data, source, now)

    def _send(self, data: bytes, source: Endpoint, now: float) -> bytes | None:
        if len(data) > self.guard.allowance(source, now):
            return None
        self.guard.spend(source, len(data), now)
        return data

    def _find_node(self, query: Query, source: Endpoint, tables: dict[int, Table], now: float) -> Fields:
        target = krpc.bytes_field(query.args, b"target", ID_BYTES, ID_BYTES)
        return _nodes(query, source, tables, target)

    def _get_peers(self, query: Query, source: Endpoint, tables: dict[int, Table], now: float) -> Fields:
        info_hash = krpc.bytes_field(query.args, b"info_hash", ID_BYTES, ID_BYTES)
        values = _nodes(query, source, tables, info_hash)
        values[b"token"] = self._tokens.make(source[0], info_hash, now)
        family = family_of(source[0])
        peers = self.peers.peers(info_hash, family, now)
        port = self.own.port(info_hash, family, now)
        if port is not None and (own := self.own_endpoint(source)) is not None:
            peers.append((own[0], port or own[1]))
        if peers:
            values[b"values"] = [pack_endpoint(peer) for peer in self._some(peers)]
        return values

    def _announce_peer(self, query: Query, source: Endpoint, tables: dict[int, Table], now: float) -> Fields:
        info_hash = krpc.bytes_field(query.args, b"info_hash", ID_BYTES, ID_BYTES)
        implied = query.args.get(b"implied_port", 0) not in (0, b"")
        port = source[1] if implied else krpc.integer_field(query.args, b"port", 65535)
        self._demand_token(query, source, info_hash, now)
        if port == 0:
            raise Refused(ErrorCode.PROTOCOL, "port 0")
        self.peers.announce(info_hash, (source[0], port), now)
        return {}

    def _get(self, query: Query, source: Endpoint, tables: dict[int, Table], now: float) -> Fields:
        target = krpc.bytes_field(query.args, b"target", ID_BYTES, ID_BYTES)
        known = krpc.integer_field(query.args, b"seq", limits.ITEM_SEQ) if b"seq" in query.args else -1
        values = _nodes(query, source, tables, target)
        values[b"token"] = self._tokens.make(source[0], target, now)
        item = self.held(target, now)
        if item is not None:
            values[b"seq"] = item.seq
            if item.seq > known:
                values |= {b"k": item.pubkey.raw, b"sig": item.signature.raw, b"v": _value(item)}
        return values

    def _put(self, query: Query, source: Endpoint, tables: dict[int, Table], now: float) -> Fields:
        if b"v" not in query.args:
            raise Refused(ErrorCode.PROTOCOL, "no v")
        value = bencode.encode(query.args[b"v"])
        if len(value) > limits.ITEM_VALUE_BYTES:
            raise Refused(ErrorCode.VALUE_TOO_BIG, "v is larger than 1000 bytes")
        if b"k" not in query.args:
            target = hashlib.sha1(value, usedforsecurity=False).digest()
            self._demand_token(query, source, target, now)
            raise Refused(ErrorCode.SERVER, "immutable items are not kept here")
        salt = krpc.optional_bytes(query.args, b"salt", limits.KRPC_BYTES)
        if len(salt) > limits.ITEM_SALT_BYTES:
            raise Refused(ErrorCode.SALT_TOO_BIG, "salt is larger than 64 bytes")
        key = PublicKey(krpc.bytes_field(query.args, b"k", 32, 32))
        seq = krpc.integer_field(query.args, b"seq", limits.ITEM_SEQ)
        cas = krpc.integer_field(query.args, b"cas", limits.ITEM_SEQ) if b"cas" in query.args else None
        signature = Signature(krpc.bytes_field(query.args, b"sig", 64, 64))
        target = hashlib.sha1(key.raw + salt, usedforsecurity=False).digest()
        self._demand_token(query, source, target, now)  # before the signature, which costs a hundred times more
        try:
            item = SignedItem(key, salt, seq, value, signature)
        except Malformed as error:
            raise Refused(ErrorCode.SIGNATURE, error.message) from error
        self.items.put(item, source, now, cas=cas)
        return {}

    def _list_records(self, query: Query, source: Endpoint, tables: dict[int, Table], now: float) -> Fields:
        """First without a token: a token and the number of records. With it: one page from ``cursor`` on."""
        name = PackageName(krpc.bytes_field(query.args, b"name", 1, limits.NAME_CHARS).decode("ascii", "replace"))
        target = hashlib.sha1(name.text.encode(), usedforsecurity=False).digest()
        records = self.records(name)[: limits.DHT_LISTED_RECORDS]
        if b"token" not in query.args:
            return {b"token": self._tokens.make(source[0], target, now), b"n": len(records)}
        self._demand_token(query, source, target, now)
        cursor = krpc.integer_field(query.args, b"cursor", limits.DHT_LISTED_RECORDS)
        page: list[Fields] = []
        room = limits.KRPC_SEND_BYTES - 200  # id, ip, transaction, next and their frames
        for record in records[cursor:]:
            fields = record_fields(record)
            room -= len(bencode.encode(fields))
            if page and room < 0:
                break
            page.append(fields)
        values: Fields = {b"records": page, b"n": len(records)}
        if cursor + len(page) < len(records):
            values[b"next"] = cursor + len(page)
        return values

    def _demand_token(self, query: Query, source: Endpoint, target: bytes, now: float) -> None:
        token = krpc.bytes_field(query.args, b"token", 0, 64)
        if not self._tokens.holds(token, source[0], target, now):
            raise Refused(ErrorCode.PROTOCOL, "invalid token")
        self.guard.proven(source, now)

    def _some(self, peers: list[Endpoint]) -> list[Endpoint]:
        """All, or as many as an answer carries from a random place on, so that all are given out in time."""
        most = limits.DHT_PEERS_PER_ANSWER
        if len(peers) <= most:
            return peers
        start = int.from_bytes(self._entropy(2), "big") % len(peers)
        return (peers[start:] + peers[:start])[:most]


class OwnHoldings:
    """What this node itself put and announced: it answers for that like any other node near the key.

    In a network of one node nobody else could. Bounded by what the node's owner does; expires like a stranger's.
    """

    def __init__(self) -> None:
        self.items = ItemStore(10**6, 2**31, share=10**6, key_share=10**6)
        self._ports: OrderedDict[bytes, tuple[float, Mapping[int, int]]] = OrderedDict()

    def put(self, item: SignedItem, now: float) -> None:
        """Answer for ``item``; an older one than is held changes nothing."""
        with suppress(Refused):
            self.items.put(item, ("", 0), now)

    def announce(self, info_hash: bytes, ports: Mapping[int, int], now: float) -> None:
        """Answer for ``info_hash`` with our own address and the port of the asker's family; 0 is the DHT's."""
        self._ports[info_hash] = (now + limits.DHT_PEER_SECONDS, ports)
        self._ports.move_to_end(info_hash)

    def port(self, info_hash: bytes, family: int, now: float) -> int | None:
        """The port announced for ``family``, 0 for the DHT's, None where nothing is."""
        expires, ports = self._ports.get(info_hash, (now, {}))
        return ports.get(family) if expires > now else None

    def expire(self, now: float) -> None:
        """Forget what was not renewed."""
        self.items.expire(now)
        while self._ports and next(iter(self._ports.values()))[0] <= now:
            self._ports.popitem(last=False)


def record_fields(item: SignedItem) -> Fields:
    """An item as ``ls_records`` lists it: k, salt, seq, sig and v of BEP 44 in one dictionary."""
    return {
        b"k": item.pubkey.raw,
        b"salt": item.salt,
        b"seq": item.seq,
        b"sig": item.signature.raw,
        b"v": _value(item),
    }


def _value(item: SignedItem) -> bencode.BencodeValue:
    return bencode.decode(item.value, max_bytes=limits.ITEM_VALUE_BYTES)


def _nodes(query: Query, source: Endpoint, tables: dict[int, Table], target: bytes) -> Fields:
    """``nodes`` and ``nodes6``: of the asker's own family, or of those that it wants (BEP 32)."""
    want = query.args.get(b"want")
    families = [family for name, family in ((b"n4", 4), (b"n6", 6)) if type(want) is list and name in want]
    values: Fields = {}
    for family in families or [family_of(source[0])]:
        if family in tables:
            near = tables[family].mixed(target, limits.DHT_NODES_PER_ANSWER + 1, good_only=True)
            packed = [contact.packed for contact in near if contact.endpoint != source]
            values[b"nodes" if family == 4 else b"nodes6"] = b"".join(packed[: limits.DHT_NODES_PER_ANSWER])
    return values
