"""The mirror daemon: its parts wired together, from the lock on the store to the clean stop.

Order of start: lock, no private key in reach (G2), what notes vouch for, ports, READY; judgements and scrubs go on
behind. SIGTERM and SIGINT cancel everything: answers under way have a few seconds to end, and the exit code is 0.
SIGHUP looks at the store at once and reads certificate and key anew. Nothing here computes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from libreseed.adapters.command.notify import Notifier
from libreseed.adapters.command.terminal import counted
from libreseed.adapters.http.connections import Connections
from libreseed.adapters.http.server import ServerTls, serve
from libreseed.errors import LibreSeedError, LocalFault, NotFound

from .answers import Answers
from .config import MirrorConfig
from .guard import refuse_private_keys
from .judging import Rules
from .library import STATE_FOLDER, Library
from .metrics import Gauges
from .scrubber import Scrubber
from .site import Site, Tally

__all__ = ["run_daemon"]

_LOG = logging.getLogger("libreseed.mirror")
_SPARE_FILES = 64


def run_daemon(config: MirrorConfig, config_file: Path | None = None) -> None:
    """Serve until a signal says stop; raises LibreSeedError or OSError when it cannot start or go on."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    _allow_files(config.connections)
    with _locked(config.store):
        refuse_private_keys(config, config_file, os.environ)
        trio.run(_serve, config)
    _LOG.info("stopped")


async def _serve(config: MirrorConfig) -> None:
    notifier = Notifier()
    rules = Rules(frozenset(config.publisher), config.max_package_bytes)
    library = Library(config.store, rules, rescan=config.rescan_interval, patience=config.patience)
    tls = ServerTls(config.cert, config.key) if config.cert and config.key else None
    trusted = frozenset(config.trusted_proxy)
    connections = Connections(config.connections, config.connections_per_client, trusted, local_free=True)
    scrubber = Scrubber(library, interval=config.scrub_interval, rate=config.scrub_rate)
    tally = Tally()
    gauges = Gauges(library, scrubber, tally, connections)
    site = Site(Answers(library, metrics=gauges.metrics, health=gauges.health), tally)
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, nursery.cancel_scope, notifier, library, tls)
        await nursery.start(library.run)
        nursery.start_soon(scrubber.run)
        for at in config.listen:
            options = config.http(at)
            for url in await nursery.start(partial(serve, site, options, connections=connections, tls=tls)):
                _LOG.info("serving %s", url)
        status = counted(len(library.holdings), "release")
        _LOG.info("ready: %s in %s", status, config.store)
        notifier.ready(status)
        await notifier.run_watchdog()
        await trio.sleep_forever()


async def _obey_signals(
    scope: trio.CancelScope,
    notifier: Notifier,
    library: Library,
    tls: ServerTls | None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                await _reload(library, tls)
                continue
            _LOG.info("stopping on %s", signal.Signals(number).name)
            notifier.stopping()
            scope.cancel()
            return


async def _reload(library: Library, tls: ServerTls | None) -> None:
    try:
        if tls is not None:
            tls.reload()
        _LOG.info("certificate and store are read anew")
    except LibreSeedError as error:
        _LOG.error("the certificate in use stays: %s", error.message)
    await library.look()


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """One daemon per store; a store that cannot be written to is served without a lock, and is not healed."""
    if not store.is_dir():
        raise NotFound("notfound.file", f"the store {store} is not a folder; --store names another")
    try:
        (store / STATE_FOLDER).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(
            store / STATE_FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except OSError as error:
        _LOG.warning(
            "the store %s cannot be written to (%s): nothing is healed, nothing remembered", store, error.strerror
        )
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LocalFault("storage.locked", f"another mirror serves {store}") from error
    finally:
        os.close(descriptor)


def _allow_files(connections: int) -> None:
    """As many descriptors as connections may need: the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
