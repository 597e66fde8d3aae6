"""Ed25519 keys and signatures, strict by libsodium's rules, with domain separation (section 3.1).

Verification returns nothing and raises :class:`Malformed` (``signature.invalid``); there is no boolean to forget.
Strict means: canonical S, A and R, and no point of small order. The key file is another module's matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from libreseed import wire
from libreseed.errors import Malformed
from libreseed.ids import PublicKey, Signature

__all__ = ["MANIFEST_DOMAIN", "MINIMAL_DOMAIN", "PrivateKey", "domain_message", "verify", "verify_document"]

MANIFEST_DOMAIN = "libreseed-manifest-v1"
MINIMAL_DOMAIN = "libreseed-minimal-v1"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An Ed25519 private key: the 32-byte seed of RFC 8032. Its repr shows only the public key."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != 32:
            raise Malformed("encoding.key-text", "an Ed25519 seed is 32 bytes")

    @property
    def public(self) -> PublicKey:
        """The public key that belongs to it."""
        from nacl.bindings import crypto_sign_seed_keypair

        return PublicKey(crypto_sign_seed_keypair(self.seed)[0])

    def sign(self, message: bytes) -> Signature:
        """Sign ``message`` (RFC 8032, deterministic)."""
        from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

        return Signature(crypto_sign(message, crypto_sign_seed_keypair(self.seed)[1])[:64])

    def sign_document(self, domain: str, fields: dict[str, wire.JsonValue]) -> Signature:
        """Sign ``domain || LF || JCS(fields)``."""
        return self.sign(domain_message(domain, fields))

    def expanded(self) -> bytes:
        """64 bytes, the clamped SHA-512 of the seed: the form in which libtorrent wants a key (tests only)."""
        raw = bytearray(hashlib.sha512(self.seed).digest())
        raw[0] &= 248
        raw[31] = (raw[31] & 63) | 64
        return bytes(raw)


def domain_message(domain: str, fields: dict[str, wire.JsonValue]) -> bytes:
    """What a signature with a domain covers: ``domain || 0x0A || JCS bytes``."""
    return domain.encode("ascii") + b"\n" + wire.canonical(fields)


def verify(key: PublicKey, message: bytes, signature: Signature) -> None:
    """Check ``signature`` of ``message``; raises :class:`Malformed` with ``signature.invalid``."""
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import BadSignatureError

    try:
        crypto_sign_open(signature.raw + message, key.raw)
    except (BadSignatureError, ValueError) as error:
        message_text = f"the signature by {key} does not hold"
        raise Malformed("signature.invalid", message_text, evidence={"key": str(key)}) from error


def verify_document(key: PublicKey, domain: str, fields: dict[str, wire.JsonValue], signature: Signature) -> None:
    """Check a signature with a domain over ``fields`` (all members but the signature itself)."""
    verify(key, domain_message(domain, fields), signature)
