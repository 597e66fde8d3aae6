"""Where a server's stamps come from: the configured authorities and calendars, or an embedded world."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.adapters.silexium.stamps.stamping import Stamping
from libreseed.errors import UsageFault
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, HeaderSource
from libreseed.silexium.bundle import HeaderRun
from libreseed.silexium.stamp_job import Pace

if TYPE_CHECKING:
    from pathlib import Path

    import trio
    from starlette.applications import Starlette

    from libreseed.adapters.silexium.stamps.embedded import EmbeddedWorld

    from .header_feed import HeaderFeed
    from .office import Office

__all__ = ["StampSources", "open_stamp_sources"]

# The embedded calendar keeps its promises at once, so there is no reason to wait.
_EMBEDDED_PACE = Pace(retry_first=1, retry_most=30, poll_first=0, poll_most=5)


@dataclass(frozen=True, slots=True)
class StampSources:
    """``headers`` confirm proofs; ``run`` gives the headers that go into bundles, None where they would be many.

    ``world`` is what is embedded, if anything is; ``feed`` keeps the headers up to date where the settings say so.
    """

    stamping: Stamping
    headers: Callable[[], HeaderSource]
    run: Callable[[], HeaderRun | None]
    world: EmbeddedWorld | None = None
    feed: HeaderFeed | None = None

    def lend(self, app: Starlette) -> None:
        """Serve what is embedded to other programs too, below ``/embedded/``."""
        from libreseed.adapters.silexium.stamps.embedded_app import embedded_app

        if self.world is not None:
            app.mount("/embedded", embedded_app(self.world))

    def start(self, url: str, nursery: trio.Nursery) -> None:
        """The server is reachable at ``url``: promises may name it, and headers are kept up to date from now on."""
        if self.world is not None:
            self.world.reachable_at(f"{url.rstrip('/')}/embedded/")
        if self.feed is not None:
            nursery.start_soon(self.feed.run)


async def open_stamp_sources(office: Office, stack: AsyncExitStack) -> StampSources:
    """What the site's settings name; clients are closed with ``stack``. Raises :class:`UsageFault` ``config.*``."""
    if office.site.embedded is not None:
        return _embedded(office, office.site.embedded)
    return await _over_http(office, stack)


def _embedded(office: Office, folder: Path) -> StampSources:
    from libreseed.adapters.silexium.stamps.embedded import embedded_world
    from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedCalendarService, EmbeddedTimeStampService

    world = embedded_world(folder)
    services = [EmbeddedTimeStampService(world)], [EmbeddedCalendarService(world)]
    stamping = Stamping(office.database, *services, world.chain, pace=_EMBEDDED_PACE)

    def run() -> HeaderRun | None:
        data = world.headers()
        return HeaderRun(0, data) if len(data) <= HEADER_BYTES * limits.BUNDLE_HEADERS else None

    return StampSources(stamping, world.chain, run, world)


async def _over_http(office: Office, stack: AsyncExitStack) -> StampSources:
    from libreseed.adapters.http.client import HttpClient, HttpClientOptions
    from libreseed.adapters.silexium.stamps.calendar_client import HttpCalendar
    from libreseed.adapters.silexium.stamps.header_store import HeaderStore
    from libreseed.adapters.silexium.stamps.tsa_client import HttpTsa

    from .header_feed import HeaderFeed

    site, policy = office.site, office.time_policy
    trusted = {tsa.name: tsa for tsa in policy.tsas}
    if unknown := [one.name for one in site.authorities if one.name not in trusted]:
        raise UsageFault("config.value", f"the authority {unknown[0]!r} is not in time.tsas")
    if len(site.authorities) < policy.tsa_threshold or not site.calendars:
        message = f"{policy.tsa_threshold} authorities and a calendar are needed, or no release is ever logged"
        raise UsageFault("config.value", message)
    if site.headers is None:
        raise UsageFault("config.value", "headers is not set: without block headers no proof is ever confirmed")
    client = await stack.enter_async_context(HttpClient(HttpClientOptions(timeout=15, total=60)))
    authorities = [HttpTsa(one.url, trusted[one.name], client) for one in site.authorities]
    calendars = [HttpCalendar(one.url, one.url, client, one.redeemed_at) for one in site.calendars]
    store = HeaderStore(site.headers, policy.network, policy.pins)
    stamping = Stamping(office.database, authorities, calendars, lambda: store)
    feed = None
    if site.headers_from is not None:
        adding = HeaderStore(site.headers, policy.network, policy.pins)
        feed = HeaderFeed(site.headers_from, adding, client, stamping, site.database)
    return StampSources(stamping, lambda: store, lambda: None, feed=feed)
