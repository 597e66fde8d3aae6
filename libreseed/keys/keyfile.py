"""The key file: one Ed25519 seed, sealed under a passphrase or, for machines, plain.

The file is the canonical JSON (section 3.1) of a closed set of members, then one LF. Sealed means: argon2id over the
passphrase gives a key, under which libsodium's secretbox (XSalsa20-Poly1305) holds the seed. What a file demands of
the reader (memory, passes) is bounded before it is spent. The public key stands beside it and must be the seed's.
Salt and nonce are arguments: nothing here draws random bytes, touches a file or asks a person.
docs/specification/keys.md.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from libreseed import limits, wire
from libreseed.errors import LocalFault, Malformed, UsageFault
from libreseed.ids import PublicKey, canonical_base64
from libreseed.keys.ed25519 import PrivateKey

__all__ = ["DEFAULT_COST", "KEY_PROTOCOL", "Cost", "KeyFile", "SealedSeed", "parse_key_file", "seal_key"]

KEY_PROTOCOL = "libreseed-key-v1"
_KDF = "argon2id"
_SALT_BYTES = 16
_NONCE_BYTES = 24
_BOX_BYTES = 32 + 16  # the seed and the authenticator


@dataclass(frozen=True, slots=True)
class Cost:
    """What deriving the key costs: ``passes`` over ``memory`` bytes (argon2id, one lane)."""

    passes: int
    memory: int

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= limits.KEY_KDF_PASSES:
            raise _malformed(f"argon2id passes must be 1 to {limits.KEY_KDF_PASSES}")
        if not limits.KEY_KDF_MEMORY_MIN <= self.memory <= limits.KEY_KDF_MEMORY_MAX or self.memory % 1024:
            raise _malformed(f"argon2id memory must be whole KiB up to {limits.KEY_KDF_MEMORY_MAX} bytes")


DEFAULT_COST = Cost(passes=3, memory=256 * 2**20)  # libsodium's "moderate"


@dataclass(frozen=True, slots=True)
class SealedSeed:
    """The seed under a passphrase: ``cost``, ``salt`` (16 bytes), ``nonce`` (24 bytes), ``box`` (48 bytes)."""

    cost: Cost
    salt: bytes
    nonce: bytes
    box: bytes

    def __post_init__(self) -> None:
        if (len(self.salt), len(self.nonce), len(self.box)) != (_SALT_BYTES, _NONCE_BYTES, _BOX_BYTES):
            raise _malformed("salt, nonce or box of the wrong length")

    def open(self, passphrase: bytes) -> bytes:
        """The seed; raises :class:`UsageFault` ``key.passphrase`` when the passphrase does not open the box."""
        from nacl.bindings import crypto_secretbox_open
        from nacl.exceptions import CryptoError

        try:
            return crypto_secretbox_open(self.box, self.nonce, _derive(passphrase, self.salt, self.cost))
        except CryptoError as error:
            raise UsageFault("key.passphrase", "the passphrase does not open the key file") from error


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file's content: the public key, and either the sealed seed or the seed itself."""

    public: PublicKey
    sealed: SealedSeed | None = None
    seed: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.sealed is None) == (self.seed is None):
            raise _malformed("exactly one of a sealed and a plain seed is needed")

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        members: dict[str, wire.JsonValue] = {"protocol": KEY_PROTOCOL, "pubkey": str(self.public)}
        if self.seed is not None:
            members["seed"] = _base64(self.seed)
        if self.sealed is not None:
            members["sealed"] = {
                "box": _base64(self.sealed.box),
                "kdf": _KDF,
                "memory": self.sealed.cost.memory,
                "nonce": _base64(self.sealed.nonce),
                "passes": self.sealed.cost.passes,
                "salt": _base64(self.sealed.salt),
            }
        return wire.canonical(members) + b"\n"

    def unlock(self, passphrase: bytes | None) -> PrivateKey:
        """The private key; ``passphrase`` is needed when it is sealed. Raises :class:`UsageFault` ``key.*``."""
        if self.sealed is not None and passphrase is None:
            raise UsageFault("key.passphrase", "the key file is sealed and no passphrase was given")
        seed = self.seed if self.sealed is None else self.sealed.open(passphrase or b"")
        key = PrivateKey(seed or b"")
        if key.public != self.public:
            raise _malformed("the public key in it does not belong to its private key")
        return key


def seal_key(key: PrivateKey, passphrase: bytes, *, salt: bytes, nonce: bytes, cost: Cost = DEFAULT_COST) -> KeyFile:
    """Seal ``key`` under ``passphrase``; ``salt`` (16 bytes) and ``nonce`` (24 bytes) must be fresh and random."""
    from nacl.bindings import crypto_secretbox

    box = crypto_secretbox(key.seed, nonce, _derive(passphrase, salt, cost))
    return KeyFile(key.public, sealed=SealedSeed(cost, salt, nonce, box))


def parse_key_file(data: bytes) -> KeyFile:
    """Read a key file's bytes; raises :class:`UsageFault` ``key.malformed`` for anything else."""
    if not data.endswith(b"\n"):
        raise _malformed("a key file ends with one LF")
    try:
        members = wire.require_members(
            wire.parse(data[:-1], max_bytes=limits.KEY_FILE_BYTES), ("protocol", "pubkey"), ("seed", "sealed")
        )
        if members["protocol"] != KEY_PROTOCOL:
            raise _malformed(f"protocol is not {KEY_PROTOCOL!r}")
        sealed = _parse_sealed(members["sealed"]) if "sealed" in members else None
        seed = _bytes(members["seed"], 32) if "seed" in members else None
        return KeyFile(PublicKey.parse(members["pubkey"]), sealed, seed)
    except Malformed as error:
        raise _malformed(error.message) from error


def _parse_sealed(value: wire.JsonValue) -> SealedSeed:
    members = wire.require_members(value, ("box", "kdf", "memory", "nonce", "passes", "salt"))
    if members["kdf"] != _KDF:
        raise _malformed(f"kdf is not {_KDF!r}")
    if type(members["memory"]) is not int or type(members["passes"]) is not int:
        raise _malformed("memory and passes are integers")
    return SealedSeed(
        Cost(passes=members["passes"], memory=members["memory"]),
        salt=_bytes(members["salt"], _SALT_BYTES),
        nonce=_bytes(members["nonce"], _NONCE_BYTES),
        box=_bytes(members["box"], _BOX_BYTES),
    )


def _derive(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13
    from nacl.exceptions import RuntimeError as NaclRuntimeError

    try:
        return crypto_pwhash_alg(32, passphrase, salt, cost.passes, cost.memory, crypto_pwhash_ALG_ARGON2ID13)
    except NaclRuntimeError as error:  # libsodium could not allocate
        raise LocalFault("key.memory", f"the key file asks for {cost.memory} bytes of memory") from error


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: wire.JsonValue, size: int) -> bytes:
    if type(text) is not str:
        raise _malformed("a text is expected where another type stands")
    try:
        return canonical_base64(text, size)
    except ValueError:  # its message may quote the text, and this text is secret
        raise _malformed(f"not the canonical base64 of {size} bytes") from None


def _malformed(what: str) -> UsageFault:
    return UsageFault("key.malformed", f"not a key file: {what}")
