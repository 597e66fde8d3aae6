"""Hashes the files of a tree by threads: SHA-256 for the manifest, BLAKE3 for SRC, in one reading.

While a file is read its identity must stay what the walk saw (``tree.changed``). The head of each file is judged for
private keys, which have no place in a package (``tree.secret``). Memory: one buffer per thread.
Specification: ``package.md``, 6.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from libreseed.adapters.packing.gzip_stream import default_threads
from libreseed.adapters.packing.tree_walk import FoundFile, Identity, open_root, reading
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, Sha256Digest
from libreseed.keys.lookalike import HEAD_BYTES, private_key_kind

__all__ = ["FileHashes", "hash_files", "read_file", "refuse_secret"]

_READ_BYTES = 512 * 2**10
_BATCH_FILES = 128
_BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Both hashes of a file's content."""

    sha256: Sha256Digest
    blake3: Blake3Digest


def hash_files(
    root: Path,
    files: Sequence[FoundFile],
    *,
    allow_secrets: bool,
    threads: int | None,
    progress: Callable[[int], None] | None,
) -> list[FileHashes]:
    """The hashes of ``files`` in their order; raises the first error in that order, whatever the threads do."""
    threads = threads or default_threads()
    results: list[FileHashes] = []
    flying: deque[Future[list[FileHashes]]] = deque()
    descriptor = open_root(root)

    def land() -> None:
        batch = flying.popleft().result()
        if progress is not None:
            progress(sum(file.size for file in files[len(results) : len(results) + len(batch)]))
        results.extend(batch)

    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        try:
            for batch in _batches(files):
                if len(flying) >= 4 * threads:
                    land()
                flying.append(pool.submit(_hash_batch, descriptor, batch, allow_secrets))
            while flying:
                land()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            os.close(descriptor)
    return results


def read_file(root: int, file: FoundFile, room: Callable[[], memoryview], take: Callable[[memoryview], None]) -> None:
    """Read ``file`` below the open folder ``root``, piece by piece, into what ``room`` gives; ``take`` gets each piece.

    Raises :class:`ContentRejected` (``tree.changed``, ``tree.unreadable``) unless it is the file that was found.
    """
    with reading(file.path):
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    try:
        _check_identity(descriptor, file)
        left = file.size
        while left:
            buffer = room()[:left]
            with reading(file.path):
                count = os.readv(descriptor, [buffer])
            if not count:
                raise _changed(file)
            take(buffer[:count])
            left -= count
        _check_identity(descriptor, file)
    finally:
        os.close(descriptor)


def _batches(files: Sequence[FoundFile]) -> Iterator[list[FoundFile]]:
    batch: list[FoundFile] = []
    weight = 0
    for file in files:
        batch.append(file)
        weight += file.size
        if len(batch) == _BATCH_FILES or weight >= _BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _hash_batch(root: int, files: list[FoundFile], allow_secrets: bool) -> list[FileHashes]:
    buffer = memoryview(bytearray(min(_READ_BYTES, max(HEAD_BYTES, *(file.size for file in files), 1))))
    return [_hash_file(root, file, buffer, allow_secrets) for file in files]


def _hash_file(root: int, file: FoundFile, buffer: memoryview, allow_secrets: bool) -> FileHashes:
    sha, blake = hashlib.sha256(), blake3()
    head_judged = allow_secrets

    def take(piece: memoryview) -> None:
        nonlocal head_judged
        if not head_judged:
            head_judged = True
            refuse_secret(file, bytes(piece[:HEAD_BYTES]))
        sha.update(piece)
        blake.update(piece)

    read_file(root, file, lambda: buffer, take)
    return FileHashes(Sha256Digest(sha.digest()), Blake3Digest(blake.digest()))


def refuse_secret(file: FoundFile, head: bytes) -> None:
    """Raise ``tree.secret`` if a file with these first 64 KiB looks like a private key."""
    if kind := private_key_kind(file.path.rpartition("/")[2], head):
        message = f"{file.path!r} looks like a private key ({kind})"
        raise ContentRejected("tree.secret", message, evidence={"path": file.path})


def _check_identity(descriptor: int, file: FoundFile) -> None:
    if Identity.of(os.fstat(descriptor)) != file.identity:
        raise _changed(file)


def _changed(file: FoundFile) -> ContentRejected:
    message = f"{file.path!r} changed while the tree was read"
    return ContentRejected("tree.changed", message, evidence={"path": file.path})
