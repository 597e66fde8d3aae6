"""The operations themselves: what is collected on the way, and what follows the walk.

Each function is an :data:`Operation`; its result type is in its docstring. Everything that a stranger says is checked
here or where it is parsed: an item counts only if its signature holds, an answer "stored" only if reading back agrees.

Specification: ``docs/specification/dht.md``, "Lookup", "Put", "Name discovery".
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from libreseed import bencode, limits
from libreseed.dht.addresses import Endpoint, family_of, may_name, unpack_endpoint
from libreseed.dht.items import SignedItem, item_target
from libreseed.dht.krpc import Fields, Response, bytes_field, integer_field, optional_bytes
from libreseed.dht.lookup import PATHS, Candidate, Lookup
from libreseed.dht.operations import QUORUM, Ask, Batch, Search, Seeker, Stage
from libreseed.dht.records import name_discovery_target
from libreseed.errors import Malformed
from libreseed.ids import PackageName, PublicKey, Signature

__all__ = [
    "Announced",
    "Found",
    "Listed",
    "Peers",
    "PutOutcome",
    "announce",
    "find_node",
    "find_peers",
    "get_item",
    "list_records",
    "put_item",
]


@dataclass(frozen=True, slots=True)
class Found:
    """Result of a get: the item or None; how many nodes answered at all, and how many gave this item."""

    item: SignedItem | None
    answers: int
    votes: int
    queries: int


@dataclass(frozen=True, slots=True)
class Peers:
    """Result of a search for peers."""

    peers: tuple[Endpoint, ...]
    answers: int


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """Result of a put; ``confirmed`` nodes gave the item back. ``newer``: nothing was put, as this exists."""

    asked: int
    accepted: int
    confirmed: int
    answers: int
    newer: SignedItem | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """Result of an announcement: how many nodes took it."""

    accepted: int
    answers: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Result of a name discovery: items whose signatures hold. What they mean is for the caller to check."""

    items: tuple[SignedItem, ...]
    answers: int


class _Nothing:
    """For a search whose purpose is the walk."""

    def take(self, candidate: Candidate, response: Response) -> None:
        pass

    def enough(self, lookup: Lookup) -> bool:
        return lookup.converged(patient=False, whole=False)


class _Items:
    """The valid item with the highest sequence number, and who gave it."""

    def __init__(self, pubkey: PublicKey, salt: bytes, min_seq: int, held: SignedItem | None, thorough: bool) -> None:
        self.best = held
        self.voters: list[Candidate] = []
        self._pubkey = pubkey
        self._salt = salt
        self._min_seq = min_seq
        self._thorough = thorough
        self._hurry = False

    def take(self, candidate: Candidate, response: Response) -> None:
        item = _item_of(response.values, self._pubkey, self._salt, self.best)
        if item is None:
            return
        if self.best is None or item.seq > self.best.seq:
            self.best = item
            self.voters = []
        if item == self.best:
            self.voters.append(candidate)
            self._hurry = item.seq >= self._min_seq

    def enough(self, lookup: Lookup) -> bool:
        if self._thorough or not self._hurry:
            return lookup.converged()
        lookup.hurried = True
        agreed = len(self.voters) >= QUORUM and len({voter.path for voter in self.voters}) > 1
        return agreed or lookup.converged(patient=False, whole=False)


class _PeerList:
    """Peers as they are heard of; ``fresh`` holds those that nobody has fetched yet."""

    def __init__(self, thorough: bool) -> None:
        self.peers: dict[Endpoint, None] = {}
        self.fresh: list[Endpoint] = []
        self._thorough = thorough

    def take(self, candidate: Candidate, response: Response) -> None:
        values = response.values.get(b"values")
        if type(values) is not list:
            return
        for value in values[: limits.DHT_PEERS_READ]:
            if type(value) is not bytes or len(value) not in (6, 18):
                continue
            peer = unpack_endpoint(value)
            if peer not in self.peers and may_name(candidate.endpoint, peer):
                if len(self.peers) >= limits.DHT_PEERS_PER_SEARCH:
                    return
                self.peers[peer] = None
                self.fresh.append(peer)

    def enough(self, lookup: Lookup) -> bool:
        return lookup.converged(patient=self._thorough or not self.peers)


def find_node(seeker: Seeker, target: bytes, paths: int = PATHS) -> Generator[Stage, None, int]:
    """Walk to ``target``, which fills the routing table on the way; returns how many nodes answered."""
    search = Search(seeker.lookup(target, paths), b"find_node", {b"target": target}, _Nothing())
    yield search
    return search.lookup.answers


def get_item(
    seeker: Seeker, pubkey: PublicKey, salt: bytes, min_seq: int, held: SignedItem | None
) -> Generator[Stage, None, Found]:
    """The item with the highest valid sequence number; ``held`` is what this node stores itself."""
    target = item_target(pubkey, salt)
    items = _Items(pubkey, salt, min_seq, held, thorough=False)
    search = Search(seeker.lookup(target), b"get", {b"target": target}, items)
    yield search
    best = items.best if items.best is not None and items.best.seq >= min_seq else None
    return Found(best, search.lookup.answers, len(items.voters), search.lookup.queries)


def put_item(seeker: Seeker, item: SignedItem, families: Sequence[int]) -> Generator[Stage, None, PutOutcome]:
    """Walk to the item's target, put it on the nearest nodes, read it back from each that said yes."""
    items = _Items(item.pubkey, item.salt, 0, None, thorough=True)
    search = Search(seeker.lookup(item.target), b"get", {b"target": item.target}, items)
    yield search
    answers = search.lookup.answers
    if items.best is not None and items.best.seq > item.seq:
        return PutOutcome(0, 0, 0, answers, items.best)
    args: Fields = {b"k": item.pubkey.raw, b"seq": item.seq, b"sig": item.signature.raw}
    args[b"v"] = bencode.decode(item.value, max_bytes=limits.ITEM_VALUE_BYTES)
    if item.salt:
        args[b"salt"] = item.salt
    writers = search.writers(families)
    put = Batch([Ask(_again(node), b"put", args | {b"token": search.tokens[node.endpoint]}) for node in writers])
    yield put
    # "Stored" proves nothing: nodes answer so to what they took for something else, or threw away.
    back = Batch([Ask(_again(node), b"get", {b"target": item.target}) for node, _ in put.answers])
    yield back
    read = [_item_of(response.values, item.pubkey, item.salt, item) for _, response in back.answers]
    return PutOutcome(len(writers), len(put.answers), sum(found == item for found in read), answers)


def find_peers(seeker: Seeker, info_hash: bytes, thorough: bool = False) -> Generator[Stage, None, Peers]:
    """Peers announced under ``info_hash``; an adapter reads them off the stage as they come (``fresh_peers``)."""
    peers = _PeerList(thorough)
    search = PeerSearch(seeker.lookup(info_hash), info_hash, peers)
    yield search
    return Peers(tuple(peers.peers), search.lookup.answers)


class PeerSearch(Search):
    """A search for peers that hands them out as they come."""

    def __init__(self, lookup: Lookup, info_hash: bytes, peers: _PeerList) -> None:
        super().__init__(lookup, b"get_peers", {b"info_hash": info_hash}, peers)
        self._peers = peers

    def fresh_peers(self) -> list[Endpoint]:
        """Peers heard of since the last call."""
        fresh, self._peers.fresh = self._peers.fresh, []
        return fresh


def announce(
    seeker: Seeker, info_hash: bytes, ports: Mapping[int, int], *, implied: bool = False
) -> Generator[Stage, None, Announced]:
    """Announce ``ports`` (by family: 4, 6) to the nodes of that family nearest to ``info_hash``.

    ``implied``: the port is the one these datagrams come from, whatever is said.
    """
    search = PeerSearch(seeker.lookup(info_hash), info_hash, _PeerList(thorough=True))
    yield search
    args: Fields = {b"info_hash": info_hash, b"implied_port": int(implied)}
    asks = []
    for node in search.writers(ports):
        port = ports[family_of(node.endpoint[0])]
        asks.append(Ask(_again(node), b"announce_peer", args | {b"port": port, b"token": search.tokens[node.endpoint]}))
    batch = Batch(asks)
    yield batch
    return Announced(len(batch.answers), search.lookup.answers)


def list_records(seeker: Seeker, name: PackageName) -> Generator[Stage, None, Listed]:
    """Name discovery: who announced ``name``, then their records, page by page, from all of them at once."""
    target = name_discovery_target(name)
    peers = _PeerList(thorough=True)
    search = PeerSearch(seeker.lookup(target), target, peers)
    yield search
    args: Fields = {b"name": name.text.encode()}
    holders = [Candidate(None, peer, 0, 0) for peer in list(peers.peers)[: limits.DHT_DISCOVERY_PEERS]]
    first = Batch([Ask(holder, b"ls_records", args) for holder in holders])
    yield first
    found: dict[tuple[PublicKey, bytes], SignedItem] = {}
    turns = [(holder, response, 0, b"") for holder, response in first.answers]
    for _ in range(limits.DHT_LISTED_RECORDS):
        asks = [
            Ask(_again(holder), b"ls_records", args | {b"token": token, b"cursor": cursor})
            for holder, token, cursor in _next_pages(turns)
        ]
        if not asks or len(found) >= limits.DHT_FOUND_RECORDS:
            break
        page = Batch(asks)
        yield page
        for _, response in page.answers:
            _keep_records(response, found)
        sent = {ask.candidate.endpoint: ask for ask in asks}
        turns = [
            (holder, response, int(sent[holder.endpoint].args[b"cursor"]), sent[holder.endpoint].args[b"token"])
            for holder, response in page.answers
        ]
    return Listed(tuple(found.values()), search.lookup.answers)


_Turn = tuple[Candidate, Response, int, bytes]


def _next_pages(turns: list[_Turn]) -> list[tuple[Candidate, bytes, int]]:
    """Where each holder goes on: the first page after a token, then ``next`` as long as it grows."""
    pages = []
    for holder, response, cursor, token in turns:
        try:
            if not token:
                pages.append((holder, bytes_field(response.values, b"token", 1, 64), 0))
            elif b"next" in response.values:
                following = integer_field(response.values, b"next", limits.DHT_LISTED_RECORDS)
                if following > cursor:
                    pages.append((holder, token, following))
        except Malformed:
            continue
    return pages


def _keep_records(response: Response, found: dict[tuple[PublicKey, bytes], SignedItem]) -> None:
    records = response.values.get(b"records")
    if type(records) is not list:
        return
    for fields in records[: limits.DHT_LISTED_RECORDS]:
        try:
            if type(fields) is not dict:
                continue
            key = PublicKey(bytes_field(fields, b"k", 32, 32))
            salt = bytes_field(fields, b"salt", 1, limits.ITEM_SALT_BYTES)
        except Malformed:
            continue
        held = found.get((key, salt))
        item = _item_of(fields, key, salt, held)
        if item is not None and (held is None or item.seq > held.seq) and len(found) < limits.DHT_FOUND_RECORDS:
            found[key, salt] = item


def _item_of(values: Fields, pubkey: PublicKey, salt: bytes, known: SignedItem | None) -> SignedItem | None:
    """The item in an answer, proven, or None. One that equals ``known`` byte for byte is not verified again."""
    if b"v" not in values:
        return None
    try:
        if optional_bytes(values, b"k", 32) != pubkey.raw:
            return None
        seq = integer_field(values, b"seq", limits.ITEM_SEQ)
        signature = Signature(bytes_field(values, b"sig", 64, 64))
        value = bencode.encode(values[b"v"])
        if known is not None and (seq, value, signature) == (known.seq, known.value, known.signature):
            return known
        return SignedItem(pubkey, salt, seq, value, signature)
    except Malformed:
        return None


def _again(node: Candidate) -> Candidate:
    """A fresh candidate for the same node: its state is that of one query."""
    return Candidate(node.node_id, node.endpoint, 0, node.path)
