"""One run of ``libreseed-mirror sync``: what its flags mean, and the sources opened for it."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libreseed import limits
from libreseed.adapters.command.settings import Endpoint, endpoint, integer, seconds
from libreseed.adapters.files.watcher import Watcher
from libreseed.adapters.mirrors.ranges import Ranges
from libreseed.adapters.mirrors.sites import Site, read_sites
from libreseed.errors import LocalFault, NotFound, UsageFault
from libreseed.ids import ReleaseId
from libreseed.resolve.request import parse_key, parse_release

from .judging import Rules
from .library import STATE_FOLDER
from .pulling import Sources
from .swarm import open_swarm
from .syncing import Syncer, SyncResult

__all__ = ["SyncPlan", "read_plan", "run_sync"]


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What to pull, from where, into which store."""

    store: Path
    releases: tuple[ReleaseId, ...]
    sites: tuple[Site, ...]
    bootstrap: tuple[Endpoint, ...]
    peers: tuple[Endpoint, ...]
    listen_host: str
    rules: Rules
    ca_file: Path | None
    private_redirects: bool
    silence_s: float


def read_plan(arguments: argparse.Namespace) -> SyncPlan:
    """Read the flags; raises :class:`UsageFault`."""
    try:
        most = integer(1, limits.PACKAGE_BYTES)(arguments.max_package_bytes or str(limits.PACKAGE_BYTES))
        silence = seconds(arguments.silence)
    except ValueError as error:
        raise UsageFault("usage", str(error)) from error
    plan = SyncPlan(
        store=arguments.store.absolute(),
        releases=tuple(parse_release(text) for text in arguments.release),
        sites=read_sites(arguments.mirror),
        bootstrap=tuple(endpoint(text) for text in arguments.bootstrap),
        peers=tuple(endpoint(text) for text in arguments.peer),
        listen_host=arguments.listen_host,
        rules=Rules(frozenset(parse_key(text) for text in arguments.publisher or ()), most),
        ca_file=arguments.ca_file,
        private_redirects=arguments.private_redirects,
        silence_s=silence,
    )
    if not plan.sites and not plan.bootstrap and not plan.peers:
        raise UsageFault("usage", "name a source: --from URL, or --bootstrap H:P")
    if not plan.sites and not (plan.releases and plan.rules.publishers and plan.bootstrap):
        raise UsageFault("usage", "from the swarm alone, name the releases, --publisher and --bootstrap")
    if not plan.store.is_dir():
        raise NotFound("notfound.file", f"the store {plan.store} is not a folder; make it first")
    return plan


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """One sync per store; a daemon may serve it meanwhile."""
    (store / STATE_FOLDER).mkdir(mode=0o700, exist_ok=True)
    path = store / STATE_FOLDER / "sync.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LocalFault("storage.locked", f"another sync works on {store}") from error
    finally:
        os.close(descriptor)


async def run_sync(plan: SyncPlan, watcher: Watcher) -> SyncResult:
    """Open the sources and pull."""
    async with contextlib.AsyncExitStack() as opened:
        ranges = Ranges(ca_file=plan.ca_file, allow_private=plan.private_redirects)
        opened.callback(ranges.close)
        swarm = None
        if plan.bootstrap or plan.peers:
            state = plan.store / STATE_FOLDER
            state.mkdir(mode=0o700, exist_ok=True)
            swarm = await opened.enter_async_context(
                open_swarm(plan.bootstrap, plan.peers, state, host=plan.listen_host, patience_s=3 * plan.silence_s)
            )
        opened.enter_context(_locked(plan.store))
        sources = Sources(plan.sites, ranges, swarm, plan.silence_s)
        return await Syncer(plan.store, plan.rules, sources, watcher).run(plan.releases)
