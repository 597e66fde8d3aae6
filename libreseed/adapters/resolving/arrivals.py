"""Chunks of finished pieces on their way to a verdict: how many go to a thread at once, and what the thread does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.chunks.stripe_io import write_at
from libreseed.resolve.journal import Kind

__all__ = ["portion", "put_whole", "read_at", "verify_batch"]

_BATCH_CHUNKS = 1638  # about 8 MiB: what one trip to a thread hashes at most

Runs = list[tuple[Kind, range]]


def portion(pending: Runs) -> tuple[Runs, Runs]:
    """The runs for one trip to a thread, and the rest."""
    chunks = 0
    for index, (_, run) in enumerate(pending):
        chunks += len(run)
        if chunks >= _BATCH_CHUNKS:
            return pending[: index + 1], pending[index + 1 :]
    return pending, []


def verify_batch(store: ChunkStore, batch: Sequence[tuple[Kind, range]]) -> list[tuple[Kind, range, bytearray]]:
    """Judge every run by what is on the disk; blocks."""
    data = iter(store.verify_data_runs([run for kind, run in batch if kind is Kind.DATA]))
    return [(kind, run, next(data) if kind is Kind.DATA else store.verify_parity(run)) for kind, run in batch]


def put_whole(path: Path, data: bytes) -> None:
    """Write a verified file over what is there, which is never shorter meanwhile: the session may have the same bytes
    in place already, and somebody may be reading them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        write_at(descriptor, data, 0)
    finally:
        os.close(descriptor)


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Some bytes of a file; blocks."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
