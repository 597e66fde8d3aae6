"""``witness``: cosign the heads of logs that only grow, over HTTP or from files. silexium-log.md, 8."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.adapters.command.settings import Endpoint, endpoint

from .announcing import tell_urls
from .commands import Commands, add_key_flags, add_subcommands, key_of
from .log_trust import add_log_flags, named_logs

if TYPE_CHECKING:
    from libreseed.adapters.silexium.watching.witness_store import WitnessStore

__all__ = ["add_parser"]

_EXAMPLES = """\
  libreseed-silexium witness serve --name w1.example --key witness.key --log log.example/b3 ed25519:... \\
    --listen 0.0.0.0:8442
  libreseed-silexium witness cosign /media/stick/log --name w1.example --key witness.key \\
    --log log.example/b3 ed25519:..."""


def add_parser(commands: Commands) -> None:
    """Register ``witness serve`` and ``witness cosign``."""
    inner = add_subcommands(commands, "witness", summary="cosign the heads of logs", examples=_EXAMPLES)
    serve = inner.add_parser(
        "serve",
        help="cosign for logs that ask",
        description="Serve C2SP tlog-witness's protocol over BLAKE3: POST /add-checkpoint. A head is cosigned when it "
        "provably extends the last one that was cosigned, and never two that do not fit. Back up nothing: a witness "
        "whose database is lost or old takes a new key.",
        examples="  libreseed-silexium witness serve --name w1.example --key w.key --log log.example/b3 ed25519:...",
    )
    serve.add_argument(
        "--listen", metavar="H:P", default="127.0.0.1:8442", help="where to serve (default: %(default)s)"
    )
    serve.add_argument("--certificate", metavar="F", help="TLS: the certificate chain (PEM)")
    serve.add_argument("--certificate-key", metavar="F", help="TLS: its key")
    cosign = inner.add_parser(
        "cosign",
        help="cosign the head of a folder",
        description="Verify a log's folder (an export or a mirror): that its head extends the last one cosigned, and "
        "all new tiles and entries down to the last. Print the cosignature's line, which 'log cosign' takes. For a "
        "witness off the net.",
        examples="  libreseed-silexium witness cosign /media/stick/log --name w1.example --key w.key \\\n"
        "    --log log.example/b3 ed25519:... > line.txt",
    )
    cosign.add_argument("folder", metavar="DIR", help="the log's folder: an export or a mirror")
    for parser, handler in ((serve, _serve_command), (cosign, _cosign)):
        _add_identity(parser)
        parser.set_defaults(handler=handler)


def _add_identity(parser: CommandParser) -> None:
    parser.add_argument("--name", required=True, help="the witness's name")
    add_key_flags(parser)
    add_log_flags(parser)
    parser.add_argument(
        "--database", metavar="F", help="what was cosigned (default: silexium/witness.db in the data folder)"
    )


@contextmanager
def _store(arguments: argparse.Namespace) -> Iterator[WitnessStore]:
    from libreseed.adapters.silexium.database import default_database, open_database
    from libreseed.adapters.silexium.watching.witness_store import WITNESS_SCHEMA, WitnessStore

    logs = [log.identity for log in named_logs(arguments)]
    key = key_of(arguments)
    path = Path(arguments.database) if arguments.database else default_database().with_name("witness.db")
    with open_database(path, (WITNESS_SCHEMA,)) as database:
        yield WitnessStore(database, arguments.name, key, logs)


def _serve_command(arguments: argparse.Namespace) -> None:
    import trio

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    place = endpoint(arguments.listen)
    with _store(arguments) as store:
        _refuse_other_keys(arguments)
        trio.run(_serve, arguments, place, store)


def _refuse_other_keys(arguments: argparse.Namespace) -> None:
    """Its own key may come from the environment, too: as its text, or as the path of its file."""
    from libreseed.adapters.command.keys import KEY_VARIABLE

    from .guard import refuse_private_keys

    environ = dict(os.environ)
    key = arguments.key or environ.pop(KEY_VARIABLE, "").strip()
    own = [Path(path) for path in (key, arguments.certificate_key) if path and not path.startswith("{")]
    refuse_private_keys(own, environ=environ)


async def _serve(arguments: argparse.Namespace, place: Endpoint, store: WitnessStore) -> None:
    import trio

    from libreseed import limits
    from libreseed.adapters.command.notify import Notifier
    from libreseed.adapters.http.rate_limit import Rate
    from libreseed.adapters.http.server import HttpServerOptions, serve
    from libreseed.adapters.silexium.watching.witness_app import witness_app

    from .office import wall_clock
    from .stopping import stop_on_signal

    options = HttpServerOptions(
        host=place.host,
        port=place.port,
        certfile=Path(arguments.certificate) if arguments.certificate else None,
        keyfile=Path(arguments.certificate_key) if arguments.certificate_key else None,
        max_body=limits.ADD_CHECKPOINT_BYTES,
        rate=Rate(10.0, 100),
    )
    notifier = Notifier()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(stop_on_signal, nursery.cancel_scope, stopping=notifier.stopping))
        urls = await nursery.start(partial(serve, witness_app(store, wall_clock), options))
        tell_urls(urls, as_json=arguments.json)
        notifier.ready(" ".join(urls))
        await notifier.run_watchdog()


def _cosign(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log.log_folder import LogFolder
    from libreseed.adapters.silexium.watching.folder_witness import cosign_folder

    from .office import wall_clock

    logs = [log.identity for log in named_logs(arguments)]
    with _store(arguments) as store:
        cosignature = cosign_folder(store, LogFolder(Path(arguments.folder)), logs, wall_clock())
    line, head = str(cosignature.line), cosignature.head
    return Report(line, {"line": line, "origin": head.origin, "size": head.size})
