"""BEP 44 mutable items: what a publisher signs once and any node may carry.

A :class:`SignedItem` is proven in construction: one that exists fits the bounds of BEP 44 and its signature holds, so
no later step can forget to check. ``value`` is the raw bencoded ``v``, exactly as signed.

It does not say what a value means (:mod:`libreseed.dht.records`) and does not compare sequence numbers.
Specification: ``docs/specification/dht.md``; BEP 44.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from libreseed import bencode, limits
from libreseed.errors import Malformed
from libreseed.ids import PublicKey, Signature
from libreseed.keys import ed25519

__all__ = ["SignedItem", "check_bounds", "item_target", "sign_item", "signing_buffer"]


def item_target(pubkey: PublicKey, salt: bytes) -> bytes:
    """Where an item lives: the 20 bytes SHA-1(key || salt) (BEP 44, "mutable items")."""
    return hashlib.sha1(pubkey.raw + salt, usedforsecurity=False).digest()


def signing_buffer(salt: bytes, seq: int, value: bytes) -> bytes:
    """What BEP 44 signs: keys and values with no ``d`` and ``e`` around them; an empty salt leaves its part out."""
    prefix = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return prefix + b"3:seqi%de1:v" % seq + value


def check_bounds(salt: bytes, seq: int, value: bytes) -> None:
    """Demand the bounds of BEP 44; raises :class:`Malformed` (``encoding.too-large``, ``.number``, ``.bencode``)."""
    if len(salt) > limits.ITEM_SALT_BYTES:
        raise Malformed("encoding.too-large", f"a salt of {len(salt)} bytes; at most {limits.ITEM_SALT_BYTES}")
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq <= limits.ITEM_SEQ:
        raise Malformed("encoding.number", "a sequence number is an integer from 0 to 2^63-1")
    bencode.decode(value, max_bytes=limits.ITEM_VALUE_BYTES)


@dataclass(frozen=True, slots=True)
class SignedItem:
    """One mutable item. Construction raises :class:`Malformed` unless bounds and signature hold."""

    pubkey: PublicKey
    salt: bytes
    seq: int
    value: bytes
    signature: Signature

    def __post_init__(self) -> None:
        check_bounds(self.salt, self.seq, self.value)
        ed25519.verify(self.pubkey, signing_buffer(self.salt, self.seq, self.value), self.signature)

    @property
    def target(self) -> bytes:
        """The 20 bytes under which the item is stored and looked up."""
        return item_target(self.pubkey, self.salt)


def sign_item(key: ed25519.PrivateKey, salt: bytes, seq: int, value: bytes) -> SignedItem:
    """Sign ``value`` (bencoded) under ``salt``; only a packager calls this, never a node."""
    check_bounds(salt, seq, value)
    return SignedItem(key.public, salt, seq, value, key.sign(signing_buffer(salt, seq, value)))
