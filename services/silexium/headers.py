"""``headers``: the block headers against which this machine confirms OpenTimestamps proofs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Progress, Report
from libreseed.errors import UsageFault
from libreseed.silexium.bitcoin_headers import HEADER_BYTES
from libreseed.silexium.instants import format_instant

from .commands import Commands, add_subcommands

if TYPE_CHECKING:
    from libreseed.adapters.silexium.stamps.header_store import HeaderStore

__all__ = ["add_parser"]

_EXAMPLES = """\
  libreseed-silexium headers import --rpc http://127.0.0.1:8332 --rpc-cookie ~/.bitcoin/.cookie
  libreseed-silexium headers import --url http://127.0.0.1:8332/rest/headers/2000/{hash}.bin
  libreseed-silexium headers import --url https://mirror.example/bitcoin-headers.bin
  libreseed-silexium headers import headers.bin
  libreseed-silexium headers status --json"""


def add_parser(commands: Commands) -> None:
    """Register ``headers import`` and ``headers status``."""
    inner = add_subcommands(commands, "headers", summary="keep verified Bitcoin block headers", examples=_EXAMPLES)
    load = inner.add_parser(
        "import",
        help="verify and add headers",
        description="Verify raw 80-byte block headers and add them to those at hand. Whoever serves them is not "
        "believed: work, links, difficulty, times and pinned checkpoints are checked, and a branch replaces ours only "
        "with more work.",
        examples=_EXAMPLES,
    )
    _add_place(load)
    load.add_argument("file", nargs="?", metavar="FILE", help="raw headers, from anywhere in the chain on")
    load.add_argument(
        "--url",
        metavar="URL",
        help="any place that serves the same bytes, or a node's REST interface with {hash} for the last header at hand",
    )
    load.add_argument("--rpc", metavar="URL", help="a Bitcoin Core node's JSON-RPC")
    load.add_argument("--rpc-cookie", metavar="F", help="its cookie file, or any file that holds user:password")
    load.add_argument(
        "--base", type=_height, default=0, metavar="H", help="height of the first header, where none is at hand yet"
    )
    load.add_argument("--ca-file", metavar="F", help="PEM certificates of authorities, in place of the system's")
    load.add_argument("--quiet", action="store_true", help="no progress on stderr")
    load.set_defaults(handler=_import)
    status = inner.add_parser(
        "status",
        help="what is at hand",
        description="Show which headers are at hand, after checking that the file is as it was left.",
        examples="  libreseed-silexium headers status\n  libreseed-silexium headers status --dir /srv/headers --json",
    )
    _add_place(status)
    status.set_defaults(handler=_status)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", metavar="D", help="the folder of headers (default: $XDG_DATA_HOME/silexium/headers)")
    parser.add_argument(
        "--network", choices=("mainnet", "regtest"), default="mainnet", help="regtest proves nothing, and is for tests"
    )


def _height(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a block height")
    return int(text)


def _store(arguments: argparse.Namespace) -> HeaderStore:
    from libreseed.adapters.silexium.stamps.header_store import HeaderStore, default_header_folder
    from libreseed.silexium.bitcoin_headers import NETWORKS

    folder = default_header_folder() if arguments.dir is None else Path(arguments.dir)
    return HeaderStore(folder, NETWORKS[arguments.network])


def _import(arguments: argparse.Namespace) -> Report:
    if sum(source is not None for source in (arguments.file, arguments.url, arguments.rpc)) != 1:
        raise UsageFault("usage", "name one source: FILE, --url or --rpc")
    if arguments.rpc_cookie is not None and arguments.rpc is None:
        raise UsageFault("usage", "--rpc-cookie belongs to --rpc")
    store = _store(arguments)
    with Progress(quiet=arguments.quiet) as progress:
        progress.phase("block headers")
        added = _add(arguments, store, lambda count: progress.update(count * HEADER_BYTES))
    return _report(store, [f"{added} new headers"], added=added)


def _add(arguments: argparse.Namespace, store: HeaderStore, progress: Callable[[int], None]) -> int:
    import trio

    from libreseed.adapters.http.client import HttpClient, HttpClientOptions
    from libreseed.adapters.silexium.stamps import header_import

    now, base = int(time.time()), arguments.base
    if arguments.file is not None:
        return header_import.import_file(store, Path(arguments.file), now=now, base=base, progress=progress)
    login = "" if arguments.rpc_cookie is None else header_import.read_cookie(Path(arguments.rpc_cookie).expanduser())
    options = HttpClientOptions(ca_file=None if arguments.ca_file is None else Path(arguments.ca_file))

    async def over_http() -> int:
        async with HttpClient(options) as client:
            if arguments.url is not None:
                return await header_import.import_url(
                    store, client, arguments.url, now=now, base=base, progress=progress
                )
            node = header_import.BitcoinNode(client, arguments.rpc, login)
            return await header_import.import_from_node(store, node, now=now, base=base, progress=progress)

    return trio.run(over_http)


def _status(arguments: argparse.Namespace) -> Report:
    return _report(_store(arguments), [])


def _report(store: HeaderStore, lines: Sequence[str], **more: object) -> Report:
    record, now = store.record, int(time.time())
    data: dict[str, object] = {
        **more,
        "network": record.network,
        "folder": str(store.folder),
        "base": record.base,
        "tip": record.tip if record.count else None,
        "count": record.count,
        "settled": store.settled if record.count else None,
        "work": f"{record.work:x}",
    }
    if not record.count:
        return Report("\n".join([*lines, f"no headers of {record.network} in {store.folder}"]), data)
    last = store.time_of(record.tip)
    data["tip_time"] = format_instant(last)
    age = f"{max(now - last, 0) // 3600} h old"
    text = f"{record.network}: headers {record.base} to {record.tip} ({format_instant(last)}, {age}), "
    text += f"pinned up to {store.settled}, in {store.folder}"
    if record.network == "regtest":
        text += "; regtest proves nothing"
    return Report("\n".join([*lines, text]), data)
