"""``libreseed search NAME``: who publishes what under a name, as the DHT tells it. Nothing of it is believed.

docs/specification/commands.md, "libreseed search".
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.errors import NotFound

from .lookups import Place, add_flags, dht_client, offers_about, read_place

if TYPE_CHECKING:
    from libreseed.ids import PackageName
    from libreseed.resolve.offers import Offer

__all__ = ["add_parser"]

_EXAMPLES = """\
  libreseed search hello                               all publishers and versions that the DHT knows
  libreseed search hello --bootstrap 127.0.0.2:6892    in the network of that node"""
_SHOWN = 12  # versions on a line; --json has all of them


def add_parser(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``search``."""
    text = "list the publishers and versions of a name; none of it is believed"
    verb = verbs.add_parser("search", help=text, description=text[0].upper() + text[1:] + ".", examples=_EXAMPLES)
    verb.add_argument("name", metavar="NAME", help="the package's name")
    add_flags(verb)
    verb.set_defaults(body=_search)


def _search(args: argparse.Namespace) -> Report:
    import trio

    from libreseed.resolve.request import parse_name

    name, place = parse_name(args.name), read_place(args)
    offers = trio.run(_look_up, name, place)
    if not offers:
        raise NotFound("notfound.name", f"nobody who was asked knows {name}")
    believed = place.believed(name)
    rows = [
        {
            "publisher": str(offer.publisher),
            "trusted": offer.publisher in believed,
            "newest": None if (newest := offer.newest()) is None else str(newest),
            "versions": [str(version) for version in offer.versions],
            "indexed": offer.indexed,
        }
        for offer in offers
    ]
    return Report(_text(name, offers, place), {"name": str(name), "publishers": rows})


async def _look_up(name: PackageName, place: Place) -> list[Offer]:
    async with dht_client(place) as node:
        return await offers_about(node, name, place.believed(name))


def _text(name: PackageName, offers: list[Offer], place: Place) -> str:
    lines = []
    for offer in offers:
        trusted = offer.publisher in place.believed(name)
        versions = " ".join(str(version) for version in offer.versions[:_SHOWN])
        more = f" and {len(offer.versions) - _SHOWN} more" if len(offer.versions) > _SHOWN else ""
        lines += [f"{offer.publisher}  {'trusted' if trusted else 'not trusted'}", f"  {versions}{more}"]
    if not any(offer.publisher in place.believed(name) for offer in offers):
        lines.append(
            f"Anybody can publish under any name. Ask the publisher for the key, then: libreseed trust add {name} KEY"
        )
    return "\n".join(lines)
