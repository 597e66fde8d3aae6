"""Keeps a server's block headers up to date, so that the calendars' proofs are confirmed without anybody's doing.

What comes is verified by the store, from whomever it comes; a fault is logged, and tried again with the next round.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.silexium.stamps.header_import import (
    HASH_PLACE,
    BitcoinNode,
    import_from_node,
    import_url,
    read_cookie,
)
from libreseed.errors import LibreSeedError

from .office import wall_clock
from .wake import wake_server

if TYPE_CHECKING:
    from libreseed.adapters.http.client import HttpClient
    from libreseed.adapters.silexium.stamps.header_store import HeaderStore
    from libreseed.adapters.silexium.stamps.stamping import Stamping

    from .site import HeaderOrigin

__all__ = ["HeaderFeed"]

_LOG = logging.getLogger("libreseed.silexium")
_EVERY_SECONDS = 60.0  # asking a node whether there is more costs nothing
_WHOLE_EVERY_SECONDS = 3600.0  # fetching all of a file anew does


@dataclass(frozen=True, slots=True)
class HeaderFeed:
    """Adds what ``origin`` has to ``store``, and has ``stamping`` look again at the proofs that waited for it."""

    origin: HeaderOrigin
    store: HeaderStore
    client: HttpClient
    stamping: Stamping
    database: Path

    async def run(self) -> None:
        """Until cancelled."""
        url = self.origin.url
        pause = _EVERY_SECONDS if url is None or HASH_PLACE in url else _WHOLE_EVERY_SECONDS
        while True:
            await self.step(wall_clock())
            await trio.sleep(pause)

    async def step(self, now: int) -> None:
        """Fetch once; a fault is logged and raises nothing."""
        try:
            added = await self._add(now)
        except LibreSeedError as error:
            _LOG.warning("no block headers: %s [%s]", error.message, error.reason)
            return
        if added:
            _LOG.info("%d new block headers, up to %d", added, self.store.record.tip)
            await self.stamping.headers_changed(now)
            wake_server(self.database)

    async def _add(self, now: int) -> int:
        origin = self.origin
        if origin.url is not None:
            return await import_url(self.store, self.client, origin.url, now=now)
        login = "" if origin.cookie is None else read_cookie(origin.cookie)  # a node makes a new one at each start
        return await import_from_node(self.store, BitcoinNode(self.client, origin.rpc or "", login), now=now)
