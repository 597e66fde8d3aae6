"""SHA-256 of a file that is still growing: the verified prefix is hashed while the rest arrives (step 7).

The result is only a saving: what counts is compared with the signed infohash, and whoever finds a difference hashes the
file again. Blocks; one thread at a time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from libreseed.ids import Sha256Digest

__all__ = ["PrefixHash"]

_READ_BYTES = 2**20


class PrefixHash:
    """Owned by one task, which lends it to one thread at a time."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._done = 0
        self._hash = hashlib.sha256()
        self._memory = memoryview(b"")

    @property
    def done(self) -> int:
        """How many bytes from the start are hashed."""
        return self._done

    def advance(self, end: int) -> None:
        """Hash up to byte ``end``, which the caller has verified."""
        end = min(end, self._size)
        if end > self._done and not self._memory:
            self._memory = memoryview(bytearray(min(_READ_BYTES, self._size)))
        memory = self._memory
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._done)
            while self._done < end:
                count = file.readinto(memory[: end - self._done])
                if not count:
                    return  # cut off behind our back: the result will differ
                self._hash.update(memory[:count])
                self._done += count

    def digest(self) -> Sha256Digest | None:
        """The SHA-256 of the whole file, None while bytes are missing."""
        return Sha256Digest(self._hash.digest()) if self._done == self._size else None
