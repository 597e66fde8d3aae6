"""``libreseed-mirror serve``: the daemon, in the foreground."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from libreseed.adapters.command.console import CommandParser

__all__ = ["add_parser"]

_DESCRIPTION = """\
Serve the releases of a folder over HTTPS: /packages/NAME@VERSION and more (docs/specification/mirror.md). STORE is a
folder of release folders, as 'libreseed-packager build --out STORE' makes them. Each release is verified before it is
shown, and healed from its parity when it is damaged."""
_EXAMPLES = """\
  libreseed-mirror serve --store ./out --listen 127.0.0.1:8080
  libreseed-mirror serve --config /etc/libreseed/mirror.toml
  libreseed-mirror serve --store /srv/mirror --listen [::]:443 --cert fullchain.pem --key privkey.pem \\
    --publisher ed25519:..."""


def add_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``serve``."""
    parser = commands.add_parser(
        "serve", help="serve releases over HTTPS", description=_DESCRIPTION, examples=_EXAMPLES
    )
    parser.add_argument("--config", type=Path, metavar="F", help="configuration file (TOML)")
    parser.add_argument("--store", metavar="D", help="folder of release folders")
    parser.add_argument(
        "--listen", action="append", metavar="H:P", help="address or name and port; port 0: any free one; repeatable"
    )
    parser.add_argument("--cert", metavar="F", help="certificate chain (PEM); without one it speaks plain HTTP")
    parser.add_argument("--key", metavar="F", help="the certificate's private key (PEM)")
    parser.add_argument(
        "--publisher", action="append", metavar="KEY", help="show only releases of this public key; repeatable"
    )
    parser.set_defaults(command=_command)


def _command() -> Callable[[argparse.Namespace], None]:
    from .config import load_config
    from .daemon import run_daemon

    def run(arguments: argparse.Namespace) -> None:
        flags = {name.replace("_", "-"): value for name, value in vars(arguments).items() if name != "command"}
        run_daemon(load_config(arguments.config, flags), arguments.config)

    return run
