"""Opens the log in a site's database: to be read, for which no key is needed, or to be written by its own key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from libreseed.errors import NotFound

if TYPE_CHECKING:
    from libreseed.adapters.silexium.log.log_store import LogStore
    from libreseed.silexium.tree_head import Checkpoint

    from .site import Site

__all__ = ["newest", "reading_log", "signing_log"]


@contextmanager
def reading_log(site: Site) -> Iterator[LogStore]:
    """The log that the database holds, whichever it is; raises NotFound when there is none."""
    from libreseed.adapters.silexium.database import open_database
    from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA, LogStore, stored_identity

    with open_database(site.database, (LOG_SCHEMA,), create=False) as database:
        yield LogStore(database, stored_identity(database))


@contextmanager
def signing_log(site: Site, *, create: bool) -> Iterator[LogStore]:
    """The log of ``origin`` and ``log-key``, in its database."""
    from libreseed.adapters.silexium.database import open_database
    from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA, LogStore

    identity = site.log_identity()
    with open_database(site.database, (LOG_SCHEMA,), create=create) as database:
        yield LogStore(database, identity)


def newest(store: LogStore) -> Checkpoint:
    """The newest head; raises NotFound before the first one."""
    checkpoint = store.checkpoint()
    if checkpoint is None:
        raise NotFound("notfound.log", "no head of this log has been signed yet")
    return checkpoint
