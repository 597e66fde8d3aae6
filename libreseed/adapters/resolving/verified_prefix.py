"""The verified bytes from the start of a .tgz: hashed for step 7 while the rest arrives, and told to who wants them.

``docs/specification/resolver.md``, "Fetch".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.files.prefix_hash import PrefixHash
from libreseed.ids import Sha256Digest
from libreseed.resolve.fetch_plan import FetchPlan

__all__ = ["VerifiedPrefix"]

_STEP_BYTES = 4 * 2**20  # of verified prefix that are worth a trip to a thread


class VerifiedPrefix:
    """Of the .tgz of ``plan`` at ``path``; ``follower`` is called with how long it is, each time it is longer."""

    def __init__(self, plan: FetchPlan, path: Path, follower: Callable[[int], None] | None) -> None:
        self._plan = plan
        self._path = path
        self._follower = follower
        self._size = plan.layout.tgz.size
        self._hash = PrefixHash(path, self._size)
        self._news = trio.Event()

    def look(self) -> None:
        """Chunks were verified."""
        self._news.set()

    async def run(self) -> None:
        """Hash along until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            missing = self._plan.verified.data.find(0)
            end = self._size if missing < 0 else missing * limits.CHUNK_BYTES
            if end - self._hash.done >= _STEP_BYTES or missing < 0:
                if self._follower is not None:
                    self._follower(end)
                await trio.to_thread.run_sync(self._hash.advance, end)

    def forget(self) -> None:
        """What was verified may have changed since: hash from the start."""
        self._hash = PrefixHash(self._path, self._size)

    async def sha256(self) -> Sha256Digest | None:
        """Of the whole, all of which was verified; None if it was cut off since."""
        await trio.to_thread.run_sync(self._hash.advance, self._size)
        return self._hash.digest()
