"""One server's database with everything that is kept in it, and the policy that the server itself goes by.

Opened by every command that works on the catalogue; ``serve`` adds the log, stamps and HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from libreseed.adapters.silexium.database import Database, open_database
from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA
from libreseed.adapters.silexium.releases.catalogue import CATALOGUE_SCHEMA, Catalogue
from libreseed.adapters.silexium.releases.key_table import KEY_SCHEMA, KeyTable
from libreseed.adapters.silexium.stamps.stamp_queue import STAMP_SCHEMA
from libreseed.errors import Malformed, UsageFault
from libreseed.silexium.stamps import TimePolicy
from libreseed.silexium.trust_policy import SilexiumPolicy, TrustedLog, parse_time_policy

from .site import Site

__all__ = ["SCHEMAS", "Office", "open_office", "wall_clock"]

SCHEMAS = (LOG_SCHEMA, CATALOGUE_SCHEMA, KEY_SCHEMA, STAMP_SCHEMA)


def wall_clock() -> int:
    """Unix seconds: the one clock of this service."""
    return int(time.time())


@dataclass
class Office:
    """What a site's commands share. Its parts block; trio code goes through ``database.run``."""

    site: Site
    database: Database

    @cached_property
    def catalogue(self) -> Catalogue:
        """The releases."""
        return Catalogue(self.database)

    @cached_property
    def keys(self) -> KeyTable:
        """The keys that releases are taken from."""
        return KeyTable(self.database)

    @cached_property
    def time_table(self) -> Mapping[str, object]:
        """The ``time`` table, of the settings or of the embedded world."""
        if self.site.embedded is not None:
            from libreseed.adapters.silexium.stamps.embedded import embedded_world

            return embedded_world(self.site.embedded).time_table()
        if self.site.time is None:
            message = f"neither [time] nor embedded is set{self._where}, so nobody's time stamps would count"
            hint = 'docs/operations.md, "Settings", has what belongs there; a try-out begins with init --embedded'
            raise UsageFault("config.value", f"{message}; {hint}")
        return self.site.time

    @cached_property
    def time_policy(self) -> TimePolicy:
        """Whose time stamps count."""
        table = self.time_table
        try:
            return parse_time_policy(table)
        except (Malformed, UsageFault) as error:
            raise UsageFault("config.policy", f"[time]{self._where}: {error.message}") from error

    @property
    def _where(self) -> str:
        return f" in {self.site.config}" if self.site.config is not None else ""

    def policy(self) -> SilexiumPolicy:
        """What this server takes releases by, with the keys as they are trusted now."""
        keyring = self.keys.keyring(self.site.server_public())
        return SilexiumPolicy(keyring, (TrustedLog(self.site.log_identity()),), self.time_policy)


@contextmanager
def open_office(site: Site, *, create: bool = True) -> Iterator[Office]:
    """Open the site's database; raises as :func:`open_database`."""
    with open_database(site.database, SCHEMAS, create=create) as database:
        yield Office(site, database)
