"""``policy``: the table that a client's policy needs to believe this server, as TOML. silexium.md, 8.

It is what the operator *says*: a client takes it from somebody whom it trusts, never from the server it is about.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Report

from .commands import Commands
from .site import add_site_flags, load_site

if TYPE_CHECKING:
    from .office import Office

__all__ = ["add_parser", "policy_table", "policy_toml"]


def add_parser(commands: Commands) -> None:
    """Register ``policy``."""
    parser = commands.add_parser(
        "policy",
        help="print what clients need to trust this server",
        description="Print the policy table (TOML, or 'policy' in --json) that names this server's log and "
        "keys, its authorities and its network. Hand it to clients by a way that they trust; they decide.",
        examples="  libreseed-silexium policy --config ./log > silexium-policy.toml",
    )
    parser.add_argument("--prefix", default="", metavar="T", help="the table it goes under, e.g. silexium")
    add_site_flags(parser)
    parser.set_defaults(handler=_policy)


def _policy(arguments: argparse.Namespace) -> Report:
    from .office import open_office

    with open_office(load_site(arguments)) as office:
        office.policy()  # what clients would refuse is not handed to them
        table = policy_table(office)
    return Report(policy_toml(table, arguments.prefix), {"policy": table})


def policy_table(office: Office) -> dict[str, object]:
    """The table, which ``parse_silexium_policy`` takes."""
    from .wellbeing import key_members

    identity = office.site.log_identity()
    keyring = office.keys.keyring(office.site.server_public())
    keys = [{name: value for name, value in key_members(key).items() if name != "key_id"} for key in keyring]
    return {
        "time": dict(office.time_table),
        "logs": [{"origin": identity.name, "key": str(identity.key)}],
        "keys": keys,
    }


def policy_toml(table: Mapping[str, object], prefix: str = "") -> str:
    """The table as TOML text, below ``prefix`` (``silexium``, ``a.b``) if one is given."""
    return "\n".join([f"[{prefix}]", *_lines(table, prefix)] if prefix else _lines(table, ""))


def _lines(table: Mapping[str, object], name: str) -> Iterator[str]:
    """Plain values first, then sub-tables and arrays of tables, as TOML wants them."""
    for key, value in table.items():
        if not _is_table(value):
            yield f"{key} = {_value(value)}"
    for key, value in table.items():
        path = f"{name}.{key}" if name else key
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield ""
                yield f"[[{path}]]" if isinstance(value, list) else f"[{path}]"
                yield from _lines(inner, path)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
