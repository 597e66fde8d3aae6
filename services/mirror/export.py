"""``libreseed-mirror export``: a mirror as static files, for nginx, a CDN or any web server."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path

from libreseed.adapters.command.console import CommandParser, Progress, Report, add_json_flag, human_bytes
from libreseed.adapters.command.terminal import counted

__all__ = ["add_parser"]

_DESCRIPTION = """\
Write a store's releases as static files into DIR, under the paths of a mirror; contrib/nginx/ has the configuration to
serve them. Every release is verified (and healed in the store) first. A second run adds what is new. Releases that the
store no longer has stay, unless --delete is given."""
_EXAMPLES = """\
  libreseed-mirror export /srv/www/mirror --store ./out
  libreseed-mirror export ./site --store ./out --no-parts --no-zip"""


def add_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``export``."""
    parser = commands.add_parser(
        "export", help="write static files for any web server", description=_DESCRIPTION, examples=_EXAMPLES
    )
    parser.add_argument("dir", metavar="DIR", type=Path, help="the folder to write; made if it is not there")
    parser.add_argument("--store", metavar="D", type=Path, required=True, help="folder of release folders")
    parser.add_argument("--publisher", action="append", metavar="KEY", help="only releases of this key; repeatable")
    parser.add_argument("--no-parts", action="store_true", help="no part files: they take as much as the packages")
    parser.add_argument("--no-zip", action="store_true", help="no package zips: they take as much as the packages")
    parser.add_argument("--delete", action="store_true", help="remove exported releases that the store does not have")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_json_flag(parser)
    parser.set_defaults(command=_command)


def _command() -> Callable[[argparse.Namespace], Report]:
    from libreseed.adapters.command.settings import list_of
    from libreseed.ids import PublicKey

    from .exporting import Exporter
    from .files import ExportOptions
    from .judging import Rules

    def run(arguments: argparse.Namespace) -> Report:
        publishers = frozenset(list_of(PublicKey.parse)(arguments.publisher or ()))
        options = ExportOptions(parts=not arguments.no_parts, package_zip=not arguments.no_zip)
        exporter = Exporter(arguments.store, arguments.dir, Rules(publishers), options)
        with Progress(quiet=arguments.quiet) as progress:
            result = exporter.run(time.time_ns() // 10**6, threading.Event(), progress, delete=arguments.delete)
        lines = [
            f"exported  {counted(len(result.added), 'release')}, {human_bytes(result.size)}; "
            f"{len(result.kept)} were there already"
        ]
        lines += [f"removed   {name}" for name in result.removed]
        lines += [f"refused   {name}: {why}" for name, why in result.refused.items()]
        lines.append(f"folder    {arguments.dir}")
        return Report("\n".join(lines), result.as_json(), result.fault)

    return run
