"""Who is in the swarm while a fetch lasts: snapshots of it for the plan, and everybody who may be called.

Owned by the fetch's task. ``docs/specification/resolver.md``, "Damaged peers".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from libreseed.adapters.torrent.events import Address
from libreseed.resolve.fetch_plan import FetchPlan
from libreseed.resolve.swarm_view import PeerOffer
from libreseed.torrent.bitfield import unpack_bitfield

if TYPE_CHECKING:
    from libreseed.adapters.torrent.torrent import Torrent, TorrentStatus

__all__ = ["STATUS_S", "SwarmWatch"]

STATUS_S = 0.25  # between snapshots of the swarm while the fetch lasts


class SwarmWatch:
    """``heard`` are addresses from the DHT and the user, and grows meanwhile; ``contributors`` gave so many bytes."""

    def __init__(self, plan: FetchPlan, heard: set[Address]) -> None:
        self.contributors: dict[Address, int] = {}
        self.connected: set[Address] = set()
        self.leeching = False  # a connected peer lacks something
        self._plan = plan
        self._heard = heard
        self._known = 0  # addresses that the plan knows of

    async def look(self, torrent: Torrent) -> TorrentStatus:
        """Take a snapshot and tell the plan."""
        status = await torrent.status()
        offers = [PeerOffer(peer.address, peer.have, peer.downloaded) for peer in status.peers]
        self.connected = {peer.address for peer in status.peers}
        self.contributors.update((peer.address, peer.downloaded) for peer in status.peers)
        plan, now = self._plan, trio.current_time()
        whole = status.pieces if plan.mix is not None else 0  # of interest only beside mirrors
        self.leeching = any(peer.have and sum(map(int.bit_count, peer.have)) < whole for peer in status.peers)
        if len(self._heard) > self._known:
            self._known = len(self._heard)
            plan.source_heard(now)
        if plan.swarm.banned:
            # A ban closes more connections than the peer's own; nobody without fault may stay away because of it.
            others = self.everybody() - plan.swarm.banned
            plan.swarm.heard_of(others)
            torrent.connect(others - self.connected)
        plan.swarm.update(offers, plan.owed(), now)
        if plan.mix is not None:
            plan.mix.begun(await torrent.begun())
            plan.mix.update(trio.current_time())
        return status

    async def crossed(self, torrent: Torrent | None) -> bool:
        """Whether a chunk from a mirror lies where the session may have written, too, up to now."""
        mix = self._plan.mix
        if mix is not None and torrent is not None:
            mix.begun(await torrent.begun())  # since the last look
        return mix is not None and mix.crossed

    async def until_shared(self, torrent: Torrent) -> None:
        """Return once no connected peer lacks a piece of the .tgz, or none is left."""
        while True:
            status = await self.look(torrent)
            flags = [unpack_bitfield(peer.have, status.pieces) for peer in status.peers if peer.have]
            if all(all(have[piece] for piece in self._plan.layout.tgz.pieces) for have in flags):
                return
            await trio.sleep(STATUS_S)

    def everybody(self) -> set[Address]:
        """All addresses that were ever heard of or seen."""
        return self._heard | self.contributors.keys()

    def callable(self) -> list[Address]:
        """Every address that may answer a call: where peers are known to listen before where they come from."""
        banned = self._plan.swarm.banned
        seen = [*sorted(banned), *self.connected, *self.contributors]
        heard = sorted(self._heard, key=lambda address: address not in self.contributors and address not in banned)
        return list(dict.fromkeys([*heard, *seen]))
