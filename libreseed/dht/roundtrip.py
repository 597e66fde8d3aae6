"""The round-trip estimate of a node: how long to wait before a query counts as slow (RFC 6298, in seconds).

One estimate serves all peers: a lookup meets most of them once. It is measured on first answers only.
"""

from __future__ import annotations

__all__ = ["RoundTrip"]

INITIAL, SHORTEST, LONGEST = 0.5, 0.05, 2.0


class RoundTrip:
    """Smoothed round trip and its deviation."""

    __slots__ = ("_deviation", "_smoothed")

    def __init__(self) -> None:
        self._smoothed: float | None = None
        self._deviation = 0.0

    def sample(self, seconds: float) -> None:
        """Learn from one answer."""
        if self._smoothed is None:
            self._smoothed, self._deviation = seconds, seconds / 2
            return
        self._deviation += (abs(seconds - self._smoothed) - self._deviation) / 4
        self._smoothed += (seconds - self._smoothed) / 8

    @property
    def timeout(self) -> float:
        """After this long a query is slow; after three times this long it is lost."""
        if self._smoothed is None:
            return INITIAL
        return min(LONGEST, max(SHORTEST, self._smoothed + 4 * self._deviation))
