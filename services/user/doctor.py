"""``libreseed doctor``: is everything on this machine as a resolve needs it? One line each: ok, warn or fail.

Changes nothing. Every check stands for itself: one that cannot be made is a failure of its own, with its remedy.
docs/specification/commands.md, "libreseed doctor".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.errors import LibreSeedError

from .lookups import Place, add_flags, read_place

if TYPE_CHECKING:
    from .checkup import Finding

__all__ = ["add_parser"]

_EXAMPLES = """\
  libreseed doctor                     everything
  libreseed doctor --offline           without asking the DHT
  libreseed doctor --json              for a monitoring system; exits non-zero when anything fails"""


def add_parser(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``doctor``."""
    text = "check paths, keys, clock, ports, network, libraries, policy and trust on this machine"
    verb = verbs.add_parser("doctor", help=text, description=text[0].upper() + text[1:] + ".", examples=_EXAMPLES)
    verb.add_argument("--offline", action="store_true", help="do not ask the DHT")
    add_flags(verb)
    verb.set_defaults(body=_doctor)


def _doctor(args: argparse.Namespace) -> Report:
    from . import checkup

    findings = [*checkup.libraries(), checkup.clock()]
    try:
        place = read_place(args)
    except (LibreSeedError, OSError) as error:
        findings.append(checkup.failed("settings, policy, pins", error))
    else:
        findings += _about(place, args.offline)
    failures = [finding for finding in findings if finding.state == "fail"]
    first = next(iter(failures), None)
    fault = None if first is None else LibreSeedError(first.reason, f"{first.check}: {first.says}")
    rows = [
        {"check": one.check, "state": one.state, "says": one.says, "remedy": one.remedy or None} for one in findings
    ]
    return Report("\n".join(map(_line, findings)), {"checks": rows}, fault)


def _about(place: Place, offline: bool) -> list[Finding]:
    from . import checkup

    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("settings", lambda: [checkup.settings(place)]),
        ("store", lambda: checkup.store(place)),
        ("keys", lambda: checkup.keys(place)),
        ("trust", lambda: [checkup.trust(place)]),
        ("Silexium", lambda: [checkup.silexium(place)]),
        ("ports", lambda: [checkup.ports(place)]),
    ]
    if not offline:
        checks.append(("DHT", lambda: [checkup.network(place)]))
    findings = []
    for name, check in checks:
        try:
            findings += check()
        except (LibreSeedError, OSError, BaseExceptionGroup) as error:
            findings.append(checkup.failed(name, error))
    return findings


def _line(finding: Finding) -> str:
    remedy = f"\n      {finding.remedy}" if finding.remedy else ""
    return f"{finding.state:<4}  {finding.check}: {finding.says}{remedy}"
