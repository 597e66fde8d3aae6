"""What a copy does that its own parity cannot repair: it gets the bad pieces from other peers, as a leecher would.

libtorrent downloads what is withheld, checks it against the signed torrent and shares it; this part finds peers, and
has the release checked anew once nothing is lacking, or once no more has come for a while (then parity may suffice).
"""

from __future__ import annotations

import logging

import trio

from libreseed.adapters.torrent.events import PieceDone
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.adapters.udp import DhtNode
from libreseed.errors import TransportFault

from .config import SeederConfig
from .library import Holding, Library

__all__ = ["Rescuer"]

_LOG = logging.getLogger("libreseed.seeder")
_QUIET_S = 5.0


class Rescuer:
    """Helps the damaged holdings of ``library``."""

    def __init__(self, library: Library, node: DhtNode, config: SeederConfig) -> None:
        self._library = library
        self._node = node
        self._pause = config.retry_interval

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Help until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for holding in self._library.damaged:
                nursery.start_soon(self._rescue, holding)

    async def _rescue(self, holding: Holding) -> None:
        """Until the holding is whole, removed, or offered anew (which brings it here again if need be)."""
        torrent = holding.torrent
        if torrent is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._connect, holding, torrent)
            await self._await_pieces(torrent)
            nursery.cancel_scope.cancel()
        if holding.torrent is torrent:
            _LOG.info("%s: pieces came from other peers, checking", holding.key)
            await self._library.check(holding)

    async def _connect(self, holding: Holding, torrent: Torrent) -> None:
        assert holding.stored is not None and holding.stored.outline is not None
        outline = holding.stored.outline
        while True:
            for info_hash in (outline.v2, outline.v1):
                try:
                    torrent.connect(await self._node.get_peers(info_hash))
                except TransportFault:
                    break  # no node answers: later, perhaps
                except trio.ClosedResourceError:
                    return
            await trio.sleep(self._pause)

    async def _await_pieces(self, torrent: Torrent) -> None:
        """Return when the torrent is complete, was taken out, or got something and then nothing for a while."""
        progress = False
        while True:
            with trio.move_on_after(_QUIET_S if progress else float("inf")) as scope:
                try:
                    batch = await torrent.events.receive_batch()
                    progress |= any(isinstance(event, PieceDone) for event in batch)
                    status = await torrent.status()
                except (trio.EndOfChannel, trio.ClosedResourceError):
                    return
                if sum(byte.bit_count() for byte in status.have) == status.pieces:
                    return
            if scope.cancelled_caught:
                return
