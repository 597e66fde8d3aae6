"""Write tokens: proof that whoever stores here can receive at the address it sends from (BEP 5, BEP 44).

A token is an HMAC over host and target under a secret that rotates; the one before still counts, so a token lives
between one and two rotations. No state per asker, hence nothing to exhaust.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from libreseed import limits

__all__ = ["Tokens"]

_TOKEN_BYTES = 8


class Tokens:
    """Makes and checks tokens; ``entropy(n)`` gives ``n`` unpredictable bytes."""

    def __init__(self, entropy: Callable[[int], bytes], now: float) -> None:
        self._entropy = entropy
        self._secrets = [entropy(32), entropy(32)]
        self._rotated = now

    def make(self, host: str, target: bytes, now: float) -> bytes:
        """The token for ``host`` to write under ``target`` (20 bytes)."""
        self._rotate(now)
        return self._token(self._secrets[0], host, target)

    def holds(self, token: bytes, host: str, target: bytes, now: float) -> bool:
        """Whether ``token`` was given to ``host`` for ``target`` lately. A gate against spoofing, not a signature."""
        self._rotate(now)
        good = [hmac.compare_digest(token, self._token(secret, host, target)) for secret in self._secrets]
        return any(good)

    def _rotate(self, now: float) -> None:
        while now - self._rotated >= limits.DHT_TOKEN_SECONDS:
            idle = now - self._rotated >= 2 * limits.DHT_TOKEN_SECONDS
            self._secrets = [self._entropy(32), self._entropy(32) if idle else self._secrets[0]]
            self._rotated = now if idle else self._rotated + limits.DHT_TOKEN_SECONDS

    @staticmethod
    def _token(secret: bytes, host: str, target: bytes) -> bytes:
        return hmac.digest(secret, host.encode() + b"\0" + target, "sha256")[:_TOKEN_BYTES]
