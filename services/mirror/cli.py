"""``libreseed-mirror``: serve releases over HTTPS, export them as files, pull them from other mirrors (DESIGN 5).

Each module in ``_COMMANDS`` has ``add_parser(commands)``; the parsed arguments' ``command()`` gives the function that
takes them. Heavy imports wait until a command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from libreseed.adapters.command.console import CommandParser, Report, add_version_flag, run_command

from . import export, integrity, serve, sync

__all__ = ["main"]

_COMMANDS = (serve, export, sync, integrity)
_EXAMPLES = """\
  libreseed-mirror serve --store ./out --listen 0.0.0.0:8443 --cert cert.pem --key key.pem
  libreseed-mirror export /srv/www --store ./out
  libreseed-mirror sync --store ./store --from https://mirror.example.org --publisher ed25519:...
  libreseed-mirror integrity ./site
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    return run_command(_body, _parser(), argv)


def _body(arguments: argparse.Namespace) -> Report | None:
    report: Report | None = arguments.command()(arguments)
    return report


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="libreseed-mirror",
        description="Gives verified releases to anybody over HTTPS, heals its copies, exports them as static files.",
        examples=_EXAMPLES,
    )
    add_version_flag(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
