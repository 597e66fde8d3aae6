"""A stamp queue over embedded authorities, and services that lie in exactly one way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libreseed.adapters.silexium.database import Database, open_database
from libreseed.adapters.silexium.stamps.calendar_client import CalendarService
from libreseed.adapters.silexium.stamps.embedded import EmbeddedWorld, embedded_world
from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedCalendarService, EmbeddedTimeStampService
from libreseed.adapters.silexium.stamps.stamp_queue import STAMP_SCHEMA
from libreseed.adapters.silexium.stamps.stamping import Stamping
from libreseed.adapters.silexium.stamps.tsa_client import TimeStampService
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.rfc3161 import TrustedTsa
from libreseed.silexium.stamp_job import Pace
from tests.silexium_support import NOW

PACE = Pace(retry_first=10, retry_most=100, poll_first=60, poll_most=240, promise_lasts=10_000)
MESSAGE = b"the bytes of an attestation"


@dataclass
class FakeTsa:
    """An authority whose answer is whatever ``answer`` makes of the request."""

    trusted: TrustedTsa
    answer: Callable[[bytes], Awaitable[bytes]]
    asked: list[bytes] = field(default_factory=list)

    async def ask(self, request: bytes) -> bytes:
        self.asked.append(request)
        return await self.answer(request)


@dataclass
class FakeCalendar:
    """A calendar in front of an honest one: ``promise`` and ``rest`` change what it says; None leaves it."""

    name: str
    inner: EmbeddedCalendarService
    promise: Callable[[bytes], Awaitable[bytes]] | None = None
    rest: Callable[[bytes], Awaitable[bytes | None]] | None = None
    submitted: list[bytes] = field(default_factory=list)
    questions: int = 0

    def redeems(self, uri: str) -> bool:
        return self.inner.redeems(uri)

    async def submit(self, digest: bytes) -> bytes:
        self.submitted.append(digest)
        return await (self.inner.submit(digest) if self.promise is None else self.promise(digest))

    async def timestamp(self, uri: str, commitment: bytes) -> bytes | None:
        self.questions += 1
        return await (self.inner.timestamp(uri, commitment) if self.rest is None else self.rest(commitment))


@dataclass
class Bench:
    """A world, a database, and a queue; the clock is ``now``, which tests move."""

    folder: Path
    now: int = NOW
    authorities: Sequence[TimeStampService] | None = None
    calendars: Sequence[CalendarService] | None = None
    headers: Callable[[], HeaderSource] | None = None
    world: EmbeddedWorld = field(init=False)
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.world = embedded_world(self.folder / "world", clock=lambda: self.now)
        self.database = open_database(self.folder / "silexium.db", [STAMP_SCHEMA])

    def stamping(self) -> Stamping:
        """A new one each time, as after a restart."""
        return Stamping(
            self.database,
            [EmbeddedTimeStampService(self.world)] if self.authorities is None else self.authorities,
            [EmbeddedCalendarService(self.world)] if self.calendars is None else self.calendars,
            self.headers or self.world.chain,
            pace=PACE,
        )

    def calendar(self, name: str = "fake", **behaviour: object) -> FakeCalendar:
        return FakeCalendar(name, EmbeddedCalendarService(self.world), **behaviour)  # type: ignore[arg-type]
