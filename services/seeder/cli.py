"""``libreseed-seeder``: the daemon (``run``) and the commands that talk to it (DESIGN 5).

Only ``run`` imports the daemon; the others need a socket and the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from libreseed.adapters.command import control
from libreseed.adapters.command.console import CommandParser, Report, add_json_flag, add_version_flag, run_command
from libreseed.adapters.command.control import Request
from libreseed.errors import LibreSeedError

from .report import describe_added, describe_list, describe_scrub, describe_status

__all__ = ["main"]

_EXAMPLES = """\
  libreseed-seeder run --state-dir /var/lib/seeder --bootstrap dht.example.org:6892
  libreseed-seeder add ./out/demo@1.0.0 --state-dir /var/lib/seeder
  libreseed-seeder status --json
"""


_TEXTS = {
    "add": ("verify a release folder (or the .tgz in it) and seed it", "./out/demo@1.0.0 --state-dir ./seeder"),
    "list": ("what is seeded", "--json"),
    "status": ("how the daemon is doing", "--state-dir ./seeder"),
    "metrics": ("what Prometheus reads, for a textfile collector", "> /var/lib/node-exporter/seeder.prom"),
    "scrub": ("read a release (default: all) from the disk now, and heal it", "demo@1.0.0"),
    "remove": ("stop seeding a release and delete the seeder's copy", "demo@1.0.0"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(_body, _parser(), argv)


def _body(arguments: argparse.Namespace) -> Report | None:
    if arguments.command != "run":
        return _ask(arguments)
    _run(arguments)
    return None


def _run(arguments: argparse.Namespace) -> None:
    from .config import load_config
    from .daemon import run_daemon

    flags = {key.replace("_", "-"): value for key, value in vars(arguments).items()}
    run_daemon(load_config(arguments.config, flags))


def _ask(arguments: argparse.Namespace) -> Report:
    from .config import state_directory

    socket = state_directory(arguments.config, arguments.state_dir) / "control.sock"
    command: str = arguments.command
    if command == "add":
        answer = _add(socket, Path(arguments.path).resolve())
        return Report(describe_added(answer), answer)
    if command == "remove":
        answer = control.call(socket, Request("remove", {"id": arguments.id}))
        return Report(f"removed {answer['id']}", answer)
    if command == "scrub":
        answer = control.call(socket, Request("scrub", {"id": arguments.id} if arguments.id else {}))
        return Report(describe_scrub(answer), answer)
    answer = control.call(socket, Request(command, {}))
    if command == "metrics":
        return Report(answer["text"].rstrip("\n"), answer)
    return Report((describe_list if command == "list" else describe_status)(answer), answer)


def _add(socket: Path, path: Path) -> dict[str, Any]:
    """Hand the files over, opened; what this process cannot open either is left to the daemon to judge."""
    from .source import locate, opened

    # A name that is no UTF-8 cannot be said in JSON: the files that were handed over do not need it.
    said = os.fsencode(path).decode("utf-8", "replace")
    with contextlib.ExitStack() as files:
        try:
            descriptors = files.enter_context(opened(locate(path)))
        except LibreSeedError:
            return control.call(socket, Request("add", {"path": said}))
        arguments = {"path": said, "files": list(descriptors)}
        return control.call(socket, Request("add", arguments, tuple(descriptors.values())))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="libreseed-seeder",
        description="Seeds signed releases: verifies them, keeps them findable, heals them. Holds no private key.",
        examples=_EXAMPLES,
    )
    add_version_flag(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    _add_run(commands)
    for name, (text, arguments) in _TEXTS.items():
        command = commands.add_parser(
            name,
            description=f"{text[0].upper()}{text[1:]}. Asks the daemon that runs on the state directory.",
            help=text,
            examples=f"  libreseed-seeder {name} {arguments}",
        )
        _add_place(command)
        add_json_flag(command)
        if name == "add":
            command.add_argument(
                "path", metavar="PATH", help="a release folder, the .tgz in it, or a NAME.index.dht.json"
            )
        elif name in ("remove", "scrub"):
            command.add_argument(
                "id", metavar="ID", nargs="?" if name == "scrub" else None, help="name@version, or an id of 'list'"
            )
    return parser


def _add_run(commands: argparse._SubParsersAction[CommandParser]) -> None:
    run = commands.add_parser(
        "run",
        description="Seed what 'add' hands over and what was seeded before, in the foreground, until SIGTERM or "
        'Ctrl-C. Tells systemd when it is ready. All settings: docs/operations.md, "Configuration".',
        help="the daemon, in the foreground",
        examples="  libreseed-seeder run --state-dir ./seeder --listen 127.0.0.1:6891 --dht-port 6892\n"
        "  libreseed-seeder run --config /etc/libreseed/seeder.toml",
    )
    _add_place(run)
    run.add_argument(
        "--listen",
        action="append",
        metavar="H:P",
        help="TCP address of the swarm, or its name; port 0: any free one; may be repeated",
    )
    run.add_argument(
        "--dht-port",
        metavar="P",
        help="UDP port of the DHT on the same hosts; 0: any free one; may be the number of --listen",
    )
    run.add_argument("--bootstrap", action="append", metavar="H:P", help="a DHT node to begin with; may be repeated")
    run.add_argument("--watch", metavar="DIR", help="add release folders that appear there")
    run.add_argument("--metrics-listen", metavar="H:P", help="answer Prometheus there (default: nowhere)")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="F", help="configuration file (TOML; default: none)")
    parser.add_argument(
        "--state-dir",
        metavar="D",
        help="where the daemon keeps its state (default: LIBRESEED_STATE_DIR, else the user's own)",
    )


if __name__ == "__main__":
    sys.exit(main())
