"""What happens to a release while it is offered: errors of its files are looked into, and a damaged copy is completed.

A copy that its own parity cannot repair gets the bad pieces from other peers, as a leecher would: libtorrent downloads
what is withheld, checks it against the signed torrent and shares it; this part finds peers, and has the release checked
anew once nothing is lacking, or once no more has come for a while (then parity may suffice).
"""

from __future__ import annotations

import logging

import trio

from libreseed.adapters.dht.udp import DhtNode
from libreseed.adapters.torrent.events import PieceDone, TorrentError
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.errors import TransportFault

from .config import SeederConfig
from .library import Holding, Library

__all__ = ["Minder"]

_LOG = logging.getLogger("libreseed.seeder")
_QUIET_S = 5.0


class Minder:
    """Minds every holding of ``library`` for as long as it is offered."""

    def __init__(self, library: Library, node: DhtNode, config: SeederConfig) -> None:
        self._library = library
        self._node = node
        self._pause = config.retry_interval

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mind until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for holding in self._library.offered:
                if holding.torrent is not None:
                    nursery.start_soon(self._mind, holding, holding.torrent)

    async def _mind(self, holding: Holding, torrent: Torrent) -> None:
        """Until the holding is removed or offered anew, which brings it here again."""
        async with trio.open_nursery() as nursery:
            if holding.state == "damaged":
                nursery.start_soon(self._connect, holding, torrent)
            error = await self._await_news(holding, torrent)
            nursery.cancel_scope.cancel()
        if error is not None:
            _LOG.error("%s: %s", holding.key, error.message)
            await trio.sleep(self._pause)  # a file that cannot be read now may be readable soon, and no sooner
            await self._library.offer_anew(holding, torrent)
        elif holding.torrent is torrent:
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

    async def _await_news(self, holding: Holding, torrent: Torrent) -> TorrentError | None:
        """An error of the torrent; or None when it was completed, taken out, or got something and then no more."""
        progress = False
        while True:
            with trio.move_on_after(_QUIET_S if progress else float("inf")) as scope:
                try:
                    batch = await torrent.events.receive_batch()
                    if errors := [event for event in batch if isinstance(event, TorrentError)]:
                        return errors[-1]
                    progress |= any(isinstance(event, PieceDone) for event in batch)
                    if holding.state == "damaged" and await _is_complete(torrent):
                        return None
                except (trio.EndOfChannel, trio.ClosedResourceError):
                    return None
            if scope.cancelled_caught:
                return None


async def _is_complete(torrent: Torrent) -> bool:
    status = await torrent.status()
    return sum(byte.bit_count() for byte in status.have) == status.pieces
