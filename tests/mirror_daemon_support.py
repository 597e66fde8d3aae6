"""Mirrors for tests: the application in this process, over a real socket; and the daemon as a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from libreseed.adapters.http.connections import Connections
from libreseed.adapters.http.server import HttpServerOptions
from libreseed.adapters.release.release_folder import ReleaseFiles
from services.mirror.answers import Answers
from services.mirror.judging import Rules
from services.mirror.library import Library
from services.mirror.metrics import Gauges
from services.mirror.scrubber import Scrubber
from services.mirror.site import Site, Tally
from tests.daemon_support import PATIENCE_S, DaemonProcess, clean_environment, daemon_process
from tests.http_support import Served, served
from tests.release_support import make_release
from tests.tools import require_program

__all__ = ["Mirror", "MirrorProcess", "big_release", "curl", "mirror", "mirror_process", "web_seed_download"]

_NAMES = itertools.count()


def big_release(store: Path, release: str = "hello@1.0.0", *, size: int = 1_500_000, seed: int = 1) -> ReleaseFiles:
    """A release of random bytes in ``store``."""
    store.mkdir(exist_ok=True)
    work = store.parent / f"work-{next(_NAMES)}"
    work.mkdir()
    files, _ = make_release(work, release, {"data.bin": random.Random(seed).randbytes(size), "README": b"hello\n"})
    final = store / release
    files.folder.rename(final)
    return ReleaseFiles(final, release)


@dataclass(frozen=True)
class Mirror:
    """A mirror in this process."""

    served: Served
    library: Library
    tally: Tally

    @property
    def url(self) -> str:
        return self.served.url

    async def settled(self) -> None:
        """Until nothing waits to be judged."""
        for holding in list(self.library.holdings.values()):
            await holding.settled.wait()


@asynccontextmanager
async def mirror(
    store: Path,
    rules: Rules | None = None,
    options: HttpServerOptions | None = None,
    *,
    patience: float = 30.0,
    scrub: float = 10**9,
) -> AsyncIterator[Mirror]:
    """Serve ``store`` until the block is left."""
    library = Library(store, rules or Rules(), rescan=10**9, patience=patience)
    tally = Tally()
    scrubber = Scrubber(library, interval=scrub, rate=10**12)
    gauges = Gauges(library, scrubber, tally, Connections(1, 1))
    site = Site(Answers(library, metrics=gauges.metrics, health=gauges.health), tally)
    async with trio.open_nursery() as nursery:
        await nursery.start(library.run)
        if scrub < 10**9:
            nursery.start_soon(scrubber.run)
        async with served(site, options) as server:
            yield Mirror(server, library, tally)
        nursery.cancel_scope.cancel()


class MirrorProcess(DaemonProcess):
    """One ``libreseed-mirror serve``."""

    @property
    def url(self) -> str:
        return re.findall(r"serving (\S+)", self.text())[0]


@contextlib.contextmanager
def mirror_process(store: Path, *arguments: str, wait: bool = True, **popen: Any) -> Iterator[MirrorProcess]:
    """Serve ``store`` by a process on loopback; it is killed at the end of the block if it still runs."""
    log = store.with_name(f"{store.name}-{next(_NAMES)}.log")
    line = [sys.executable, "-m", "libreseed_services.mirror.cli", "serve", "--store", str(store)]
    if not any(one in arguments for one in ("--listen", "--config")):
        line += ["--listen", "127.0.0.1:0"]
    with daemon_process([*line, *arguments], log, clean_environment(), **popen) as (process, notify):
        found = MirrorProcess(process, log, notify)
        if wait:
            found.wait_ready()
        yield found


def web_seed_download(torrent: bytes, url: str, into: Path) -> None:
    """Fetch a torrent by libtorrent from one web seed and nobody else."""
    import libtorrent as lt

    settings = {"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False}
    session = lt.session({**settings, "enable_natpmp": False, "alert_mask": 0})
    params = lt.load_torrent_buffer(torrent)
    params.save_path = str(into)
    params.url_seeds = [url]
    handle = session.add_torrent(params)
    deadline = time.monotonic() + PATIENCE_S
    while not handle.status().is_seeding:
        assert time.monotonic() < deadline, str(handle.status().progress)
        time.sleep(0.1)
    session.remove_torrent(handle)
    del handle, session


def curl(*arguments: str) -> bytes:
    """What real curl gets."""
    program = require_program("curl")
    line = [program, "--silent", "--show-error", "--fail", "--max-time", "60", *arguments]
    return subprocess.run(line, capture_output=True, check=True, env=clean_environment()).stdout
