"""``releases``: how far everything that was taken in is on its way to the log."""

from __future__ import annotations

import argparse

from libreseed.adapters.command.console import Report
from libreseed.adapters.command.settings import integer
from libreseed.adapters.command.terminal import counted

from .commands import Commands
from .site import add_site_flags, load_site

__all__ = ["add_parser"]

_STATES = ("staged", "pending", "complete", "logged", "refused")
_MOST = 10_000


def add_parser(commands: Commands) -> None:
    """Register ``releases``."""
    parser = commands.add_parser(
        "releases",
        help="show what was taken in, and how far it is",
        description="List releases, the newest first, with their states: staged, pending (its stamps are under way), "
        "complete, logged, or refused with the reason. With --check, hold every logged release against the log.",
        examples="  libreseed-silexium releases --state pending\n  libreseed-silexium releases --check --json",
    )
    parser.add_argument("--state", choices=_STATES, help="only these")
    most = integer(1, _MOST)
    parser.add_argument("--most", type=most, default=100, metavar="N", help="at most so many (%(default)s)")
    parser.add_argument("--check", action="store_true", help="make every logged entry anew and compare it")
    add_site_flags(parser)
    parser.set_defaults(handler=_releases)


def _releases(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.releases.catalogue import ReleaseState

    from .office import open_office

    if arguments.check:
        return _check(arguments)
    state = None if arguments.state is None else ReleaseState(arguments.state)
    with open_office(load_site(arguments), create=False) as office:
        found = office.catalogue.listing(state, arguments.most)
        counts = office.catalogue.counts()
    rows = [{"release": str(release), "state": str(state), "refusal": refusal} for release, state, refusal in found]
    lines = [f"{row['state']:<9} {row['release']}{'  ' + row['refusal'] if row['refusal'] else ''}" for row in rows]
    data = {"releases": rows, "counts": {str(state): count for state, count in counts.items()}}
    return Report("\n".join(lines) if lines else "nothing was taken in yet", data)


def _check(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log.log_store import LogStore
    from libreseed.adapters.silexium.releases.catalogue_check import check_catalogue

    from .office import open_office

    site = load_site(arguments)
    with open_office(site, create=False) as office:
        office.database.check()
        checked = check_catalogue(office.catalogue, LogStore(office.database, site.log_identity()))
    return Report(f"{counted(checked, 'logged release')} held against the log: no difference", {"checked": checked})
