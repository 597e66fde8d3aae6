"""What a source may cost us: queries per second, and bytes sent back (amplification, total upload).

Anybody can write another's address on a query. Until an address has proven that it receives what we send, it gets
``DHT_FIRST_BYTES`` ahead and then ``DHT_AMPLIFICATION`` times what it sends (the rule of QUIC, RFC 9000 section 8):
one lookup by an honest stranger is answered whole, a flood in a victim's name is not. State is bounded; the source
that was quiet for longest is forgotten first, and the cap on the total upload holds whatever is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from libreseed import limits
from libreseed.dht.addresses import Endpoint, source_of

__all__ = ["Guard"]


@dataclass(slots=True)
class _Account:
    queries: float  # left in the bucket
    filled: float  # when it was filled last
    credit: float  # bytes that may be sent before it is proven
    proven_until: float


class Guard:
    """Accounts of sources and the upload bucket. ``upload`` is in bytes per second."""

    def __init__(self, now: float, upload: int = limits.DHT_UPLOAD_BYTES_PER_SECOND) -> None:
        self._upload = float(upload)
        self._tank = 2 * self._upload
        self._tank_filled = now
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def admit(self, source: Endpoint, size: int, now: float) -> bool:
        """Count a query of ``size`` bytes; False where the source asks too often and is not answered."""
        account = self._account(source, now)
        gained = (now - account.filled) * limits.DHT_QUERIES_PER_SECOND
        account.queries = min(limits.DHT_QUERY_BURST, account.queries + gained) - 1
        account.filled = now
        account.credit = min(4 * limits.DHT_FIRST_BYTES, account.credit + limits.DHT_AMPLIFICATION * size)
        if account.queries < 0:
            account.queries = 0
            return False
        return True

    def proven(self, source: Endpoint, now: float) -> None:
        """A round trip to ``source`` was completed: it is who it says."""
        self._account(source, now).proven_until = now + limits.DHT_PROVEN_SECONDS

    def wants_proof(self, source: Endpoint, now: float) -> bool:
        """Whether the credit of ``source`` runs low: a ping would show whether it is there, and lift the limit."""
        account = self._account(source, now)
        return account.proven_until <= now and account.credit < limits.DHT_FIRST_BYTES * 2 / 3

    def allowance(self, source: Endpoint, now: float) -> int:
        """How many bytes may be sent to ``source`` now."""
        self._tank = min(2 * self._upload, self._tank + (now - self._tank_filled) * self._upload)
        self._tank_filled = now
        account = self._account(source, now)
        return int(self._tank if account.proven_until > now else min(self._tank, account.credit))

    def spend(self, source: Endpoint, size: int, now: float) -> None:
        """Note that ``size`` bytes go to ``source``."""
        self._tank -= size
        account = self._account(source, now)
        if account.proven_until <= now:
            account.credit -= size

    def _account(self, source: Endpoint, now: float) -> _Account:
        name = source_of(source)
        account = self._accounts.get(name)
        if account is None:
            account = _Account(limits.DHT_QUERY_BURST, now, limits.DHT_FIRST_BYTES, float("-inf"))
            self._accounts[name] = account
            if len(self._accounts) > limits.DHT_GUARD_SOURCES:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(name)
        return account
