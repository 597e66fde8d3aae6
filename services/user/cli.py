"""``libreseed``: the verbs of a person at a shell. ``install`` is the resolver, run in place of this process.

Commands and exit codes: docs/specification/commands.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report, add_json_flag, add_version_flag, run_command
from libreseed.adapters.command.terminal import counted
from libreseed.errors import ContentRejected, NotFound, UsageFault

from .doctor import add_parser as add_doctor
from .search import add_parser as add_search
from .update import add_parser as add_update
from .verify import add_parser as add_verify

if TYPE_CHECKING:
    from libreseed.resolve.trust import Pins

    from .story import Story

__all__ = ["main"]

_ABOUT = "Signed packages from a hostile network: installed after every proof about them held, and looked after."
_EXAMPLES = """\
  libreseed demo                                   the whole main job on this machine, with damage and repair
  libreseed demo ~/project                         the same with a directory of yours
  libreseed trust add hello ed25519:KEY            believe this publisher for the name hello
  libreseed install hello@1.0.0                    find, download, verify and install it
  libreseed verify --bundle hello@1.0.0.silexium.json --explain
  libreseed search hello                           who publishes what under that name
  libreseed update                                 newer versions of what is installed
  libreseed list                                   what is installed
  libreseed doctor                                 is everything here as it should be
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["install"]:
        _become_the_resolver(arguments[1:])
    return run_command(lambda args: args.body(args), _parser(), arguments, interrupt_on_terminate=True)


def _become_the_resolver(arguments: list[str]) -> None:
    """Replace this process: one resolver, one set of flags, one exit code (services never import each other)."""
    start = "import sys; from libreseed_services.resolver.cli import main; sys.exit(main())"
    os.execv(sys.executable, [sys.executable, "-c", start, *arguments])  # noqa: S606


def _parser() -> CommandParser:
    parser = CommandParser(prog="libreseed", description=_ABOUT, examples=_EXAMPLES)
    add_version_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("install", help="find, download, verify and install a release (libreseed-resolve)")
    _add_demo(verbs)
    _add_list(verbs)
    _add_uninstall(verbs)
    _add_trust(verbs)
    add_verify(verbs)
    add_search(verbs)
    add_update(verbs)
    add_doctor(verbs)
    return parser


def _add_demo(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    verb = verbs.add_parser(
        "demo",
        help="package, seed, resolve, damage and repair on loopback",
        description=_DEMO,
        examples="  libreseed demo\n  libreseed demo ~/project --keep ./played\n  libreseed demo --mirror",
    )
    verb.add_argument("directory", nargs="?", type=Path, help="what to package (default: LibreSeed's own sources)")
    verb.add_argument(
        "--mirror", action="store_true", help="instead: a dead swarm, two damaged mirrors and one that lies"
    )
    verb.add_argument("--keep", type=Path, metavar="DIR", help="play in DIR, which must not exist, and keep everything")
    add_json_flag(verb)
    verb.set_defaults(body=_demo)


_DEMO = """\
The whole main job with real files, real daemons and a real DHT, on loopback addresses only: packages a directory, has
it attested and logged, seeds it from two daemons, resolves it with every proof, kills one seeder and damages the other
one's disk, resolves it again by repairing, lets the damaged seeder heal, and shows what is refused. Exits non-zero if
anything is not as claimed."""


def _demo(args: argparse.Namespace) -> Report:
    import trio

    from .demo import DemoOptions, run_demo
    from .story import Story

    if args.directory is not None and not args.directory.is_dir():
        raise UsageFault("demo.directory", f"not a directory: {args.directory}")
    story = Story(None if args.json else sys.stdout)
    with _place(args.keep) as root:
        options = DemoOptions(args.directory and args.directory.resolve(), root)
        if args.mirror:
            from .mirror_demo import run_mirror_demo

            trio.run(run_mirror_demo, options, story)
        else:
            trio.run(run_demo, options, story)
    return _verdict(story)


@contextlib.contextmanager
def _place(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="libreseed-demo-") as folder:
        yield Path(folder).resolve()


def _verdict(story: Story) -> Report:
    claims = [{"act": claim.act, "claim": claim.text, "holds": claim.holds} for claim in story.claims]
    broken = story.broken
    text = f"\n{len(claims) - len(broken)} of {len(claims)} claims hold."
    text += "".join(f"\nNOT SO: {claim.act}: {claim.text}" for claim in broken)
    fault = None
    if broken:
        fault = ContentRejected("demo.claim", f"{counted(len(broken), 'claim')} did not hold: {broken[0].text}")
    return Report(text, {"claims": claims, "facts": story.facts}, fault)


# --- installed packages --------------------------------------------------------------------------------------------


def _add_store_flag(verb: CommandParser) -> None:
    verb.add_argument(
        "--store", type=Path, metavar="D", help="the resolver's store (default: the one that libreseed-resolve uses)"
    )
    add_json_flag(verb)


def _store_root(args: argparse.Namespace) -> Path:
    """The same place that ``libreseed-resolve`` uses."""
    from libreseed.adapters.resolving.resolver_settings import usual_store

    return usual_store(args.store)


def _add_list(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    verb = verbs.add_parser(
        "list",
        help="what is installed in the store",
        description="List what is installed, with its paths.",
        examples="  libreseed list\n  libreseed list --json",
    )
    _add_store_flag(verb)
    verb.set_defaults(body=_list)


def _list(args: argparse.Namespace) -> Report:
    from libreseed.adapters.resolving.installed import installed
    from libreseed.adapters.resolving.store import Store

    receipts = installed(Store(_store_root(args)))
    rows = [{"release": str(receipt.minimal.release), "path": receipt.path} for receipt in receipts]
    text = "\n".join(f"{row['release']:<40} {row['path']}" for row in rows) or "nothing is installed"
    return Report(text, {"installed": rows})


def _add_uninstall(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    verb = verbs.add_parser(
        "uninstall",
        help="remove an installed release; local only, floors are kept",
        description="Remove every copy of a release that was installed from this store. What protects against a "
        "rollback of it stays.",
        examples="  libreseed uninstall hello@1.0.0",
    )
    verb.add_argument("release", metavar="NAME@VERSION", help="the release, for example hello@1.0.0")
    _add_store_flag(verb)
    verb.set_defaults(body=_uninstall)


def _uninstall(args: argparse.Namespace) -> Report:
    from libreseed.adapters.resolving.installed import uninstall
    from libreseed.adapters.resolving.store import Store
    from libreseed.resolve.request import parse_release

    removed = uninstall(Store(_store_root(args)), parse_release(args.release))
    return Report("\n".join(f"removed {path}" for path in removed), {"removed": removed})


# --- trust ---------------------------------------------------------------------------------------------------------


def _add_trust(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    trust = verbs.add_parser(
        "trust",
        help="whose signature counts for which name: add, remove, list",
        description="Keep the pins of a store: whose signature counts for which name. A pin answers who the publisher "
        "is; Silexium's proofs are demanded all the same.",
        examples="  libreseed trust add hello ed25519:KEY\n  libreseed trust list",
    )
    actions = trust.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, says in (("add", "believe KEY for NAME"), ("remove", "no longer believe KEY for NAME")):
        example = f"  libreseed trust {action} hello ed25519:KEY"
        verb = actions.add_parser(action, help=says, description=f"{says.capitalize()}.", examples=example)
        verb.add_argument("name", metavar="NAME", help="the package's name")
        verb.add_argument("key", metavar="KEY", help="ed25519:<base64>, as the publisher tells it by another way")
        _add_store_flag(verb)
        verb.set_defaults(body=_change_trust)
    verb = actions.add_parser(
        "list", help="all pins", description="Show all pins.", examples="  libreseed trust list --json"
    )
    _add_store_flag(verb)
    verb.set_defaults(body=_list_trust)


def _change_trust(args: argparse.Namespace) -> Report:
    from libreseed.adapters.resolving.trust_store import TrustStore
    from libreseed.resolve.request import parse_key, parse_name

    name, key, store = parse_name(args.name), parse_key(args.key), TrustStore(_store_root(args))
    if args.action == "add":
        store.add(name, key)
    elif key in store.pins().get(name, ()):
        store.remove(name, key)
    else:
        raise NotFound("notfound.pin", f"{key} is not pinned for {name}")
    return Report(_pins_text(store.pins()), {"publishers": _pins_data(store.pins())})


def _list_trust(args: argparse.Namespace) -> Report:
    from libreseed.adapters.resolving.trust_store import TrustStore

    pins = TrustStore(_store_root(args)).pins()
    return Report(_pins_text(pins), {"publishers": _pins_data(pins)})


def _pins_text(pins: Pins) -> str:
    rows = [f"{name:<30} {key}" for name, keys in _pins_data(pins).items() for key in keys]
    return "\n".join(rows) or "nobody is pinned"


def _pins_data(pins: Pins) -> dict[str, list[str]]:
    return {str(name): [str(key) for key in keys] for name, keys in pins.items()}


if __name__ == "__main__":
    sys.exit(main())
