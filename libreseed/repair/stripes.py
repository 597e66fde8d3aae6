"""Systematic Reed-Solomon over GF(2^8) as zfec computes it (section 3.6), for one stripe of equal blocks.

Share numbers ``0..k-1`` are data, ``k..k+m-1`` parity. A stripe's blocks lie end to end in one writable buffer.
Decoding trusts its input: only verified blocks may be given to it, and its output must be verified again. There are two
coders with equal results: :class:`ZfecCoder` defines the code, :class:`IsalCoder` is fast; :func:`stripe_coder` picks.
Both release the interpreter lock while they code, and any number of threads may use one coder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from libreseed import limits
from libreseed.repair.galois import Isal, load_isal

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["IsalCoder", "StripeCoder", "ZfecCoder", "choose_shares", "decode_rows", "encode_rows", "stripe_coder"]


class StripeCoder(Protocol):
    """What both coders do, for stripes of ``k`` data and ``m`` parity blocks."""

    k: int
    m: int

    def encode_into(self, data: Buffer, parity: Buffer) -> None:
        """Write the ``m`` parity blocks of the ``k`` data blocks in ``data`` to ``parity``."""

    def decode(self, blocks: Buffer, numbers: Sequence[int]) -> bytearray:
        """The data blocks that are missing, end to end, in order of their rows.

        ``blocks`` holds ``k`` blocks; the one in place ``i`` is share ``numbers[i]``, which is ``i`` itself or, where
        row ``i`` is missing, a parity share. Raises ``ValueError`` for other numbers.
        """


class ZfecCoder:
    """The code itself, by zfec."""

    def __init__(self, k: int, m: int) -> None:
        from zfec import Decoder, Encoder

        _check_shape(k, m)
        self.k = k
        self.m = m
        self._encoder = Encoder(k, k + m)
        self._decoder = Decoder(k, k + m)

    def encode_into(self, data: Buffer, parity: Buffer) -> None:
        """See :class:`StripeCoder`."""
        numbers = tuple(range(self.k, self.k + self.m))
        memoryview(parity).cast("B")[:] = b"".join(self._encoder.encode(self._blocks(data), numbers))

    def decode(self, blocks: Buffer, numbers: Sequence[int]) -> bytearray:
        """See :class:`StripeCoder`."""
        missing = _missing(self.k, self.m, numbers)
        if not missing:
            return bytearray()
        decoded = self._decoder.decode(self._blocks(blocks), tuple(numbers))
        return bytearray().join(decoded[row] for row in missing)

    def matrix(self) -> bytes:
        """The ``m`` rows of ``k`` coefficients that make parity from data."""
        unit = [bytes(row == column for column in range(self.k)) for row in range(self.k)]
        return b"".join(self._encoder.encode(unit, tuple(range(self.k, self.k + self.m))))

    def _blocks(self, data: Buffer) -> tuple[memoryview, ...]:
        view = memoryview(data).cast("B")
        length, rest = divmod(len(view), self.k)
        if rest:
            raise ValueError(f"{len(view)} bytes are not {self.k} equal blocks")
        return tuple(view[at : at + length] for at in range(0, len(view), length))


class IsalCoder:
    """The same code by ISA-L: its coefficients come from zfec, so its results do too."""

    def __init__(self, k: int, m: int, isal: Isal) -> None:
        self.k = k
        self.m = m
        self._isal = isal
        self._matrix = ZfecCoder(k, m).matrix()
        self._encode = isal.product(self._matrix, k)

    def encode_into(self, data: Buffer, parity: Buffer) -> None:
        """See :class:`StripeCoder`."""
        self._encode.into(data, parity)

    def decode(self, blocks: Buffer, numbers: Sequence[int]) -> bytearray:
        """See :class:`StripeCoder`.

        Let P = A*lost + B*present be the parity used. Then lost = inverse(A) * (P - B*present), which is one product
        of the blocks as they lie, with parity in the places of the lost rows: coefficients inverse(A) * [1 | B].
        """
        missing = _missing(self.k, self.m, numbers)
        if not missing:
            return bytearray()
        k, count = self.k, len(missing)
        known = bytearray()  # [1 | B]
        lost = bytearray()  # A
        for place in missing:
            start = (numbers[place] - k) * k
            row = bytearray(self._matrix[start : start + k])
            lost += bytes(row[column] for column in missing)
            for column in missing:
                row[column] = column == place
            known += row
        coefficients = bytearray(count * k)
        self._isal.product(self._isal.inverse(bytes(lost), count), count).into(known, coefficients)
        result = bytearray(len(memoryview(blocks).cast("B")) // k * count)
        self._isal.product(bytes(coefficients), k).into(blocks, result)
        return result


@lru_cache(maxsize=16)
def stripe_coder(k: int, m: int) -> StripeCoder:
    """The fastest coder that this machine has for ``k + m`` shares."""
    isal = load_isal()
    return ZfecCoder(k, m) if isal is None else IsalCoder(k, m, isal)


def encode_rows(rows: Sequence[Buffer], m: int) -> list[bytes]:
    """The ``m`` parity blocks of ``len(rows)`` data blocks of equal length: for single stripes, with copies."""
    data = bytearray().join(rows)
    parity = bytearray(len(data) // len(rows) * m)
    stripe_coder(len(rows), m).encode_into(data, parity)
    length = len(parity) // m
    return [bytes(parity[at * length : (at + 1) * length]) for at in range(m)]


def decode_rows(k: int, m: int, shares: Mapping[int, Buffer]) -> dict[int, bytes]:
    """The data blocks that ``shares`` (share number -> block, all of equal length) lacks, by row, with copies.

    Raises ``ValueError`` for fewer than ``k`` shares. More are no gain: parity with the lowest numbers is used.
    """
    numbers = choose_shares(k, shares)
    missing = [row for row in range(k) if row not in shares]
    decoded = stripe_coder(k, m).decode(bytearray().join(shares[number] for number in numbers), numbers)
    length = len(decoded) // max(1, len(missing))
    return {row: bytes(decoded[at * length : (at + 1) * length]) for at, row in enumerate(missing)}


def choose_shares(k: int, available: Mapping[int, object] | set[int]) -> tuple[int, ...]:
    """Which share goes to which place for decoding; raises ``ValueError`` if fewer than ``k`` are available."""
    spare = iter(sorted(share for share in available if share >= k))
    try:
        return tuple(row if row in available else next(spare) for row in range(k))
    except (StopIteration, RuntimeError) as error:
        raise ValueError(f"{len(available)} shares where {k} are needed") from error


def _check_shape(k: int, m: int) -> None:
    if k < 1 or m < 1 or k + m > limits.STRIPE_ROWS:
        raise ValueError(f"no stripe has {k} + {m} rows")


def _missing(k: int, m: int, numbers: Sequence[int]) -> list[int]:
    missing = [place for place, number in enumerate(numbers) if number != place]
    spare = {numbers[place] for place in missing}
    if len(numbers) != k or len(spare) != len(missing) or not spare <= set(range(k, k + m)):
        raise ValueError(f"these shares cannot stand for {k} rows")
    return missing
