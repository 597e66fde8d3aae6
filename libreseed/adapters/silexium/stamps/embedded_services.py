"""The embedded authorities as services of the stamp queue, in this process: no HTTP, no port, no address."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import trio

from libreseed.adapters.silexium.stamps.embedded import EmbeddedWorld
from libreseed.silexium.embedded_tsa import EMBEDDED_POLICY
from libreseed.silexium.rfc3161 import TrustedTsa

__all__ = ["EmbeddedCalendarService", "EmbeddedTimeStampService"]


@dataclass(frozen=True, slots=True)
class EmbeddedTimeStampService:
    """The authority of a world; see :class:`TimeStampService`."""

    world: EmbeddedWorld

    @property
    def trusted(self) -> TrustedTsa:
        """As the world's ``time_table`` states it."""
        return TrustedTsa("embedded", self.world.root, policy=EMBEDDED_POLICY)

    async def ask(self, request: bytes) -> bytes:
        """The authority's answer."""
        return await trio.to_thread.run_sync(self.world.answer, request)


@dataclass(frozen=True, slots=True)
class EmbeddedCalendarService:
    """The calendar of a world; see :class:`CalendarService`."""

    world: EmbeddedWorld
    name: str = "embedded"

    def redeems(self, uri: str) -> bool:
        """Only its own promises."""
        return uri == self.world.uri

    async def submit(self, digest: bytes) -> bytes:
        """The calendar's promise."""
        return await trio.to_thread.run_sync(self.world.submit, digest)

    async def timestamp(self, uri: str, commitment: bytes) -> bytes | None:
        """The rest of the proof; None while it waits, and for what was never committed to."""
        try:
            return await trio.to_thread.run_sync(partial(self.world.timestamp, commitment))
        except KeyError:
            return None
