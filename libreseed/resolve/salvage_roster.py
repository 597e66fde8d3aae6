"""Whom to ask for single chunks: every address that may answer, and what each has answered so far.

An address is a claim: one that was heard of in the DHT or named by the user is where a peer listens, one that a
connection came from often is not (the port is its own choice, and a NAT's address somebody else's). So those that can
be dialled come first, all are asked, and one that gives no answer says nothing about any chunk. Invariants: a peer is
asked for no chunk again that it answered wrongly or does not serve; an address is given up after
``limits.SALVAGE_ATTEMPTS`` rounds in a row without an answer. Owned by one task; does no IO.
``docs/specification/resolver.md``, "Damaged peers".
"""

from __future__ import annotations

from collections.abc import Iterable

from libreseed import limits
from libreseed.resolve.piece_map import Chunk, Salvaged
from libreseed.resolve.swarm_view import Address

__all__ = ["SalvageRoster"]


class SalvageRoster:
    """``known`` arguments are addresses in the order in which they shall be asked."""

    def __init__(self) -> None:
        self._refused: dict[Address, set[Chunk]] = {}
        self._mute: dict[Address, int] = {}

    def to_ask(self, known: Iterable[Address], wants: Iterable[Chunk]) -> dict[Address, frozenset[Chunk]]:
        """Who is to be asked now, and which of ``wants`` each has refused already."""
        wanted = frozenset(wants)
        asks: dict[Address, frozenset[Chunk]] = {}
        for address in known:
            refused = wanted & self._refused.get(address, set())
            if len(refused) < len(wanted) and self._mute.get(address, 0) < limits.SALVAGE_ATTEMPTS:
                asks[address] = refused
            if len(asks) == limits.SALVAGE_ADDRESSES:
                break
        return asks

    def note(self, result: Salvaged) -> None:
        """Take in what the peers answered."""
        for address, chunks in result.by_peer.items():
            self._refused.setdefault(address, set()).update(chunks)
            self._mute.pop(address, None)
        for address in result.silent:
            self._mute[address] = self._mute.get(address, 0) + 1

    def refused(self, known: Iterable[Address], wants: Iterable[Chunk]) -> set[Chunk]:
        """Those of ``wants`` that somebody answered wrongly or does not serve, and that nobody is left to ask for."""
        hopes = [self._refused.get(a, set()) for a in known if self._mute.get(a, 0) < limits.SALVAGE_ATTEMPTS]
        answered = {chunk for chunks in self._refused.values() for chunk in chunks}
        return {chunk for chunk in wants if chunk in answered and all(chunk in refused for refused in hopes)}
