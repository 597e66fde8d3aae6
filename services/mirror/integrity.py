"""``integrity``: the integrity manifest of a website's folder, its recovery files, and the attributes of its pages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report, add_json_flag

if TYPE_CHECKING:
    from libreseed.adapters.auraseal.site_folder import SiteCheck, SitePlan

__all__ = ["add_parser", "integrity"]

_DESCRIPTION = """\
Make the scripts of a website verifiable by auraseal.js. Writes DIR/integrity-manifest.json, which has the SHA-512 of
every component; beside each component a recovery file (core.js: core.part.1.js), which the loader uses when the
component is damaged or gone; and the integrity attribute of every <script type="auraseal/module" src="..."> in the
pages. A second run changes nothing. Hidden files are left alone."""
_EXAMPLES = """\
  libreseed-mirror integrity ./site
  libreseed-mirror integrity ./site --check
  libreseed-mirror integrity ./site --heal
  libreseed-mirror integrity ./site --component 'js/*.js' --component '*.wasm'
  libreseed-mirror integrity ./site --print --no-recovery"""


def add_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``integrity``; the parsed arguments' ``command()`` gives the function that takes them."""
    parser = commands.add_parser(
        "integrity",
        help="write a website's integrity manifest and attributes",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("dir", metavar="DIR", help="the folder that the web server shows")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only verify the folder; 30 if anything differs")
    what.add_argument("--heal", action="store_true", help="write anew what is damaged from its twin, then verify")
    what.add_argument("--print", action="store_true", help="only print the attributes; write nothing")
    parser.add_argument("--no-recovery", action="store_true", help="no recovery files: one hash per attribute")
    parser.add_argument(
        "--component",
        action="append",
        metavar="PATTERN",
        help="files that are components, by name, or by path if there is a slash in it (default: *.js *.mjs *.wasm "
        "*.bin); may be repeated",
    )
    add_json_flag(parser)
    parser.set_defaults(command=lambda: integrity)


def integrity(arguments: argparse.Namespace) -> Report:
    """Write, print or check; raises NotFound, ContentRejected (``auraseal.*``, ``tree.*``), LocalFault."""
    from libreseed.adapters.auraseal.site_folder import (
        COMPONENT_PATTERNS,
        SiteRules,
        apply_plan,
        check_site,
        plan_site,
    )

    root = Path(arguments.dir)
    rules = SiteRules(tuple(arguments.component or COMPONENT_PATTERNS), recovery=not arguments.no_recovery)
    if arguments.check or arguments.heal:
        healed = _heal(root) if arguments.heal else ()
        return _checked(root, check_site(root, rules), healed)
    plan = plan_site(root, rules)
    if arguments.print:
        return _planned(plan, written=False)
    apply_plan(plan)
    return _planned(plan, written=True)


def _heal(root: Path) -> tuple[str, ...]:
    from libreseed.adapters.auraseal.site_heal import heal_site

    return heal_site(root)


def _checked(root: Path, check: SiteCheck, healed: tuple[str, ...]) -> Report:
    recoveries = sum(entry.recovery is not None for entry in check.manifest.values())
    lines = [
        *(f"healed     {path}" for path in healed),
        f"holds      {root}: components: {len(check.manifest)}, with a recovery file: {recoveries}",
        f"attributes {check.tags - len(check.foreign)} in its pages",
        *(f"not here   {place}" for place in check.foreign),
    ]
    data = {"components": len(check.manifest), "recoveries": recoveries, "attributes": check.tags}
    return Report("\n".join(lines), {**data, "foreign": list(check.foreign), "healed": list(healed)})


def _planned(plan: SitePlan, *, written: bool) -> Report:
    components = {path: str(entry.integrity) for path, entry in plan.manifest.items()}
    if written:
        lines = [f"written    {path}" for path in plan.changes] or ["nothing to do: all is as it should be"]
    else:
        lines = [f'{path}\n  integrity="{value}"' for path, value in components.items()]
    lines += [f"not here   {place}: set its attribute yourself" for place in plan.foreign]
    data = {
        "components": components,
        "written": plan.changes if written else [],
        "attributes": sum(len(tags) for tags in plan.attributes.values()),
        "foreign": list(plan.foreign),
    }
    return Report("\n".join(lines), data)
