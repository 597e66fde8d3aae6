"""``monitor``: tell whoever watches for a package or a key what a log has taken in. silexium-log.md, 9."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.adapters.command.console import Report, harmless, write_stdout
from libreseed.adapters.command.terminal import counted
from libreseed.errors import LibreSeedError, Malformed, ProofRejected, UsageFault

from .commands import Commands, add_source_flags, every_of
from .log_trust import add_log_flags, named_logs

if TYPE_CHECKING:
    from libreseed.adapters.silexium.proofs.proof_source import ProofSource
    from libreseed.adapters.silexium.watching.log_monitor import LogMonitor, Monitored
    from libreseed.ids import Blake3Digest, ReleaseId
    from libreseed.silexium.entry_watch import Finding, Watch

__all__ = ["add_parser"]

_LOG = logging.getLogger("libreseed.silexium.monitor")
_SHOWN = 10  # unexpected entries in the final message; each has its line on stdout


def add_parser(commands: Commands) -> None:
    """Register ``monitor``."""
    parser = commands.add_parser(
        "monitor",
        help="tell what a log holds of a package or a key",
        description="Read every new entry of the log at SOURCE, each proven to be the log's, and print those of the "
        "named packages, one per line. An entry that is none of the expected ones, a second one for a version, and one "
        "that nobody can read end with exit 40; without --expect and --author-key every first entry is expected. What "
        "was told once is not told again. With --json each line is an object, and the last one is the result.",
        examples="  libreseed-silexium monitor https://log.example --log log.example/b3 ed25519:... \\\n"
        "    --state hello.watch --package hello --expect releases/*.silexium/*.release.json\n"
        "  libreseed-silexium monitor https://log.example --policy policy.toml --state hello.watch \\\n"
        "    --package hello --author-key ed25519:... --everywhere --every 600",
    )
    add_source_flags(parser)
    add_log_flags(parser)
    parser.add_argument("--state", required=True, metavar="FILE", help="what was read and told, for the next run")
    parser.add_argument("--package", action="append", default=[], metavar="NAME", help="a package to watch for")
    parser.add_argument(
        "--expect", nargs="+", action="extend", default=[], metavar="M", help="known release manifests, or their hashes"
    )
    parser.add_argument(
        "--author-key",
        action="append",
        default=[],
        metavar="KEY",
        help="whose attestations are expected, by the bundles",
    )
    parser.add_argument(
        "--everywhere", action="store_true", help="look for the author keys in every other package's bundles, too"
    )
    parser.add_argument("--every", metavar="S", help="look for news every S seconds, until a signal")
    parser.set_defaults(handler=_monitor)


def _monitor(arguments: argparse.Namespace) -> Report:
    import trio

    from libreseed.adapters.silexium.watching.log_monitor import LogMonitor

    logs = named_logs(arguments)
    if len(logs) != 1:
        raise UsageFault("usage", "a monitor is of one log: name it with --log ORIGIN KEY")
    every = every_of(arguments)
    monitor = LogMonitor(Path(arguments.state), logs[0], _watch(arguments))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    found = _Found(arguments.json)
    trio.run(_run, arguments, monitor, found, every)
    return found.report()


class _Found:
    """Prints what is found, and remembers what this run must end with."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._told = self._read = self._unexpected = 0
        self._first: list[str] = []  # of the unexpected
        self._size: int | None = None
        self.fault: LibreSeedError | None = None

    def tell(self, finding: Finding, again: bool) -> None:
        """One line on stdout, which has left this process on return."""
        line = harmless(_line(finding, again))
        members = {**finding.members(), "again": again}
        write_stdout(json.dumps(members, ensure_ascii=True) if self._as_json else line)
        self._told += 1
        if finding.unexpected:
            self._unexpected += 1
            self._first += [line] if len(self._first) < _SHOWN else []

    def add(self, done: Monitored) -> None:
        """An update that went through."""
        self._size, self._read = done.size, self._read + done.read

    def report(self) -> Report:
        """The result. What is unexpected comes before any other fault: it is not told a second time."""
        if self._unexpected:
            message = f"{self._unexpected} of the log's entries are not expected"
            fault = [] if self.fault is None else [f"and then: {self.fault.message} [{self.fault.reason}]"]
            raise ProofRejected("silexium.unexpected-entry", message, details=[*self._first, *fault])
        if self.fault is not None:
            raise self.fault
        if self._size is None:
            raise KeyboardInterrupt
        data = {"size": self._size, "new_entries": self._read, "told": self._told}
        return Report(
            f"{counted(self._size, 'entry', 'entries')}, {self._read} of them new; {self._told} told, all expected",
            data,
        )


def _line(finding: Finding, again: bool) -> str:
    what = f"{finding.index}  {finding.release or '(unreadable)'}  {finding.manifest or finding.entry}"
    verdict = "; ".join(finding.unexpected)
    return (
        what
        + (f"  UNEXPECTED: {verdict}" if verdict else "")
        + ("  (told again after an interruption)" if again else "")
    )


async def _run(arguments: argparse.Namespace, monitor: LogMonitor, found: _Found, every: float | None) -> None:
    """Update once, or until a signal; a refusal of the first update ends it, a later one is logged."""
    import trio

    from .log_source import open_source
    from .stopping import stop_on_signal

    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, nursery.cancel_scope)
        source = await open_source(arguments, stack)
        try:
            found.add(await _update(monitor, source, found))
        except LibreSeedError as error:
            found.fault, every = error, None
        while every is not None:
            await trio.sleep(every)
            try:
                found.add(await _update(monitor, source, found))
            except LibreSeedError as error:
                _LOG.error("%s [%s]", "; ".join((error.message, *error.details)), error.reason)
        nursery.cancel_scope.cancel()


async def _update(monitor: LogMonitor, source: ProofSource, found: _Found) -> Monitored:
    """One update, in a thread that asks this loop for files."""
    import trio

    from .log_source import fetch_from
    from .office import wall_clock

    return await trio.to_thread.run_sync(partial(monitor.update, fetch_from(source), wall_clock(), found.tell))


def _watch(arguments: argparse.Namespace) -> Watch:
    """What the flags say; raises :class:`UsageFault`."""
    from libreseed.ids import PackageName, PublicKey
    from libreseed.silexium.entry_watch import Watch

    try:
        packages = frozenset(map(PackageName, arguments.package))
        authors = tuple(dict.fromkeys(map(PublicKey.parse, arguments.author_key)))
        manifests = dict(map(_manifest, arguments.expect))
    except Malformed as error:
        raise UsageFault("usage", error.message) from error
    if not (packages or arguments.everywhere) or len(packages) > limits.WATCHED_PACKAGES:
        raise UsageFault("usage", f"name the packages to watch for with --package, at most {limits.WATCHED_PACKAGES}")
    if arguments.everywhere and not authors:
        raise UsageFault("usage", "--everywhere goes with --author-key")
    return Watch(packages, manifests, authors, arguments.everywhere)


def _manifest(text: str) -> tuple[Blake3Digest, ReleaseId | None]:
    """A release manifest's hash, and its release where the manifest is at hand."""
    from libreseed.adapters.files.bounded_file import read_bounded
    from libreseed.ids import Blake3Digest
    from libreseed.silexium.release_manifest import parse_release_manifest

    if text.startswith(Blake3Digest.prefix):
        return Blake3Digest.parse(text), None
    manifest = parse_release_manifest(read_bounded(Path(text), limits.RELEASE_MANIFEST_BYTES))
    return manifest.digest, manifest.release
