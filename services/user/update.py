"""``libreseed update [NAME...]``: newer versions of what is installed, from the same publisher, by the resolver.

A newer version is a claim until the resolver has proven it; one that the publisher's key did not sign is never
considered. The old version stays installed. docs/specification/commands.md, "libreseed update".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.errors import LibreSeedError, NotFound, UsageFault
from libreseed.reasons import Exit

from .lookups import Place, add_flags, dht_client, offers_about, read_place

if TYPE_CHECKING:
    from libreseed.ids import PackageName, PublicKey, Version
    from libreseed.resolve.receipt import Receipt

__all__ = ["Candidate", "add_parser", "candidates", "resolver_line"]

_EXAMPLES = """\
  libreseed update                     everything that is installed
  libreseed update hello --dry-run     only say what is newer
  libreseed update --silexium https://log.example    with proofs from this server, as at the installation"""
_START = "import sys; from libreseed_services.resolver.cli import main; sys.exit(main())"


def add_parser(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``update``."""
    text = "install newer versions of what is installed, from the same publishers"
    verb = verbs.add_parser("update", help=text, description=text[0].upper() + text[1:] + ".", examples=_EXAMPLES)
    verb.add_argument("names", nargs="*", metavar="NAME", help="the packages (default: all that are installed)")
    verb.add_argument("--dry-run", action="store_true", help="change nothing, say what is newer")
    verb.add_argument("--pre", action="store_true", help="consider pre-releases, too")
    verb.add_argument(
        "--silexium", action="append", metavar="URL", help="a Silexium server, or a folder with bundles; repeatable"
    )
    verb.add_argument("--no-silexium", action="store_true", help="go without Silexium's proofs, as libreseed-resolve")
    verb.add_argument("--mirror", action="append", metavar="URL", help="a mirror to fetch from; may be repeated")
    verb.add_argument("--ca-file", metavar="F", help="trust these authorities (PEM) instead of the system's")
    add_flags(verb)
    verb.set_defaults(body=_update)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One name at one place: the newest version there, whose it is, and the newest on offer (None: nobody says)."""

    name: PackageName
    parent: Path
    publisher: PublicKey
    installed: Version
    newest: Version | None = None

    @property
    def is_newer(self) -> bool:
        """Whether what is on offer comes after what is installed, by SemVer's precedence."""
        from semantic_version import Version as Precedence

        return self.newest is not None and Precedence(self.newest.text) > Precedence(self.installed.text)


def candidates(receipts: Sequence[Receipt], names: Sequence[PackageName]) -> list[Candidate]:
    """What may be updated, one for each name and place; raises ``notfound.installed`` for a name that is nowhere."""
    from libreseed.resolve.offers import preferred

    there: dict[tuple[str, Path], list[Receipt]] = {}
    for receipt in receipts:
        name = receipt.minimal.release.name
        if not names or name in names:
            there.setdefault((str(name), Path(receipt.path).parent), []).append(receipt)
    found = []
    for (_, parent), group in sorted(there.items()):
        newest = preferred((one.minimal.release.version for one in group), pre=True)
        last = next(one for one in group if one.minimal.release.version == newest)
        release = last.minimal.release
        found.append(Candidate(release.name, parent, last.minimal.pubkey, release.version))
    if missing := [name for name in names if name not in {one.name for one in found}]:
        raise NotFound("notfound.installed", f"{missing[0]} is not installed")
    return found


def _update(args: argparse.Namespace) -> Report:
    import trio

    from libreseed.adapters.resolving.installed import installed
    from libreseed.adapters.resolving.store import Store
    from libreseed.resolve.request import parse_name

    if args.no_silexium and args.silexium:
        raise UsageFault("usage", "--no-silexium goes without proofs: --silexium contradicts it")
    place = read_place(args)
    there = candidates(installed(Store(place.store)), [parse_name(name) for name in args.names])
    known = trio.run(_look_up, there, place, args.pre) if there else []
    rows, first = [], None
    for one in known:
        tried = one.is_newer and not args.dry_run
        fault = _resolve(one, args, place) if tried else None
        first = first or fault
        rows.append(_row(one, tried, fault))
    text = "\n".join(_line(row) for row in rows) or "nothing is installed"
    return Report(text, {"updates": rows}, first)


async def _look_up(there: Sequence[Candidate], place: Place, pre: bool) -> list[Candidate]:
    """``there`` with the newest version that each one's own publisher offers."""
    known = []
    async with dht_client(place) as node:
        for one in there:
            offers = await offers_about(node, one.name, [one.publisher])
            mine = [offer.newest(pre=pre) for offer in offers if offer.publisher == one.publisher]
            known.append(replace(one, newest=next(iter(mine), None)))
    return known


def _resolve(one: Candidate, args: argparse.Namespace, place: Place) -> LibreSeedError | None:
    """Run the resolver, whose judgement it all is; its messages go to stderr. Returns what it ended with."""
    line = resolver_line(one, args, place)
    done = subprocess.run(line, stdout=subprocess.PIPE, check=False)
    if done.returncode == Exit.OK:
        return None
    try:
        told = json.loads(done.stdout)
        return LibreSeedError(told["reason"], told["message"], step=told["step"])
    except (ValueError, TypeError, KeyError):
        return LibreSeedError("bug", f"the resolver ended with {done.returncode} and said nothing")


def resolver_line(one: Candidate, args: argparse.Namespace, place: Place) -> list[str]:
    """The resolver's command line for ``one``, with every flag that was given for it."""
    line = [sys.executable, "-c", _START, f"{one.name}@{one.newest}", "--store", str(place.store)]
    if one.parent != place.store.absolute() / "packages":
        line += ["--out", str(one.parent)]
    for flag in ("bootstrap", "silexium", "mirror"):
        line += [part for value in getattr(args, flag) or () for part in (f"--{flag}", value)]
    for flag in ("policy", "config", "timeout", "ca-file"):
        if (value := getattr(args, flag.replace("-", "_"))) is not None:
            line += [f"--{flag}", str(value)]
    if args.no_silexium:
        line.append("--no-silexium")
    if args.json:
        line.append("--quiet")
    return [*line, "--json"]


def _row(one: Candidate, tried: bool, fault: LibreSeedError | None) -> dict[str, object]:
    return {
        "name": str(one.name),
        "place": str(one.parent),
        "publisher": str(one.publisher),
        "installed": str(one.installed),
        "newest": None if one.newest is None else str(one.newest),
        "newer": one.is_newer,
        "updated": tried and fault is None,
        "exit": None if not tried else Exit.OK if fault is None else fault.exit_code,
        "reason": None if fault is None else fault.reason,
    }


def _line(row: dict[str, object]) -> str:
    if row["newest"] is None:
        said = "its publisher offers nothing that the DHT knows of"
    elif not row["newer"]:
        said = "is the newest"
    elif row["exit"] is None:
        said = f"-> {row['newest']} is on offer"
    else:
        said = f"-> {row['newest']} installed" if row["updated"] else f"-> {row['newest']} refused (exit {row['exit']})"
    return f"{row['name']} {row['installed']}  {said}"
