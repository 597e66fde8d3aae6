"""Judges runs of chunks on disk against their digests, with one buffer for all runs of a trip to a thread.

Apart from :mod:`libreseed.adapters.chunks.stripe_repair`, which a download that arrives whole never needs. Blocks;
reads only. Section 3.6 of the specification.
"""

from __future__ import annotations

import os

from libreseed import limits
from libreseed.repair.chunkmap import digests_of, unlike

__all__ = ["ChunkRunReader", "flags_of", "read_at"]

_CHUNK = limits.CHUNK_BYTES
_PORTION_BYTES = 256 * _CHUNK  # what one read takes


class ChunkRunReader:
    """Reads from one descriptor (-1: a missing file); one thread owns it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = memoryview(bytearray(_PORTION_BYTES))
        self._places = [self._memory[at : at + _CHUNK] for at in range(0, _PORTION_BYTES, _CHUNK)]

    def judge(self, offset: int, length: int, expected: bytes) -> bytearray:
        """One byte per chunk of ``length`` bytes at ``offset``: 1 if its BLAKE3 is the one in ``expected``, else 0
        (missing bytes too)."""
        flags = bytearray()
        for at in range(0, length, _PORTION_BYTES):
            portion = self._memory[: min(_PORTION_BYTES, length - at)]
            got = read_at(self._descriptor, portion, offset + at)
            whole, rest = divmod(got, _CHUNK)
            chunks = self._places[:whole]
            if rest:
                chunks.append(self._memory[whole * _CHUNK : got])
            wanted = expected[32 * len(flags) : 32 * (len(flags) + -(-len(portion) // _CHUNK))]
            flags += flags_of(digests_of(chunks), wanted)
        return flags


def flags_of(actual: bytes, expected: bytes) -> bytearray:
    """One byte per digest of ``expected``: 1 where ``actual`` has the same, else 0."""
    flags = bytearray(b"\1") * (len(expected) // 32)
    for at in unlike(actual, expected):
        flags[at] = 0
    return flags


def read_at(descriptor: int, memory: memoryview, offset: int) -> int:
    """Fill ``memory`` from ``offset`` on; returns how many bytes the file had (a descriptor of -1: none)."""
    if descriptor < 0:
        return 0
    got = 0
    while got < len(memory) and (more := os.preadv(descriptor, [memory[got:]], offset + got)):
        got += more
    return got
