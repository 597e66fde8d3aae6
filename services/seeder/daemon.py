"""The seeder daemon: its parts wired together, from the lock on the state directory to the clean stop.

Order of start: no private key in reach (G2), lock, ports, what is stored, control socket, READY. Each part is a task of
one nursery; SIGTERM, SIGINT and SIGHUP cancel it, and the exit code is 0. Nothing here computes.
"""

from __future__ import annotations

import logging
import signal
import sys
from functools import partial

import trio

from libreseed.adapters.command.control_server import ControlServer
from libreseed.adapters.command.listening import listen_addresses
from libreseed.adapters.command.notify import Notifier
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.command.terminal import counted
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.adapters.release.seed_store import SeedStore
from libreseed.adapters.torrent.legacy_door import LegacyDoor
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions

from .announcer import LEGACY_PEERS, Announcer
from .config import SeederConfig
from .guard import refuse_private_keys
from .health import Meter
from .library import Library, Swarm
from .metrics import MetricsPage
from .minder import Minder
from .requests import Parts, Requests
from .scrubber import Scrubber
from .spot_check import SpotCheck
from .watch import WatchFolder

__all__ = ["run_daemon"]

_LOG = logging.getLogger("libreseed.seeder")
_SCRAPERS = 16  # connections to the metrics page


def run_daemon(config: SeederConfig) -> None:
    """Serve until a signal says stop; raises LibreSeedError or OSError when it cannot start or go on."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    refuse_private_keys(config)
    with SeedStore.open(config.state_dir) as store:
        trio.run(_serve, config, store)
    _LOG.info("stopped")


async def _serve(config: SeederConfig, store: SeedStore) -> None:
    notifier = Notifier()
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, nursery.cancel_scope, notifier)
        await _start(config, store, notifier, nursery)


async def _stop_on_signal(
    scope: trio.CancelScope, notifier: Notifier, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            _LOG.info("stopping on %s", signal.Signals(number).name)
            notifier.stopping()
            scope.cancel()
            return


async def _start(config: SeederConfig, store: SeedStore, notifier: Notifier, nursery: trio.Nursery) -> None:
    listen = await listen_addresses([(one.host, one.port) for one in config.listen])
    node = DhtNode(
        DhtOptions(
            listen=tuple((host, config.dht_port) for host, _ in listen),
            bootstrap=tuple((one.host, one.port) for one in config.bootstrap),
            state_file=config.state_dir / "dht-nodes.json",
        )
    )
    session = TorrentSession(
        SessionOptions(
            listen=listen,
            udp=not config.shares_port,
            upload_limit=config.upload_rate,
            download_limit=config.download_rate,
            connections=config.connections,
        )
    )
    await nursery.start(session.run)
    await nursery.start(node.run)  # after the session, which gives a UDP port back that both were given
    hosts = [host for host, _ in session.addresses]
    door = LegacyDoor(_reachable(session.addresses[0]), hosts=hosts, port=config.legacy_port)
    await nursery.start(door.run)
    meter = Meter()
    announcer = Announcer(node, config, ports=lambda kind: door.ports if kind == LEGACY_PEERS else session.ports)
    swarm = Swarm(session, door)
    library = Library(store, swarm, announcer, meter, config)
    node.set_records(announcer.records_of)
    announcer.on_newer(library.indexes.meet)
    nursery.start_soon(announcer.run)
    await nursery.start(library.run)
    watch = None
    if config.watch is not None:
        watch = WatchFolder(config.watch, config.state_dir, library.add, interval=config.watch_interval)
        await nursery.start(watch.run)
    await nursery.start(Minder(library, node, config).run)
    nursery.start_soon(Scrubber(library, config).run)
    nursery.start_soon(SpotCheck(library, meter, interval=config.spot_interval).run)
    answers = Requests(Parts(config, library, announcer, swarm, node, meter, watch))
    await nursery.start(ControlServer(config.control_socket, answers, group=config.control_group).run)
    if config.metrics_listen is not None:
        await _serve_metrics(config.metrics_listen, answers, nursery)
    _announce_ready(config, session, node, library, notifier)
    await notifier.run_watchdog()


async def _serve_metrics(at: Endpoint, answers: Requests, nursery: trio.Nursery) -> None:
    from libreseed.adapters.http.server import HttpServerOptions, serve

    options = HttpServerOptions(at.host, at.port, http2=False, connections=_SCRAPERS, max_body=0)
    for url in await nursery.start(partial(serve, MetricsPage(answers.metrics), options)):
        _LOG.info("metrics on %s/metrics", url)


def _reachable(address: tuple[str, int]) -> tuple[str, int]:
    """Where this machine reaches a socket that is bound to ``address``, which may be the wildcard."""
    host, port = address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104


def _announce_ready(
    config: SeederConfig, session: TorrentSession, node: DhtNode, library: Library, notifier: Notifier
) -> None:
    for host, port in session.addresses:
        _LOG.info("listening on tcp %s port %d", host, port)
    for host, port in node.addresses:
        _LOG.info("dht on udp %s port %d", host, port)
    if config.shares_port:
        _LOG.info("the DHT has the UDP port of the swarm's number: peers are reached by TCP only, not by uTP")
    _LOG.info("control socket %s", config.control_socket)
    _LOG.info("ready: %d releases", len(library.holdings))
    notifier.ready(counted(len(library.holdings), "release"))
