"""What an operator can set: one Silexium server's settings, their bounds and defaults (docs/operations.md).

``silexium.toml``, overridden by ``LIBRESEED_*``, overridden by flags. Paths in the file are relative to its folder. The
tables ``time``, ``authorities`` and ``calendars`` say whose stamps are demanded and where they are asked for; with
``embedded`` the server is its own authority and calendar, which proves nothing about its operator.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libreseed import limits
from libreseed.adapters.command.console import CommandParser
from libreseed.adapters.command.settings import (
    Endpoint,
    Setting,
    address,
    default_directory,
    endpoint,
    file_path,
    integer,
    list_of,
    load_settings,
    seconds,
    text,
)
from libreseed.errors import UsageFault

if TYPE_CHECKING:
    from libreseed.ids import PublicKey
    from libreseed.keys.ed25519 import PrivateKey
    from libreseed.silexium.tree_head import NamedKey

__all__ = [
    "CONFIG_NAME",
    "Authority",
    "Calendar",
    "HeaderOrigin",
    "Site",
    "WitnessPlace",
    "add_site_flags",
    "load_site",
]

CONFIG_NAME = "silexium.toml"
_BEGIN = "give --config F, or make a server's folder with 'libreseed-silexium init'"
_SERVICES = 8  # of a kind, the format's bound on stamps
_YEAR = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Authority:
    """Where the authority that ``time.tsas`` calls ``name`` is asked."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class HeaderOrigin:
    """Where block headers come from: a ``url``, or a Bitcoin Core node's ``rpc`` with the login in ``cookie``."""

    url: str | None = None
    rpc: str | None = None
    cookie: Path | None = None


@dataclass(frozen=True, slots=True)
class Calendar:
    """A calendar, and the other addresses that its promises may name."""

    url: str
    redeemed_at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WitnessPlace:
    """A witness that is asked for cosignatures: its name and public key as in its signatures, and its URL."""

    name: str
    key: str
    url: str


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("expected a table")
    return value


def _closed(table: Mapping[str, object], rule: str, *members: str) -> None:
    """Neither less nor more; more is often a setting of its own, which TOML gives to the table above it."""
    if strange := sorted(table.keys() - set(members)):
        raise ValueError(f"{rule}; {strange[0]!r:.80} belongs above the first table if it is a setting")
    if len(table) < len(members):
        raise ValueError(rule)


def _authority(value: object) -> Authority:
    table = _table(value)
    _closed(table, "an authority has a name and a url", "name", "url")
    return Authority(text(table["name"]), text(table["url"]))


def _header_origin(value: object) -> HeaderOrigin:
    table = _table(value)
    if set(table) == {"url"}:
        return HeaderOrigin(url=text(table["url"]))
    if not {"rpc"} <= set(table) <= {"rpc", "cookie"}:
        raise ValueError("block headers come from a url, or from an rpc and optionally its cookie")
    return HeaderOrigin(rpc=text(table["rpc"]), cookie=file_path(table["cookie"]) if "cookie" in table else None)


def _calendar(value: object) -> Calendar:
    if isinstance(value, str):
        return Calendar(text(value))
    table = _table(value)
    if not {"url"} <= set(table) <= {"url", "redeemed-at"}:
        raise ValueError("a calendar has a url, and optionally redeemed-at")
    return Calendar(text(table["url"]), list_of(text)(table.get("redeemed-at", [])))


def _witness(value: object) -> WitnessPlace:
    table = _table(value)
    _closed(table, "a witness has a name, a key and a url", "name", "key", "url")
    return WitnessPlace(text(table["name"]), text(table["key"]), text(table["url"]))


_SCHEMA = (
    Setting("origin", text),
    Setting("database", file_path),
    Setting("server-key", file_path),
    Setting("log-key", file_path),
    Setting("listen", endpoint, Endpoint("127.0.0.1", 8440)),
    Setting("certificate", file_path),
    Setting("certificate-key", file_path),
    Setting("trusted-proxies", list_of(address), ()),
    Setting("rate", seconds, 50.0),
    Setting("burst", integer(1, 10**6), 200),
    Setting("connections", integer(1, 60_000), 1000),
    Setting("connections-per-client", integer(1, 60_000), 100),
    Setting("embedded", file_path),
    Setting("time", _table),
    Setting("authorities", list_of(_authority), ()),
    Setting("calendars", list_of(_calendar), ()),
    Setting("headers", file_path),
    Setting("headers-from", _header_origin),
    Setting("head-seconds", seconds, 3600.0),
    Setting("patience-seconds", seconds, 3600.0),
    Setting("cosigned", integer(0, 32), 0),
    Setting("witnesses", list_of(_witness), ()),
)
_PATHS = ("database", "server-key", "log-key", "certificate", "certificate-key", "embedded", "headers")


@dataclass(frozen=True, slots=True)
class Site:
    """Every setting, read and checked; what is None is not set. Times are seconds, ``rate`` is requests per second."""

    config: Path | None
    origin: str | None
    database: Path
    server_key: Path | None
    log_key: Path | None
    listen: Endpoint
    certificate: Path | None
    certificate_key: Path | None
    trusted_proxies: tuple[str, ...]
    rate: float
    burst: int
    connections: int
    connections_per_client: int
    embedded: Path | None
    time: Mapping[str, object] | None
    authorities: tuple[Authority, ...]
    calendars: tuple[Calendar, ...]
    headers: Path | None
    headers_from: HeaderOrigin | None
    head_seconds: float
    patience_seconds: float
    cosigned: int
    witnesses: tuple[WitnessPlace, ...]

    def __post_init__(self) -> None:
        if (
            len({place.key for place in self.witnesses}) != len(self.witnesses)
            or len(self.witnesses) > limits.WITNESSES
        ):
            raise UsageFault("config.value", f"witnesses: at most {limits.WITNESSES}, each key once")
        if self.embedded is not None and (self.time is not None or self.authorities or self.calendars):
            raise UsageFault("config.value", "embedded authorities exclude time, authorities and calendars")
        if max(len(self.authorities), len(self.calendars)) > _SERVICES:
            raise UsageFault("config.value", f"at most {_SERVICES} authorities and {_SERVICES} calendars")
        if max(self.head_seconds, self.patience_seconds) > _YEAR:
            raise UsageFault("config.value", "head-seconds and patience-seconds are at most a year")

    def log_identity(self) -> NamedKey:
        """The log's name and public key; the key file is not unlocked."""
        from libreseed.adapters.command.keys import read_key_file
        from libreseed.silexium.tree_head import NamedKey

        if self.origin is None:
            raise UsageFault("config.value", f"origin is not set: the log has no name; {_BEGIN}")
        return NamedKey(self.origin, read_key_file(_required(self.log_key, "log-key")).public)

    def server_public(self) -> PublicKey:
        """The public half of the server's key."""
        from libreseed.adapters.command.keys import read_key_file

        return read_key_file(_required(self.server_key, "server-key")).public

    def unlock(self, which: str) -> PrivateKey:
        """The private key of ``server-key`` or ``log-key``."""
        import os

        from libreseed.adapters.command.keys import passphrase_source, signing_key

        path = _required(self.server_key if which == "server-key" else self.log_key, which)
        return signing_key(str(path), passphrase_source(None, os.environ), os.environ)


def add_site_flags(parser: CommandParser) -> None:
    """``--config`` and what most commands may override."""
    parser.add_argument(
        "--config", metavar="F", help=f"the settings (default: {CONFIG_NAME} in the configuration folder)"
    )
    parser.add_argument(
        "--database", metavar="F", help="the database (default: silexium/silexium.db in the data folder)"
    )


def load_site(arguments: argparse.Namespace) -> Site:
    """The settings of file, environment and flags; raises :class:`UsageFault` and NotFound."""
    from libreseed.adapters.silexium.database import default_database

    config = _config_path(arguments.config)
    flags = {name.replace("_", "-"): value for name, value in vars(arguments).items() if name != "config"}
    values: dict[str, Any] = load_settings(_SCHEMA, config=config, flags=flags)
    for key in _PATHS:
        if values[key] is not None and config is not None and flags.get(key) is None:
            values[key] = config.parent / values[key]
    values["database"] = values["database"] or default_database()
    named = {name.replace("-", "_"): value for name, value in values.items()}
    return Site(config=config, **{item.name: named[item.name] for item in fields(Site) if item.name != "config"})


def _config_path(given: str | None) -> Path | None:
    if given is not None:
        path = Path(given).expanduser()
        return path / CONFIG_NAME if path.is_dir() else path
    default = default_directory("config") / CONFIG_NAME
    return default if default.is_file() else None


def _required(path: Path | None, name: str) -> Path:
    if path is None:
        raise UsageFault("config.value", f"{name} is not set; {_BEGIN}")
    return path
