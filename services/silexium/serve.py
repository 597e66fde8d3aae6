"""``serve``: the API, and the task that gets stamps and logs releases, until a signal says stop. silexium-api.md, 4.

A composition root: it opens the database, unlocks the two keys, and wires stamps, log, answers and HTTP together. The
log has a signed head before the first request is taken.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.adapters.command.terminal import counted

from .announcing import tell_urls
from .commands import Commands
from .site import add_site_flags, load_site

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio

    from libreseed.adapters.http.server import HttpServerOptions
    from libreseed.adapters.silexium.log.log_store import LogStore
    from libreseed.adapters.silexium.releases.publication import Publication

    from .cosigner import Cosigner
    from .office import Office
    from .pump import Pump
    from .site import Site
    from .stamp_sources import StampSources

__all__ = ["add_parser", "run_server"]

_LOG = logging.getLogger("libreseed.silexium")


def add_parser(commands: Commands) -> None:
    """Register ``serve``."""
    parser = commands.add_parser(
        "serve",
        help="run the server",
        description="Serve the API and the log, get stamps for what was taken in, and log it. Runs in the foreground "
        "until SIGTERM or Ctrl-C; tells systemd when it is ready.",
        examples="  libreseed-silexium serve --config /etc/libreseed/silexium.toml\n"
        "  libreseed-silexium serve --config ./log --listen 127.0.0.1:0",
    )
    add_site_flags(parser)
    parser.add_argument("--listen", metavar="H:P", help="where to serve (port 0: the system chooses; it is printed)")
    parser.add_argument("--certificate", metavar="F", help="TLS: the certificate chain (PEM)")
    parser.add_argument("--certificate-key", metavar="F", help="TLS: its key")
    parser.add_argument("--embedded", metavar="DIR", help="be one's own authority and calendar; for tests")
    parser.set_defaults(handler=_serve_command)


def _serve_command(arguments: argparse.Namespace) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    run_server(load_site(arguments), as_json=arguments.json)


def run_server(site: Site, *, as_json: bool = False) -> None:
    """Serve until a signal; raises LibreSeedError when it cannot start or go on."""
    import trio

    from .guard import refuse_private_keys
    from .office import open_office

    site.log_identity()  # settings that forget one of the two keys are a mistake, not a stranger's key
    site.server_public()
    own = (site.server_key, site.log_key, site.certificate_key, site.embedded)
    refuse_private_keys(own, settings=site.config)
    with open_office(site) as office:
        trio.run(_serve, office, as_json)
    _LOG.info("stopped")


async def _serve(office: Office, as_json: bool) -> None:
    import trio

    from libreseed.adapters.command.notify import Notifier

    from .stopping import stop_on_signal

    notifier = Notifier()
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(partial(stop_on_signal, nursery.cancel_scope, stopping=notifier.stopping))
        log, urls = await _start(office, nursery, stack)
        for url in urls:
            _LOG.info("serving %s", url)
        _LOG.info("ready: %s, %s", log.identity.name, counted(log.size, "entry", "entries"))
        tell_urls(urls, as_json=as_json)
        notifier.ready(counted(log.size, "entry", "entries"))
        await notifier.run_watchdog()


async def _start(office: Office, nursery: trio.Nursery, stack: AsyncExitStack) -> tuple[LogStore, Sequence[str]]:
    """Open everything, sign a head, serve; the order is what :func:`run_server` promises."""
    from libreseed.adapters.silexium.log.log_store import LogStore

    from .office import wall_clock
    from .pump import Pump
    from .stamp_sources import open_stamp_sources
    from .wake import WakeBell

    site = office.site
    log = LogStore(office.database, site.log_identity())
    stamps = await open_stamp_sources(office, stack)
    office.policy()  # a mistake in the settings shows before anything is served
    publication = _publication(office, log, stamps)
    cosigner = await _open_cosigner(log, site, stack)
    await office.database.run(publication.sign, wall_clock())
    pump = Pump(publication, stack.enter_context(closing(WakeBell(site.database))))
    nursery.start_soon(cosigner.run)
    urls = await _start_http(office, log, stamps, pump, cosigner, nursery)
    if stamps.world is not None:
        stamps.world.reachable_at(f"{urls[0].rstrip('/')}/embedded/")
    nursery.start_soon(pump.run)
    if stamps.feed is not None:
        nursery.start_soon(stamps.feed.run)
    return log, urls


def _publication(office: Office, log: LogStore, stamps: StampSources) -> Publication:
    from libreseed.adapters.silexium.releases.publication import Publication

    return Publication(
        office.catalogue,
        log,
        office.site.unlock("log-key"),
        stamps.stamping,
        policy=office.policy,
        headers=stamps.headers,
        head_seconds=int(office.site.head_seconds),
        patience=int(office.site.patience_seconds),
    )


async def _start_http(  # noqa: PLR0917  # the parts that meet here
    office: Office, log: LogStore, stamps: StampSources, pump: Pump, cosigner: Cosigner, nursery: trio.Nursery
) -> Sequence[str]:
    """Serve the API; returns its URLs. A new head is told to the witnesses, and served at once."""
    from libreseed.adapters.http.connections import Connections
    from libreseed.adapters.http.server import serve
    from libreseed.adapters.silexium.releases.answers import Answers
    from libreseed.adapters.silexium.stamps.embedded_app import embedded_app

    from .api import Api, build_app
    from .wellbeing import Wellbeing

    site = office.site
    proxies = frozenset(site.trusted_proxies)
    connections = Connections(site.connections, site.connections_per_client, proxies, local_free=True)
    wellbeing = Wellbeing(office, pump, connections)
    answers = Answers(log, headers=stamps.run, cosigned=site.cosigned)
    api = Api(answers, office.database, wellbeing.keys, wellbeing.health, wellbeing.metrics)

    def on_head() -> None:
        cosigner.nudge()
        api.look_again()

    pump.on_head = on_head
    app = build_app(api)
    if stamps.world is not None:
        app.mount("/embedded", embedded_app(stamps.world))
    urls: Sequence[str] = await nursery.start(
        partial(serve, wellbeing.counting(app), _options(site), connections=connections)
    )
    return urls


async def _open_cosigner(log: LogStore, site: Site, stack: AsyncExitStack) -> Cosigner:
    """Compared with what the witnesses have seen, before anything is signed that could contradict it."""
    from libreseed.adapters.http.client import HttpClient

    from .cosigner import Cosigner
    from .log_peers import site_witnesses

    cosigner = Cosigner(log, site_witnesses(site), await stack.enter_async_context(HttpClient()))
    await cosigner.compare()
    return cosigner


def _options(site: Site) -> HttpServerOptions:
    from libreseed.adapters.http.rate_limit import Rate
    from libreseed.adapters.http.server import HttpServerOptions

    return HttpServerOptions(
        host=site.listen.host,
        port=site.listen.port,
        certfile=site.certificate,
        keyfile=site.certificate_key,
        connections=site.connections,
        connections_per_client=site.connections_per_client,
        max_body=limits.INSTALL_REQUEST_BYTES,
        body_seconds=10.0,
        rate=Rate(site.rate, site.burst, local_free=True),
        trusted_proxies=frozenset(site.trusted_proxies),
    )
