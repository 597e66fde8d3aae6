"""How often one client may ask: a token bucket per address, in bounded memory.

Time is an argument, so it needs no clock and no task. An IPv6 client is its /64: whoever has one address of it has them
all. When more clients are known than fit, the one that was quiet longest is forgotten; it starts with a full bucket.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

__all__ = ["Rate", "RateLimiter", "client_of", "is_local"]


def client_of(address: str) -> str:
    """What limits count as one client: an IPv4 address, or the /64 of an IPv6 address; other texts as they are."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


def is_local(address: str) -> bool:
    """Whether it is a loopback address: whoever asks from there is on this machine, and can do worse."""
    try:
        return ip_address(client_of(address)).is_loopback
    except ValueError:
        return address == "::1"


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_second`` requests sustained, ``burst`` at once; both above zero. ``local_free``: not for loopback."""

    per_second: float
    burst: int
    local_free: bool = False

    def __post_init__(self) -> None:
        if not (self.per_second > 0 and self.burst >= 1):
            raise ValueError("a rate is above zero, a burst at least 1")


class RateLimiter:
    """Counts requests of at most ``clients`` clients."""

    def __init__(self, rate: Rate, *, clients: int) -> None:
        self._rate = rate
        self._most = clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (tokens, at which time)

    def wait(self, address: str, now: float) -> float:
        """Take one request of ``address``: 0.0 if it may go on, else the seconds until the next one may."""
        if self._rate.local_free and is_local(address):
            return 0.0
        client = client_of(address)
        tokens, before = self._buckets.pop(client, (float(self._rate.burst), now))
        tokens = min(float(self._rate.burst), tokens + max(0.0, now - before) * self._rate.per_second)
        allowed = tokens >= 1.0
        self._buckets[client] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else math.ceil((1.0 - tokens) / self._rate.per_second * 1000) / 1000
