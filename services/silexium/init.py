"""``init``: a folder with all that a Silexium server needs to start: settings, two keys, authorities of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from libreseed.adapters.command.console import Report

from .commands import Commands
from .site import CONFIG_NAME

__all__ = ["add_parser"]

_OTHERS = """
# Whose time stamps a release needs before it is logged, and where they are asked for (docs/operations.md):
#
# calendars = [{ url = "https://a.pool.opentimestamps.org", redeemed-at = ["https://*.calendar.opentimestamps.org"] }]
# headers = "headers"                  # a folder; 'libreseed-silexium headers import --dir headers ...' fills it
# headers-from = { rpc = "http://127.0.0.1:8332", cookie = "/var/lib/bitcoind/.cookie" }
#
# [[authorities]]
# name = "one"
# url = "https://tsa.example.org/"
#
# [time]
# network = "mainnet"
# tsa-threshold = 1
# tsas = [{ name = "one", root = '''-----BEGIN CERTIFICATE-----...''' }]
"""


def add_parser(commands: Commands) -> None:
    """Register ``init``."""
    parser = commands.add_parser(
        "init",
        help="make a new server's folder",
        description=f"Make DIR with {CONFIG_NAME}, the server's and the log's key (0600, not encrypted: a service must "
        "read them). With --embedded the server is its own time stamp authority and calendar, on a chain that it mines "
        "itself: enough to try everything without a network, and proof of nothing to anybody else.",
        examples="  libreseed-silexium init ./log --origin localhost/silexium-b3 --embedded\n"
        "  libreseed-silexium init /etc/libreseed-silexium --origin log.example/silexium-b3 \\\n"
        "    --database /var/lib/libreseed-silexium/silexium.db",
    )
    parser.add_argument("folder", metavar="DIR", help="the folder to make")
    parser.add_argument("--origin", required=True, metavar="NAME", help="the log's name for good, e.g. log.example/b3")
    parser.add_argument("--listen", default="127.0.0.1:8440", metavar="H:P", help="where to serve (%(default)s)")
    parser.add_argument("--database", metavar="F", help="where the database will be (default: silexium.db in DIR)")
    parser.add_argument("--embedded", action="store_true", help="stamps of one's own, for tests")
    parser.set_defaults(handler=_init)


def _init(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.command.keys import create_key
    from libreseed.adapters.command.settings import endpoint
    from libreseed.adapters.files.durable import durable_create, publish_directory, staging_directory
    from libreseed.adapters.silexium.stamps.embedded import embedded_world
    from libreseed.errors import Malformed, UsageFault
    from libreseed.silexium.signed_note import check_key_name
    from libreseed.silexium.tree_head import NamedKey

    folder = Path(arguments.folder)
    database = "silexium.db" if arguments.database is None else str(Path(arguments.database).expanduser().absolute())
    try:
        check_key_name(arguments.origin)
    except Malformed as error:
        raise UsageFault("usage", f"--origin: {error.message}") from error
    listen = endpoint(arguments.listen)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(folder.parent) as staging:
        server = create_key(staging / "server.key", None).public
        log = NamedKey(arguments.origin, create_key(staging / "log.key", None).public)
        lines = [
            f"origin = {json.dumps(log.name)}",
            f'listen = "{listen}"',
            f"database = {json.dumps(database)}",
            'server-key = "server.key"',
            'log-key = "log.key"',
        ]
        if arguments.embedded:
            lines.append('embedded = "embedded"')
            embedded_world(staging / "embedded")
        text = "\n".join(lines) + "\n" + ("" if arguments.embedded else _OTHERS)
        durable_create(staging / CONFIG_NAME, text.encode(), 0o644)
        publish_directory(staging, folder, mode=0o700)
    data = {
        "folder": str(folder),
        "origin": log.name,
        "log_key": str(log.key),
        "server_key": str(server),
        "embedded": arguments.embedded,
    }
    return Report(f"{folder / CONFIG_NAME}\nlog     {log.name} {log.key}\nserver  {server}", data)
