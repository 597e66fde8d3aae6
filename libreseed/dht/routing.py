"""The routing table: types of the ``kademlia`` package, with what an open network needs put in.

``Contact``, ``Bucket`` and ``Table`` are its ``Node``, ``KBucket`` and ``RoutingTable``; overridden are the parts that
need asyncio or a clock, that miss the true closest nodes, or that trust strangers (``docs/specification/dht.md`` has
the table). Invariants: a contact is in the table only after a round trip to it; at most one per /24 or /64 in a bucket,
except on loopback; at most one per endpoint; an id that is held cannot be taken over from another address while its
holder answers.

One table per address family. Nothing here sends: callers ping the contact that :meth:`Table.seen` returns.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from typing import Any

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from libreseed import limits
from libreseed.dht.addresses import ID_BYTES, Endpoint, NodeInfo, pack_node, prefix_of
from libreseed.dht.nodeid import follows_address

__all__ = ["Bucket", "Contact", "Table"]

ID_BITS = 8 * ID_BYTES
FAILS_UNTIL_BAD = 2  # unanswered queries in a row; a known replacement takes the place after the first


class Contact(Node):  # type: ignore[misc]  # the package has no types
    """A node that has answered. ``last_seen`` is the caller's clock; ``fails`` counts queries unanswered in a row."""

    def __init__(self, info: NodeInfo, now: float) -> None:
        super().__init__(info.node_id, *info.endpoint)
        self.endpoint: Endpoint = info.endpoint
        self.last_seen = now
        self.fails = 0
        self.preferred = follows_address(info.node_id, info.endpoint[0])
        self.prefix = prefix_of(info.endpoint[0])
        self.packed = pack_node(info)

    @property
    def info(self) -> NodeInfo:
        """The contact as messages carry it."""
        return NodeInfo(self.id, self.endpoint)


class Bucket(KBucket):  # type: ignore[misc]  # the package has no types
    """A k-bucket whose depth follows from its range, and which keeps one node per prefix."""

    def __init__(self, lower: int, upper: int, ksize: int) -> None:
        super().__init__(lower, upper, ksize)
        self.max_replacement_nodes = limits.DHT_BUCKET_SPARE_NODES
        self.refreshed = float("-inf")
        self.span = upper - lower  # all ones: a range is a subtree

    def touch_last_updated(self) -> None:
        """Nothing: the package reads a clock here; ``refreshed`` is set by the caller's."""

    def depth(self) -> int:
        """Bits that all ids of this range share (the package compares bit strings of the nodes held)."""
        return ID_BITS - int(self.range[1] - self.range[0]).bit_length()

    def split(self) -> tuple[Bucket, Bucket]:
        """Both halves; nodes keep their order and their history, spare ones stay spare."""
        middle = (self.range[0] + self.range[1]) // 2
        halves = Bucket(self.range[0], middle, self.ksize), Bucket(middle + 1, self.range[1], self.ksize)
        for half in halves:
            half.refreshed = self.refreshed
        for node in self.nodes.values():
            halves[node.long_id > middle].nodes[node.id] = node
        for node in self.replacement_nodes.values():
            half = halves[node.long_id > middle]
            if len(half) >= half.ksize or not half.has_room_for(node.prefix):
                half.replacement_nodes[node.id] = node
            else:
                half.nodes[node.id] = node
        return halves

    def has_room_for(self, prefix: str | None) -> bool:
        """Whether no node of this bucket comes from ``prefix``."""
        return prefix is None or prefix not in [node.prefix for node in self.nodes.values()]

    def remove_node(self, node: Any) -> None:
        """Drop ``node``; the latest spare one from a free prefix takes its place."""
        self.replacement_nodes.pop(node.id, None)
        if self.nodes.pop(node.id, None) is None:
            return
        for spare in reversed(self.replacement_nodes.values()):
            if self.has_room_for(spare.prefix):
                del self.replacement_nodes[spare.id]
                self.nodes[spare.id] = spare
                return


class Table(RoutingTable):  # type: ignore[misc]  # the package has no types
    """The contacts of one address family, 160-bit ids."""

    def __init__(self, own_id: bytes, ksize: int = limits.DHT_BUCKET_NODES) -> None:
        self._by_endpoint: dict[Endpoint, Contact] = {}
        super().__init__(None, ksize, Node(own_id))

    def flush(self) -> None:
        """Forget everything."""
        self.buckets: list[Bucket] = [Bucket(0, 2**ID_BITS - 1, self.ksize)]
        self._by_endpoint.clear()

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def contacts(self) -> list[Contact]:
        """All contacts, in no order that matters."""
        return [contact for bucket in self.buckets for contact in bucket.nodes.values()]

    def get_bucket_for(self, node: Any) -> int:
        """Index of the bucket whose range holds the node (the package puts the last id of a range one too far)."""
        return bisect_left(self.buckets, node.long_id, key=lambda bucket: bucket.range[1])

    def bucket_of(self, node_id: bytes) -> Bucket:
        """The bucket for an id."""
        return self.buckets[self.get_bucket_for(Node(node_id))]

    def seen(self, info: NodeInfo, now: float) -> Contact | None:
        """Note that ``info`` has answered; returns a contact that ought to be pinged before ``info`` may enter.

        That is the least recently seen one of a full bucket, or whoever holds the id at another address.
        """
        if info.node_id == self.node.id:
            return None
        known = self._by_endpoint.get(info.endpoint)
        if known is not None and known.id != info.node_id:  # it came back under another id: the old one is gone
            self.remove_contact(known)
            known = None
        if known is not None:
            known.last_seen, known.fails = now, 0
            self.buckets[self.get_bucket_for(known)].nodes.move_to_end(known.id)
            return None
        holder: Contact | None = self.bucket_of(info.node_id).nodes.get(info.node_id)
        if holder is not None:
            return holder
        return self.add_contact(Contact(info, now))

    def add_contact(self, node: Contact) -> Contact | None:
        """Add a new contact, splitting as section 4.2 of the Kademlia paper says; returns whom to ping if it is full.

        The package starts an asyncio task for that ping.
        """
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            if not bucket.has_room_for(node.prefix):
                return None
            if len(bucket) < bucket.ksize:
                bucket.nodes[node.id] = node
                self._by_endpoint[node.endpoint] = node
                return None
            if (bucket.has_in_range(self.node) or bucket.depth() % 5 != 0) and bucket.depth() < ID_BITS:
                self.split_bucket(index)
                self._reindex(index, index + 1)
                continue
            return self._when_full(bucket, node)

    def _when_full(self, bucket: Bucket, node: Contact) -> Contact | None:
        out = next((held for held in bucket.nodes.values() if held.fails), None)
        if out is None and node.preferred:
            out = next((held for held in bucket.nodes.values() if not held.preferred), None)
        bucket.add_node(node)  # keeps it as a spare one
        if out is not None:
            self.remove_contact(out)
            return None
        head: Contact = bucket.head()
        return head

    def remove_contact(self, node: Contact) -> None:
        """Drop a contact; a spare one may take its place."""
        index = self.get_bucket_for(node)
        self.buckets[index].remove_node(node)
        if self._by_endpoint.get(node.endpoint) is node:
            del self._by_endpoint[node.endpoint]
        self._reindex(index)

    def _reindex(self, *indexes: int) -> None:
        """Spare nodes that moved up hold their endpoint from now on."""
        for index in indexes:
            for contact in self.buckets[index].nodes.values():
                self._by_endpoint.setdefault(contact.endpoint, contact)

    def failed(self, info: NodeInfo) -> None:
        """Note that a query to ``info`` stayed without an answer; a bad contact goes."""
        contact = self._by_endpoint.get(info.endpoint)
        if contact is None or contact.id != info.node_id:
            return
        contact.fails += 1
        if contact.fails >= FAILS_UNTIL_BAD or self.buckets[self.get_bucket_for(contact)].replacement_nodes:
            self.remove_contact(contact)

    def wants(self, info: NodeInfo) -> bool:
        """Whether a stranger that asked us something is worth a ping."""
        if info.node_id == self.node.id or info.endpoint in self._by_endpoint:
            return False
        bucket = self.bucket_of(info.node_id)
        if info.node_id in bucket.nodes or not bucket.has_room_for(prefix_of(info.endpoint[0])):
            return False
        return len(bucket) < bucket.ksize or bool(bucket.has_in_range(self.node))

    def closest(
        self, target: bytes, count: int, *, good_only: bool = False, preferred_only: bool = False
    ) -> list[Contact]:
        """The ``count`` contacts nearest to ``target``, exactly (the package stops early, in another order).

        A bucket is a subtree, so the distances of two buckets do not overlap: whole buckets are taken, nearest first.
        """
        wanted = int.from_bytes(target, "big")
        found: list[Contact] = []
        for bucket in sorted(self.buckets, key=lambda bucket: (bucket.range[0] ^ wanted) & ~bucket.span):
            near = [
                contact
                for contact in bucket.nodes.values()
                if (not good_only or contact.fails == 0) and (not preferred_only or contact.preferred)
            ]
            near.sort(key=lambda contact: contact.long_id ^ wanted)
            found += near
            if len(found) >= count:
                break
        return found[:count]

    def mixed(self, target: bytes, count: int, *, good_only: bool = False) -> list[Contact]:
        """The nearest ``count``, of which at least half have ids that follow from their addresses, if there are such.

        Where all do, these are the nearest. Where somebody took all places near a target, others are named as well.
        """
        nearest = self.closest(target, count, good_only=good_only)
        if all(contact.preferred for contact in nearest):
            return nearest
        following = self.closest(target, count, good_only=good_only, preferred_only=True)
        chosen = {contact.id: contact for contact in nearest[: count // 2] + following}
        return list(chosen.values())[:count]

    def questionable(self, before: float, count: int) -> list[Contact]:
        """At most ``count`` contacts that were last seen before that time, the longest silent first."""
        silent = [contact for contact in self.contacts() if contact.last_seen < before]
        return heapq.nsmallest(count, silent, key=lambda contact: contact.last_seen)

    def stale_buckets(self, before: float) -> list[Bucket]:
        """Buckets that were last refreshed before that time, the nearest to us first (highest depth)."""
        stale = [bucket for bucket in self.buckets if bucket.refreshed < before]
        return sorted(stale, key=lambda bucket: -bucket.depth())
