"""The high-water file beside a log's database: the largest head that the log has ever signed, as a checkpoint.

It is written before anybody can see the head, and is no part of a backup of the database. A database that cannot show
that very head's tree is behind what its log has shown (a backup was put back, or another database has its name): to
append or to sign would fork the log, and is refused. Specification: ``silexium-log.md``, 3.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.errors import ProofRejected
from libreseed.silexium.tree_head import Checkpoint, NamedKey, SignedTreeHead, parse_checkpoint

__all__ = ["HighWater"]


class HighWater:
    """The file ``<database>.head`` of the log ``identity``. Used only inside a transaction that writes."""

    def __init__(self, database: Path, identity: NamedKey) -> None:
        self.path = database.with_name(database.name + ".head")
        self._identity = identity
        self._seen: tuple[int, int, int] | None = None  # the file's state when it was last found to fit
        self._size = 0

    def require(self, size: int, root_at: Callable[[int], bytes]) -> None:
        """Demand that the log of ``size`` entries has what it has shown; raises ``silexium.shrunk``."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        state = (status.st_mtime_ns, status.st_ino, status.st_size)
        if state == self._seen and size >= self._size:
            return
        shown = parse_checkpoint(read_bounded(self.path, limits.NOTE_BYTES), self._identity).sth
        if size < shown.size or root_at(shown.size) != shown.root.raw:
            message = f"this log has shown a head of {shown.size} entries that its database of {size} does not have"
            raise ProofRejected("silexium.shrunk", message, evidence={"shown": shown.members(), "size": size})
        self._seen, self._size = state, shown.size

    def raise_to(self, sth: SignedTreeHead) -> None:
        """Make ``sth``, which must fit what is there, the largest head shown; durable on return."""
        durable_write(self.path, Checkpoint(sth).data)
