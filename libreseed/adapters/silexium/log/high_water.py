"""The high-water file beside a log's database: the largest head that the log has ever signed, as a checkpoint.

It is written before anybody can see the head, and is no part of a backup of the database. A database that cannot show
that very head's tree is behind what its log has shown (a backup was put back, or another database has its name): to
append or to sign would fork the log, and is refused. Heads that others kept (a witness, a mirror, an export folder)
raise it too. Specification: ``silexium-log.md``, 3.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.errors import NotFound, ProofRejected
from libreseed.silexium.tree_head import Checkpoint, NamedKey, SignedTreeHead, parse_checkpoint

__all__ = ["HighWater", "require_fit"]

RootAt = Callable[[int], bytes]


class HighWater:
    """The file ``<database>.head`` of the log ``identity``. Written only inside a transaction that writes."""

    def __init__(self, database: Path, identity: NamedKey) -> None:
        self.path = database.with_name(database.name + ".head")
        self._identity = identity
        self._seen: tuple[int, int, int] | None = None  # the file's state when it was last found to fit
        self._size = 0

    def shown(self) -> SignedTreeHead | None:
        """The head in the file, None when there is none; raises the reasons of heads for a damaged file."""
        try:
            data = read_bounded(self.path, limits.NOTE_BYTES)
        except NotFound:
            return None
        return parse_checkpoint(data, self._identity).sth

    def require(self, size: int, root_at: RootAt) -> None:
        """Demand that the log of ``size`` entries has what it has shown; raises ``silexium.shrunk``. Cheap when the
        file is as it was."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        state = (status.st_mtime_ns, status.st_ino, status.st_size)
        if state == self._seen and size >= self._size:
            return
        shown = self.shown()
        if shown is not None:
            require_fit(shown, size, root_at)
            self._seen, self._size = state, shown.size

    def raise_to(self, sth: SignedTreeHead) -> None:
        """Make ``sth``, which must fit what is there, the largest head shown; durable on return."""
        durable_write(self.path, Checkpoint(sth).data)


def require_fit(shown: SignedTreeHead, size: int, root_at: RootAt) -> None:
    """Demand that a log of ``size`` entries begins with the tree of ``shown``; raises ``silexium.shrunk``."""
    if size < shown.size or root_at(shown.size) != shown.root.raw:
        message = f"this log has shown a head of {shown.size} entries that its database of {size} entries does not have"
        raise ProofRejected("silexium.shrunk", message, evidence={"shown": shown.members(), "size": size})
