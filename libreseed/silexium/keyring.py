"""Keys that a policy trusts: for which roles and packages, from when to when, and revoked since when.

A key is named by its id, BLAKE3 of its 32 raw bytes in bare hex. Whether a key may speak is asked twice: by role and
package when an attestation is read, and by time once stamps have proven when the signature existed
(:func:`require_standing`). Keys are never learned from the documents that they sign. Specification: ``silexium.md``, 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from blake3 import blake3

from libreseed.errors import Malformed, ProofRejected, UsageFault
from libreseed.ids import PackageName, PublicKey
from libreseed.silexium.instants import LAST_INSTANT, format_instant

__all__ = ["ROLES", "KeyId", "Keyring", "Role", "TrustedKey", "require_standing"]

_HEX64 = re.compile("[0-9a-f]{64}", re.ASCII)


class Role(StrEnum):
    """What an attestation speaks as."""

    AUTHOR = "author"
    TESTS = "tests"
    SERVER = "server"


ROLES = (Role.AUTHOR, Role.TESTS, Role.SERVER)  # the order in which they sign, and in every list


@dataclass(frozen=True, slots=True)
class KeyId:
    """BLAKE3 of a raw public key as 64 lower-case hex digits, without a prefix."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not _HEX64.fullmatch(self.text):
            raise Malformed("encoding.hash-text", f"a key id is 64 lower-case hex digits, got {self.text!r:.100}")

    @classmethod
    def of(cls, key: PublicKey) -> KeyId:
        """The id of ``key``."""
        return cls(blake3(key.raw).hexdigest())

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One key of a policy. ``packages`` None means every package; times are Unix seconds, ``not_after`` inclusive.

    ``revoked_at`` is the moment since which the key is not trusted: what existed before keeps its standing.
    """

    public: PublicKey
    roles: frozenset[Role]
    packages: frozenset[PackageName] | None = None
    not_before: int = 0
    not_after: int = LAST_INSTANT
    revoked_at: int | None = None
    key_id: KeyId = field(init=False)

    def __post_init__(self) -> None:
        if not self.roles:
            raise UsageFault("config.policy", f"policy: the key {self.public} has no role")
        if not 0 <= self.not_before <= self.not_after:
            raise UsageFault("config.policy", f"policy: the key {self.public} ends before it begins")
        object.__setattr__(self, "key_id", KeyId.of(self.public))

    def require_role(self, role: Role, package: PackageName) -> None:
        """Demand that the key may speak as ``role`` for ``package``; raises ``silexium.key-role``."""
        evidence = {"key_id": str(self.key_id), "role": str(role), "package": str(package)}
        if role not in self.roles:
            raise ProofRejected(
                "silexium.key-role", f"the key {self.key_id} is not trusted as {role}", evidence=evidence
            )
        if self.packages is not None and package not in self.packages:
            message = f"the key {self.key_id} is not trusted as {role} of {package}"
            raise ProofRejected("silexium.key-role", message, evidence=evidence)


class Keyring:
    """The trusted keys by id; immutable, each key once."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._keys: dict[KeyId, TrustedKey] = {}
        for key in keys:
            if key.key_id in self._keys:
                raise UsageFault("config.policy", f"policy: the key {key.public} is listed twice")
            self._keys[key.key_id] = key

    def __iter__(self) -> Iterator[TrustedKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key_id: KeyId) -> TrustedKey:
        """The key with this id; raises ``silexium.key-unknown``."""
        try:
            return self._keys[key_id]
        except KeyError:
            evidence = {"key_id": str(key_id)}
            message = f"no trusted key has the id {key_id}"
            raise ProofRejected("silexium.key-unknown", message, evidence=evidence) from None


def require_standing(key: TrustedKey, *, created_at: int, stamped_at: int, anchored_at: int) -> None:
    """Demand that ``key`` was good when its signature was made; raises ``silexium.key-expired`` or ``-revoked``.

    ``created_at`` is what the signer claims, ``stamped_at`` when time stamp authorities saw the signature, and
    ``anchored_at`` when Bitcoin did. Expiry is judged by the authorities' time. Revocation is judged by Bitcoin's: who
    stole a key may also hold an authority's, but cannot mine an old block.
    """
    evidence = {
        "key_id": str(key.key_id),
        "created_at": format_instant(created_at),
        "stamped_at": format_instant(stamped_at),
        "anchored_at": format_instant(anchored_at),
    }
    if created_at < key.not_before or stamped_at < key.not_before:
        message = f"the key {key.key_id} is trusted only from {format_instant(key.not_before)}"
        raise ProofRejected("silexium.key-expired", message, evidence=evidence)
    if stamped_at > key.not_after:
        message = f"the key {key.key_id} expired at {format_instant(key.not_after)}, before the signature was stamped"
        raise ProofRejected("silexium.key-expired", message, evidence=evidence)
    if key.revoked_at is not None and max(stamped_at, anchored_at) >= key.revoked_at:
        message = f"the key {key.key_id} is revoked since {format_instant(key.revoked_at)}"
        raise ProofRejected("silexium.key-revoked", message, evidence=evidence)
