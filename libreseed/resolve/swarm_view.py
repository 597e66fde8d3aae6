"""What the connected peers offer, and which of them keep silent: the planner's picture of the swarm.

Peers are claims, not facts: a peer that offers what is wanted and delivers nothing for ``silence_s`` seconds stops
counting, until it delivers again. Addresses are opaque here. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from libreseed import limits

__all__ = ["Address", "PeerOffer", "SwarmView"]

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PeerOffer:
    """One connected peer: its BEP 3 bitfield (empty while unknown) and the payload bytes it has sent so far."""

    address: Address
    have: bytes
    downloaded: int


@dataclass(slots=True)
class _Known:
    offer: int  # the bitfield as an integer, piece 0 being the highest of ``pieces`` bits
    downloaded: int
    active_at: float  # when it last delivered, or began to owe something


class SwarmView:
    """Owned by one task. ``offered`` says which pieces somebody is believed to deliver."""

    def __init__(self, pieces: int, silence_s: float) -> None:
        self._pieces = pieces
        self._bits = -(-pieces // 8) * 8
        self._silence_s = silence_s
        self._known: dict[Address, _Known] = {}
        self._silent: set[Address] = set()
        self._banned: dict[Address, int] = {}
        self._tainted: set[Address] = set()
        self._tainted_hosts: set[str] = set()  # a banned peer that calls back comes from another port
        self._hosts: set[str] = set()  # of everybody who was ever seen or heard of
        self._union = 0
        self._clean = 0
        self._proven = 0
        self.delivered_at = 0.0  # when a peer last delivered anything
        self.changed_at = 0.0
        self.updated_at = 0.0
        self.strangers = 0  # connected peers that have not said yet what they have
        self.revision = 0  # changes with what clean peers offer

    @property
    def peers(self) -> int:
        """How many peers are connected and have said what they have."""
        return len(self._known)

    @property
    def speaking(self) -> int:
        """How many of them are believed to deliver."""
        return len(self._known.keys() - self._silent)

    @property
    def silent(self) -> frozenset[Address]:
        """Peers that owe data and kept silent too long: to be dropped."""
        return frozenset(self._silent)

    @property
    def banned(self) -> frozenset[Address]:
        """Peers whose pieces failed; single chunks of theirs can still be good."""
        return frozenset(self._banned)

    def update(self, peers: Iterable[PeerOffer], wanted: Sequence[int], now: float) -> None:
        """Take a snapshot of the connected peers; ``wanted`` are the priorities in force (0 = not wanted)."""
        wish = _mask(wanted, self._bits)
        before = self._union, self._clean
        current: dict[Address, _Known] = {}
        self.strangers = 0
        for peer in peers:
            before_it = self._known.get(peer.address)
            if peer.downloaded > (before_it.downloaded if before_it else 0) and peer.address not in self._banned:
                self.delivered_at = now
            self.strangers += not peer.have and peer.address not in self._banned
            if peer.have and peer.address not in self._banned:
                current[peer.address] = self._judge(peer, wish, now)
        self._known = current
        self.heard_of(current)
        self._silent = {address for address, known in current.items() if now - known.active_at >= self._silence_s}
        self._union = self._clean = self._proven = 0
        for address, known in current.items():
            if address not in self._silent:
                self._union |= known.offer
                self._proven |= known.offer if known.downloaded else 0
                self._clean |= known.offer if address[0] not in self._tainted_hosts else 0
        self.updated_at = now
        if (self._union, self._clean) != before:
            self.changed_at = now
            self.revision += 1

    def ban(self, address: Address, now: float) -> None:
        """The peer gave bytes that do not hold: it no longer counts as an offer."""
        known = self._known.pop(address, None)
        if address not in self._banned:  # else it called back, and was sent away at once
            self.changed_at = now
        self._banned[address] = known.offer if known else -1
        self._tainted.add(address)
        self._tainted_hosts.add(address[0])
        self._hosts.add(address[0])
        self._silent.discard(address)

    @property
    def ever_banned(self) -> frozenset[Address]:
        """Peers whose pieces failed at any time."""
        return frozenset(self._tainted)

    def heard_of(self, addresses: Iterable[Address]) -> None:
        """There may be a peer at each of these addresses."""
        self._hosts.update(host for host, _ in addresses)

    @property
    def has_others(self) -> bool:
        """Whether there may be a peer where none was ever banned."""
        return len(self._hosts) > len(self._tainted_hosts)

    def was_banned(self, address: Address) -> bool:
        """Whether the peer was ever banned."""
        return address in self._tainted

    def forgive(self, addresses: Iterable[Address]) -> None:
        """The session takes these peers back."""
        for address in addresses:
            self._banned.pop(address, None)

    def offers(self, piece: int) -> bool:
        """Whether a speaking peer says that it has ``piece``."""
        return bool(self._union >> (self._bits - 1 - piece) & 1)

    def offers_proven(self, piece: int) -> bool:
        """Whether a speaking peer that has delivered anything says that it has ``piece``."""
        return bool(self._proven >> (self._bits - 1 - piece) & 1)

    def offers_clean(self, piece: int) -> bool:
        """Whether a speaking peer, from where none was ever banned, says that it has ``piece``."""
        return bool(self._clean >> (self._bits - 1 - piece) & 1)

    def offerings(self) -> list[Callable[[int], bool]]:
        """For each speaking peer that never was banned: does it say that it has a piece? The most generous first."""
        clean = [known for at, known in self._known.items() if at not in self._silent and at not in self._tainted]
        clean.sort(key=lambda known: -known.downloaded)
        return [partial(self._has, known.offer) for known in clean[: limits.SHARE_PEERS]]

    def _has(self, offer: int, piece: int) -> bool:
        return bool(offer >> (self._bits - 1 - piece) & 1)

    def next_silence(self) -> float | None:
        """When the next peer falls silent unless it delivers; None without such a peer."""
        times = [known.active_at + self._silence_s for known in self._known.values()]
        return min((at for at in times), default=None)

    def _judge(self, peer: PeerOffer, wish: int, now: float) -> _Known:
        offer = int.from_bytes(peer.have.ljust(self._bits // 8, b"\0")[: self._bits // 8], "big")
        known = self._known.get(peer.address)
        owes = bool(offer & wish)
        if known is None or peer.downloaded > known.downloaded or not owes:
            return _Known(offer, peer.downloaded, now)
        return _Known(offer, peer.downloaded, known.active_at)


def _mask(priorities: Sequence[int], bits: int) -> int:
    digits = "".join("1" if priority else "0" for priority in priorities)
    return int(digits.ljust(bits, "0") or "0", 2)
