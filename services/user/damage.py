"""Damage on purpose, for the demo: rot in a seeder's file, as a bad disk makes it, and its limits.

Positions are drawn from a seed, so a run can be repeated. It changes files in place behind their owner's back.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable
from pathlib import Path

from libreseed.limits import CHUNK_BYTES
from libreseed.repair.grid import ChunkGrid

__all__ = ["flip_chunks", "same_trees", "scattered", "too_many"]


def scattered(grid: ChunkGrid, parity_rows: int, seed: int) -> list[int]:
    """Chunks to lose so that each stripe loses all but one of the rows that parity can replace (at least one)."""
    draw, lost = random.Random(seed), []  # noqa: S311  # repeatable, guards nothing
    for stripe in range(grid.s):
        members = grid.chunks_of(stripe)
        lost += draw.sample(members, min(len(members), max(1, parity_rows - 1)))
    return sorted(lost)


def too_many(grid: ChunkGrid, parity_rows: int) -> list[int]:
    """One chunk more of stripe 0 than parity can replace."""
    return list(grid.chunks_of(0))[: parity_rows + 1]


def flip_chunks(path: Path, chunks: Iterable[int], seed: int) -> None:
    """Flip one bit in each of ``chunks`` of the file, and keep its time stamps, as rot does."""
    draw, before = random.Random(seed), path.stat()  # noqa: S311  # repeatable, guards nothing
    with path.open("r+b") as file:
        for chunk in chunks:
            length = min(CHUNK_BYTES, before.st_size - chunk * CHUNK_BYTES)
            place = chunk * CHUNK_BYTES + draw.randrange(length)
            file.seek(place)
            byte = file.read(1)[0] ^ (1 << draw.randrange(8))
            file.seek(place)
            file.write(bytes([byte]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def same_trees(one: Path, other: Path, *, ignore: frozenset[str]) -> bool:
    """Whether both hold the same regular files with the same bytes and x bits; paths in ``ignore`` do not count."""
    return _fingerprint(one, ignore) == _fingerprint(other, ignore)


def _fingerprint(root: Path, ignore: frozenset[str]) -> dict[str, tuple[str, bool]]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and name not in ignore:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[name] = (digest, bool(path.stat().st_mode & 0o100))
    return found
