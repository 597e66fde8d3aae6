"""How the subcommands of ``libreseed-silexium`` register: what ``add_parser`` takes, and flags that several share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TypeAlias

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.errors import UsageFault
from libreseed.keys.ed25519 import PrivateKey

__all__ = ["Commands", "Handler", "add_key_flags", "add_source_flags", "add_subcommands", "every_of", "key_of"]

Commands: TypeAlias = (
    "argparse._SubParsersAction[CommandParser]"  # argparse has no public name for what add_subparsers returns
)
Handler = Callable[[argparse.Namespace], Report | None]

_PASSFILE = "file (or pipe, /dev/fd/N) that holds the passphrase; LIBRESEED_PASSPHRASE_FILE names one too"


def add_subcommands(commands: Commands, name: str, *, summary: str, examples: str) -> Commands:
    """A command that has commands of its own (``key new``)."""
    told = summary[0].upper() + summary[1:] + "."
    parser = commands.add_parser(name, help=summary, description=told, examples=examples)
    return parser.add_subparsers(metavar="COMMAND", required=True)


def add_key_flags(parser: CommandParser) -> None:
    """``--key`` and ``--passphrase-file`` of a command that signs."""
    parser.add_argument(
        "--key", metavar="KEY", help="the key file; without it LIBRESEED_KEY, a key file's text or path"
    )
    parser.add_argument("--passphrase-file", metavar="F", help=_PASSFILE)


def add_source_flags(parser: CommandParser) -> None:
    """``SOURCE`` and ``--ca-file`` of a command that reads a log."""
    parser.add_argument("source", metavar="SOURCE", help="an http(s) URL or a folder")
    parser.add_argument("--ca-file", metavar="F", help="authorities for https, in place of the system's")


def every_of(arguments: argparse.Namespace) -> float | None:
    """The seconds of ``--every``; raises :class:`UsageFault`."""
    from libreseed.adapters.command.settings import seconds

    try:
        return None if arguments.every is None else seconds(arguments.every)
    except ValueError as error:
        raise UsageFault("usage", f"--every: {error}") from error


def key_of(arguments: argparse.Namespace) -> PrivateKey:
    """The signing key that those flags name; raises :class:`UsageFault` ``key.*``."""
    from libreseed.adapters.command.keys import passphrase_source, signing_key

    return signing_key(arguments.key, passphrase_source(arguments.passphrase_file, os.environ), os.environ)
