"""``libreseed-mirror sync``: brings releases from other mirrors, or from the swarm, into a store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from libreseed.adapters.command.console import CommandParser, Progress, Report, add_json_flag
from libreseed.adapters.command.terminal import counted

__all__ = ["add_parser"]

_DESCRIPTION = """\
Pull releases into a store: from other mirrors (--from), from the swarm (--bootstrap, --peer), or from both at once.
Each is verified whole before it appears. Without RELEASE everything is pulled that the mirrors list by the publishers
named."""
_EXAMPLES = """\
  libreseed-mirror sync --store /srv/mirror --from https://mirror.example.org --publisher ed25519:...
  libreseed-mirror sync hello@1.0.0 --store ./store --from https://a.example --from https://b.example --any-publisher
  libreseed-mirror sync hello@1.0.0 --store ./store --bootstrap dht.example.org:6892 --publisher ed25519:..."""


def add_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``sync``."""
    parser = commands.add_parser(
        "sync", help="pull releases from mirrors or the swarm", description=_DESCRIPTION, examples=_EXAMPLES
    )
    parser.add_argument("release", nargs="*", metavar="RELEASE", help="name@version (default: all that is listed)")
    parser.add_argument("--store", metavar="D", type=Path, required=True, help="folder of release folders")
    parser.add_argument(
        "--from", action="append", default=[], dest="mirror", metavar="URL", help="a mirror; repeatable"
    )
    parser.add_argument("--bootstrap", action="append", default=[], metavar="H:P", help="a DHT node; repeatable")
    parser.add_argument("--peer", action="append", default=[], metavar="H:P", help="a BitTorrent peer; repeatable")
    parser.add_argument("--listen-host", default="0.0.0.0", metavar="H", help="address for the swarm")  # noqa: S104
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--publisher", action="append", metavar="KEY", help="whose releases to pull; repeatable")
    who.add_argument("--any-publisher", action="store_true", help="whosever the mirrors have")
    parser.add_argument(
        "--ca-file", "--ca", type=Path, metavar="F", help="authorities' certificates (PEM) instead of the system's"
    )
    parser.add_argument("--private-redirects", action="store_true", help="follow redirects to private addresses")
    parser.add_argument("--max-package-bytes", metavar="N", help="refuse larger packages")
    parser.add_argument("--silence", metavar="S", default="10", help="seconds without news of a source; default 10")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_json_flag(parser)
    parser.set_defaults(command=_command)


def _command() -> Callable[[argparse.Namespace], Report]:
    import trio

    from libreseed.adapters.command.awake_clock import AwakeClock

    from .sync_run import read_plan, run_sync

    def run(arguments: argparse.Namespace) -> Report:
        plan = read_plan(arguments)
        with Progress(quiet=arguments.quiet) as progress:
            result = trio.run(run_sync, plan, progress, clock=AwakeClock())
        lines = [f"pulled    {counted(len(result.added), 'release')}; {len(result.kept)} were there already"]
        lines += [f"added     {name}" for name in result.added]
        lines += [f"failed    {name}: {why}" for name, why in result.failed.items()]
        return Report("\n".join(lines), result.as_json(), result.fault)

    return run
