"""The server's task that has every new head cosigned by the witnesses of its settings.

What a witness refuses is logged and asked again later. A witness that shows a head of this log which the database does
not have stops the log (``silexium.shrunk``): publication then refuses to append or to sign, and /health says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import trio

from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.watching.cosigning import Witness, collect_cosignatures, compare_heads
from libreseed.errors import LibreSeedError

__all__ = ["Cosigner"]

_LOG = logging.getLogger("libreseed.silexium")
_RETRY_SECONDS = 30.0


@dataclass
class Cosigner:
    """``nudge`` it when there is a new head."""

    log: LogStore
    witnesses: tuple[Witness, ...]
    client: HttpClient
    _news: trio.Event = field(default_factory=trio.Event)

    def nudge(self) -> None:
        """There is a new head."""
        self._news.set()

    async def compare(self) -> None:
        """Look, before the log goes on, whether the witnesses have seen more of it; raises ``silexium.shrunk``."""
        for outcome in await compare_heads(self.log, self.witnesses, self.client):
            if outcome.error is not None:
                _LOG.warning("not compared with a witness: %s [%s]", outcome.error.message, outcome.error.reason)

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            self._news = trio.Event()
            done = await self._collect()
            with trio.move_on_after(float("inf") if done else _RETRY_SECONDS):
                await self._news.wait()

    async def _collect(self) -> bool:
        """Ask everybody who has not cosigned the newest head; whether all of them have now."""
        try:
            outcomes = await collect_cosignatures(self.log, self.witnesses, self.client)
        except LibreSeedError as error:
            _LOG.critical("%s [%s]", error.message, error.reason)
            return False
        for outcome in outcomes:
            if outcome.error is None:
                _LOG.info("%s has cosigned %d entries", outcome.witness.identity.name, outcome.size)
            else:
                _LOG.warning("no cosignature: %s [%s]", outcome.error.message, outcome.error.reason)
        return all(outcome.error is None for outcome in outcomes)
