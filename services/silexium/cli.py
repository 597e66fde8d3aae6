"""The command line of ``libreseed-silexium``: every subcommand registers itself. docs/specification/silexium-api.md.

Each module in ``_COMMANDS`` has ``add_parser(commands)`` and imports what its command needs only when that runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from libreseed.adapters.command.console import CommandParser, Report, add_json_flag, add_version_flag, run_command

from . import attest, headers, ingest, init, key, log, mirror, monitor, policy, releases, serve, witness
from .commands import Commands, Handler

__all__ = ["main"]

_COMMANDS = (init, key, attest, ingest, releases, serve, policy, log, mirror, monitor, witness, headers)
_EXAMPLES = """\
  libreseed-silexium key new --out author.key
  libreseed-silexium attest author releases/hello@1.0.0/hello@1.0.0.tgz --key author.key
  libreseed-silexium attest tests releases/hello@1.0.0.silexium --key tests.key --author ed25519:... \\
    --suite ci-42 --result pass
  libreseed-silexium init ./log --origin localhost/silexium-b3 --embedded
  libreseed-silexium key trust --config ./log ed25519:... --role author
  libreseed-silexium ingest --config ./log releases/hello@1.0.0.silexium
  libreseed-silexium serve --config ./log
  libreseed-silexium policy --config ./log"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    return run_command(_run, _parser(), argv)


def _run(arguments: argparse.Namespace) -> Report | None:
    handler: Handler = arguments.handler
    return handler(arguments)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="libreseed-silexium",
        description="Attest releases, keep them in a public log, and prove to everybody what it holds.",
        examples=_EXAMPLES,
    )
    add_version_flag(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    _add_json(commands)
    return parser


def _add_json(commands: Commands) -> None:
    """``--json`` on every command that runs, however deep it lies."""
    for parser in dict.fromkeys(commands.choices.values()):
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if inner:
            _add_json(inner[0])
        else:
            add_json_flag(parser)


if __name__ == "__main__":
    sys.exit(main())
