"""A file that somebody still writes, read from its start: a read waits until the bytes it wants may be believed."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from libreseed.ids import Sha256Digest

__all__ = ["GrowingFile", "Stopped"]


class Stopped(Exception):
    """The reader of a :class:`GrowingFile` was told that there is no use in going on."""


class GrowingFile:
    """``size`` bytes at ``path``: read in one thread, grown in others. Enter its context in the reading thread.

    A file that is shorter on the disk than it was said to be ends there.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._at = 0
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()  # guards the two below
        self._end = 0
        self._stopped = False

    def __enter__(self) -> Self:
        self._file = self._path.open("rb", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def grow(self, end: int) -> None:
        """All bytes before ``end`` may be read."""
        with self._changed:
            self._end = max(self._end, min(end, self._size))
            self._changed.notify_all()

    def stop(self) -> None:
        """Whoever reads, now or later, gets :class:`Stopped`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def read(self, size: int, /) -> bytes:
        """At most ``size`` of the bytes that follow, empty at the end; waits for the first of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._end > self._at or self._at == self._size)
            if self._stopped:
                raise Stopped
            size = min(size, self._end - self._at)
        data: bytes = self._file.read(size)
        self._at += len(data)
        self._hash.update(data)
        return data

    def sha256(self) -> Sha256Digest:
        """Of the bytes that were given so far. Ask when nobody reads."""
        return Sha256Digest(self._hash.digest())
