"""``witness``: cosign the heads of logs that only grow, over HTTP or from files. silexium-log.md, 8."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.adapters.command.settings import Endpoint, endpoint
from libreseed.errors import NotFound

from .commands import Commands, add_key_flags, add_subcommands, key_of
from .log_trust import add_log_flags, named_logs

if TYPE_CHECKING:
    from libreseed.adapters.silexium.log_folder import LogFolder
    from libreseed.adapters.silexium.witness_store import WitnessStore
    from libreseed.silexium.tree_head import NamedKey, SignedTreeHead

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
        description="Verify that the head of a log's folder (an export or a mirror) extends the last one cosigned, out "
        "of the folder's tiles, and print the cosignature's line: 'log cosign' takes it. For a witness off the net.",
        examples="  libreseed-silexium witness cosign /media/stick/log --name w1.example --key w.key \\\n"
        "    --log log.example/b3 ed25519:... > line.txt",
    )
    cosign.add_argument("folder", metavar="DIR")
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
    from libreseed.adapters.silexium.witness_store import WITNESS_SCHEMA, WitnessStore

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
        trio.run(_serve, arguments, place, store)


async def _serve(arguments: argparse.Namespace, place: Endpoint, store: WitnessStore) -> None:
    import trio

    from libreseed import limits
    from libreseed.adapters.http.rate_limit import Rate
    from libreseed.adapters.http.server import HttpServerOptions, serve
    from libreseed.adapters.silexium.witness_app import witness_app

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
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, nursery.cancel_scope)
        urls = await nursery.start(partial(serve, witness_app(store, wall_clock), options))
        print(*urls, sep="\n", flush=True)


def _cosign(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log_folder import LogFolder
    from libreseed.silexium.witness_wire import AddCheckpoint

    from .office import wall_clock

    folder = LogFolder(Path(arguments.folder))
    note = folder.checkpoint()
    if note is None:
        raise NotFound("notfound.file", f"{arguments.folder} has no checkpoint")
    with _store(arguments) as store:
        sth = _head(note, [log.identity for log in named_logs(arguments)])
        memory = store.cosigned(sth.head.origin)
        old = 0 if memory is None else memory.head.size
        hashes = _growth(folder, old, sth) if 0 < old < sth.size else ()
        cosignature = store.add_checkpoint(AddCheckpoint(min(old, sth.size), hashes, note), wall_clock())
    line = str(cosignature.line)
    return Report(line, {"line": line, "origin": sth.head.origin, "size": sth.size})


def _head(note: bytes, logs: list[NamedKey]) -> SignedTreeHead:
    from libreseed.errors import ProofRejected
    from libreseed.silexium.tree_head import parse_checkpoint

    for log in logs:
        if note.startswith(f"{log.name}\n".encode()):
            return parse_checkpoint(note, log).sth
    raise ProofRejected("silexium.head-log", "the checkpoint is of no log that is named with --log or --policy")


def _growth(folder: LogFolder, old: int, sth: SignedTreeHead) -> tuple[bytes, ...]:
    """The consistency proof out of the folder's tiles."""
    from libreseed.silexium.log_proofs import consistency_proof
    from libreseed.silexium.tiles import TileNodes

    return tuple(consistency_proof(TileNodes(folder.read_tile, sth.size).node, old, sth.size))
