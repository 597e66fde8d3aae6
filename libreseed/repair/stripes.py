"""Systematic Reed-Solomon over GF(2^8) as zfec computes it (section 3.6), on blocks of any equal length.

The code works on each byte position by itself. So one call can treat many neighbouring stripes at once: row ``r`` of
stripes ``a..b`` is one run of the file, and the result is the same as stripe by stripe. Share numbers ``0..k-1`` are
data, ``k..k+m-1`` parity. Decoding trusts its input: only verified blocks may be given to it, and its output must be
verified again. zfec releases the interpreter lock while it codes; threads are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["decode_rows", "encode_rows"]


def encode_rows(rows: Sequence[Buffer], m: int) -> list[bytes]:
    """The ``m`` parity blocks of ``k = len(rows)`` data blocks of equal length."""
    k = len(rows)
    parity: list[bytes] = _encoder(k, k + m).encode(tuple(rows), tuple(range(k, k + m)))
    return parity


def decode_rows(k: int, m: int, shares: Mapping[int, Buffer]) -> dict[int, bytes]:
    """The data blocks that ``shares`` (share number -> block, all of equal length) lacks, by row.

    Raises ``ValueError`` for fewer than ``k`` shares. More are no gain: parity with the lowest numbers is used.
    """
    missing = [row for row in range(k) if row not in shares]
    if not missing:
        return {}
    spare = [share for share in sorted(shares) if share >= k][: len(missing)]
    if len(spare) < len(missing):
        raise ValueError(f"{len(shares)} shares where {k} are needed")
    # zfec wants data block i in place i, and parity in the places of the missing ones.
    stand_in = dict(zip(missing, spare, strict=True))
    numbers = tuple(stand_in.get(row, row) for row in range(k))
    decoded: list[bytes] = _decoder(k, k + m).decode(tuple(shares[number] for number in numbers), numbers)
    return {row: bytes(decoded[row]) for row in missing}


@lru_cache(maxsize=16)
def _encoder(k: int, total: int) -> Any:
    from zfec import Encoder

    return Encoder(k, total)


@lru_cache(maxsize=16)
def _decoder(k: int, total: int) -> Any:
    from zfec import Decoder

    return Decoder(k, total)
