"""Opens files that nobody vouches for: regular ones only, never waiting for a pipe; reads small ones within a bound."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import NotFound

__all__ = ["opened_regular", "read_bounded"]


def read_bounded(path: Path, most: int) -> bytes:
    """The content of ``path``, cut after ``most + 1`` bytes, which every parser with that bound refuses as too large.

    Raises :class:`NotFound` when there is no regular file, and what ``oserrors`` makes of the rest. Links are followed.
    """
    with opened_regular(path) as (descriptor, size):
        try:
            return _read(descriptor, min(most + 1, size + 1))
        except OSError as error:
            raise from_oserror(error, f"reading {path}") from error


@contextmanager
def opened_regular(path: Path) -> Iterator[tuple[int, int]]:
    """A descriptor of the regular file ``path``, and its size now; raises as :func:`read_bounded`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise from_oserror(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound("notfound.file", f"{path} is not a regular file")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _read(descriptor: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(descriptor, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
