"""``key trust``, ``key revoke`` and ``key list``: whose releases this server takes. silexium-api.md, 2."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Report
from libreseed.errors import Malformed, UsageFault

from .commands import Commands
from .site import add_site_flags, load_site

if TYPE_CHECKING:
    from libreseed.silexium.keyring import KeyId

__all__ = ["add_trust"]


def add_trust(commands: Commands) -> None:
    """Register the three below ``key``."""
    trust = commands.add_parser(
        "trust",
        help="take releases that this key attests",
        description="Let a key attest as author or as tests for the releases that this server takes in. The server's "
        "own key needs no entry. What is said once about a key stays; only its revocation can be added.",
        examples="  libreseed-silexium key trust ed25519:... --role author --package hello\n"
        "  libreseed-silexium key trust ed25519:... --role tests --not-after 2028-01-01T00:00:00Z",
    )
    trust.add_argument("key", metavar="KEY", help="the public key, ed25519:...")
    trust.add_argument(
        "--role",
        required=True,
        action="append",
        choices=("author", "tests", "server"),
        help="what the key may attest as; may be repeated",
    )
    trust.add_argument("--package", action="append", metavar="NAME", help="for this package only; may be repeated")
    trust.add_argument("--not-before", metavar="T", help="in force from YYYY-MM-DDTHH:MM:SSZ on (default: always)")
    trust.add_argument("--not-after", metavar="T", help="in force until YYYY-MM-DDTHH:MM:SSZ (default: for ever)")
    add_site_flags(trust)
    trust.set_defaults(handler=_trust)
    revoke = commands.add_parser(
        "revoke",
        help="trust a key no longer",
        description="Trust nothing that a key signed from a moment on. A revocation can be moved to an earlier moment, "
        "never undone. Clients decide by their own policy: tell them.",
        examples="  libreseed-silexium key revoke ed25519:... --at 2026-09-01T00:00:00Z",
    )
    revoke.add_argument("key", metavar="KEY", help="the public key, or its key_id")
    revoke.add_argument("--at", metavar="T", help="YYYY-MM-DDTHH:MM:SSZ (default: now)")
    add_site_flags(revoke)
    revoke.set_defaults(handler=_revoke)
    listing = commands.add_parser(
        "list",
        help="show the keys that releases are taken from",
        description="Show every key that was trusted, revoked ones too.",
        examples="  libreseed-silexium key list --json",
    )
    add_site_flags(listing)
    listing.set_defaults(handler=_list)


def _trust(arguments: argparse.Namespace) -> Report:
    from libreseed.ids import PackageName, PublicKey
    from libreseed.silexium.instants import LAST_INSTANT
    from libreseed.silexium.keyring import Role, TrustedKey

    from .office import open_office

    try:
        packages = arguments.package and frozenset(map(PackageName, arguments.package))
        key = TrustedKey(
            PublicKey.parse(arguments.key),
            frozenset(map(Role, arguments.role)),
            packages or None,
            not_before=_instant(arguments.not_before, 0),
            not_after=_instant(arguments.not_after, LAST_INSTANT),
        )
    except Malformed as error:
        raise UsageFault("usage", error.message) from error
    site = load_site(arguments)
    with open_office(site) as office:
        office.keys.trust(key)
    roles = ", ".join(sorted(key.roles))
    data = {"key": str(key.public), "key_id": str(key.key_id), "database": str(site.database)}
    return Report(f"trusted as {roles}: {key.public}\ndatabase {site.database}", data)


def _revoke(arguments: argparse.Namespace) -> Report:
    from libreseed.silexium.instants import format_instant

    from .office import open_office, wall_clock

    try:
        key_id, at = _key_id(arguments.key), _instant(arguments.at, wall_clock())
    except Malformed as error:
        raise UsageFault("usage", error.message) from error
    site = load_site(arguments)
    with open_office(site) as office:
        office.keys.revoke(key_id, at)
    moment = format_instant(at)
    data = {"key_id": str(key_id), "revoked_at": moment, "database": str(site.database)}
    return Report(f"revoked from {moment} on: {key_id}\ndatabase {site.database}", data)


def _list(arguments: argparse.Namespace) -> Report:
    from .office import open_office
    from .wellbeing import key_members

    site = load_site(arguments)
    with open_office(site) as office:
        keys = [key_members(key) for key in office.keys.listed()]
    lines = ["  ".join(f"{name} {_shown(value)}" for name, value in key.items()) for key in keys]
    return Report("\n".join(lines) if lines else f"no key is trusted yet in {site.database}", {"keys": keys})


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _key_id(text: str) -> KeyId:
    from libreseed.ids import PublicKey
    from libreseed.silexium.keyring import KeyId

    try:
        return KeyId.of(PublicKey.parse(text)) if text.startswith("ed25519:") else KeyId(text)
    except Malformed as error:
        raise UsageFault("usage", f"neither a public key, ed25519:..., nor a key_id: {error.message}") from error


def _instant(text: str | None, default: int) -> int:
    from libreseed.silexium.instants import parse_instant

    return default if text is None else parse_instant(text)
