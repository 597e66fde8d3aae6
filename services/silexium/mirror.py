"""``mirror``: copy a log from a server, a mirror or a folder, verify all of it, and serve it. silexium-log.md, 7."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Report
from libreseed.adapters.command.settings import endpoint
from libreseed.adapters.command.terminal import counted
from libreseed.errors import LibreSeedError, ProofRejected, TransportFault, UsageFault

from .announcing import tell_urls
from .commands import Commands, add_source_flags, every_of
from .log_trust import add_log_flags, named_logs

if TYPE_CHECKING:
    from libreseed.adapters.silexium.proofs.proof_source import ProofSource
    from libreseed.adapters.silexium.watching.log_mirror import LogMirror, Mirrored

__all__ = ["add_parser"]

_LOG = logging.getLogger("libreseed.silexium.mirror")
_PROVEN_AGAINST_THE_LOG = "silexium.fork"


def add_parser(commands: Commands) -> None:
    """Register ``mirror``."""
    parser = commands.add_parser(
        "mirror",
        help="copy a log and verify all of it",
        description="Bring DIR up to the log at SOURCE: a server's or mirror's URL, or a folder. Nothing is believed "
        "but the log's signature; a forged entry, an old head, another history or a truncated tile is refused, each "
        "with its own reason, and DIR keeps showing what it showed. DIR can be served by any web server and mirrored "
        "again. It holds the log without the releases' bundles: libreseed-resolve --silexium DIR proves by it how the "
        "log has grown, and needs the bundle from a server or --bundle. Run it again to go on; evidence of "
        "a fork is kept in DIR/.silexium/evidence.",
        examples="  libreseed-silexium mirror https://log.example --out /srv/log --log log.example/b3 ed25519:...\n"
        "  libreseed-silexium mirror https://log.example --out /srv/log --policy policy.toml \\\n"
        "    --serve 0.0.0.0:8441 --every 60",
    )
    add_source_flags(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="the mirror's folder")
    add_log_flags(parser)
    parser.add_argument("--serve", metavar="H:P", help="serve DIR until a signal (port 0: the system chooses)")
    parser.add_argument("--every", metavar="S", help="with --serve: look for news every S seconds")
    parser.set_defaults(handler=_mirror)


def _mirror(arguments: argparse.Namespace) -> Report | None:
    import trio

    from libreseed.adapters.silexium.log.log_folder import LogFolder
    from libreseed.adapters.silexium.watching.log_mirror import LogMirror

    from .guard import refuse_private_keys

    logs = named_logs(arguments)
    if len(logs) != 1:
        raise UsageFault("usage", "a mirror is of one log: name it with --log ORIGIN KEY")
    if arguments.every is not None and arguments.serve is None:
        raise UsageFault("usage", "--every goes with --serve")
    mirror = LogMirror(LogFolder(Path(arguments.out)), logs[0])
    if arguments.serve is None:
        return _report(arguments, trio.run(_once, arguments, mirror))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    refuse_private_keys(())
    trio.run(_serve, arguments, mirror)
    return None


async def _once(arguments: argparse.Namespace, mirror: LogMirror) -> Mirrored:
    """One update; a signal ends it between two files, and the next run goes on there."""
    import trio

    from .log_source import open_source
    from .stopping import stop_on_signal

    done: Mirrored | None = None
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, nursery.cancel_scope)
        done = await _update(mirror, await open_source(arguments, stack))
        nursery.cancel_scope.cancel()
    if done is None:
        raise KeyboardInterrupt
    return done


async def _serve(arguments: argparse.Namespace, mirror: LogMirror) -> None:
    import trio

    from libreseed.adapters.command.notify import Notifier
    from libreseed.adapters.http.server import HttpServerOptions, serve
    from libreseed.adapters.silexium.log.log_site import folder_app

    from .log_source import open_source
    from .stopping import stop_on_signal

    place, every, notifier = endpoint(arguments.serve), every_of(arguments), Notifier()
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(partial(stop_on_signal, nursery.cancel_scope, stopping=notifier.stopping))
        nursery.start_soon(notifier.run_watchdog)
        source = await open_source(arguments, stack)
        await _begin(mirror, source)
        options = HttpServerOptions(host=place.host, port=place.port)
        urls = await nursery.start(partial(serve, folder_app(mirror.folder), options))
        tell_urls(urls, as_json=arguments.json)
        notifier.ready(" ".join(urls))
        if every is not None:
            await _follow(mirror, source, every)
        await trio.sleep_forever()


async def _begin(mirror: LogMirror, source: ProofSource) -> None:
    """The first update. When nobody can be reached, or what is shown is refused, what was verified before is served all
    the same: else a log could rid itself of its mirrors whenever they start anew."""
    import trio

    try:
        _tell(await _update(mirror, source))
    except (TransportFault, ProofRejected) as error:
        if await trio.to_thread.run_sync(mirror.memory) is None:
            raise
        _complain(error)


async def _follow(mirror: LogMirror, source: ProofSource, every: float) -> None:
    """Look for news until cancelled; what is refused is told, and what is here goes on being served."""
    import trio

    while True:
        await trio.sleep(every)
        try:
            _tell(await _update(mirror, source))
        except LibreSeedError as error:
            _complain(error)


def _complain(error: LibreSeedError) -> None:
    level = logging.CRITICAL if error.reason == _PROVEN_AGAINST_THE_LOG else logging.ERROR
    _LOG.log(level, "%s [%s]", "; ".join((error.message, *error.details)), error.reason)


async def _update(mirror: LogMirror, source: ProofSource) -> Mirrored:
    """One update, in a thread that asks this loop for files."""
    import trio

    from .log_source import fetch_from
    from .office import wall_clock

    work = partial(mirror.update, fetch_from(source), wall_clock(), source=source.name)
    return await trio.to_thread.run_sync(work)


def _tell(done: Mirrored) -> None:
    if done.checkpoint.sth.size > done.old:
        _LOG.info("%d entries, %d of them new", done.checkpoint.sth.size, done.checkpoint.sth.size - done.old)


def _report(arguments: argparse.Namespace, done: Mirrored) -> Report:
    sth = done.checkpoint.sth
    data = {
        "path": arguments.out,
        "size": sth.size,
        "new_entries": sth.size - done.old,
        "kept_bundles": done.kept,
        "sth": sth.members(),
        "witnesses": [cosignature.signer.name for cosignature in done.checkpoint.cosignatures],
    }
    return Report(
        f"{arguments.out}: {counted(sth.size, 'entry', 'entries')}, {sth.size - done.old} of them new; all verified",
        data,
    )
