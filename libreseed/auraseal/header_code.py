"""The recovery bits of a part's header: Reed-Solomon (208, 144) as ``reedsolo.RSCodec(64)`` computes it (section 3.9).

``reedsolo`` is the definition and corrects damaged headers. It works byte by byte in Python, so what every part needs,
making and comparing recovery bits, is done for many headers at once by a product over GF(2^8) whose coefficients are
read out of ``reedsolo``: the remainder of ``x**64``, and from it, as in a shift register, those of all higher powers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from libreseed.errors import ContentRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CORRECTABLE", "RECOVERY_BYTES", "correct", "recovery_bits"]

_COVERED = 144
RECOVERY_BYTES = 64
CORRECTABLE = RECOVERY_BYTES // 2


@lru_cache(maxsize=1)
def _codec() -> Any:
    from reedsolo import RSCodec

    return RSCodec(RECOVERY_BYTES)


@lru_cache(maxsize=1)
def _products() -> NDArray[np.uint8]:
    """(144, 256, 64): what each value at each place adds to the recovery bits."""
    codec = _codec()
    log = np.array(codec.gf_log, np.intp)
    exp = np.array(codec.gf_exp, np.uint8)
    factor: NDArray[Any] = exp[log[:, None] + log]
    factor[0, :] = factor[:, 0] = 0
    tail = np.frombuffer(codec.encode(bytes([1])), np.uint8)[1:]  # the remainder of x**64
    row = tail
    rows = np.empty((_COVERED, RECOVERY_BYTES), np.uint8)
    for place in reversed(range(_COVERED)):
        rows[place] = row
        row = np.append(row[1:], np.uint8(0)) ^ factor[row[0]][tail]
    return factor[:, rows].transpose(1, 0, 2).copy()


def recovery_bits(headers: Sequence[bytes]) -> list[bytes]:
    """The 64 recovery bytes of each of ``headers``, by their first 144 bytes."""
    products, places = _products(), np.arange(_COVERED)
    return [
        np.bitwise_xor.reduce(products[places, np.frombuffer(header, np.uint8, _COVERED)], axis=0).tobytes()
        for header in headers
    ]


def correct(covered: bytes) -> bytes:
    """The nearest of all right headers: 208 bytes with at most 32 of them corrected.

    Raises :class:`ContentRejected` (``auraseal.part-header``) where more are wrong. More wrong bytes may also lead to
    another header than the original: the checksums decide.
    """
    from reedsolo import ReedSolomonError

    try:
        return bytes(_codec().decode(covered)[1])
    except (ReedSolomonError, ZeroDivisionError) as error:
        raise ContentRejected(
            "auraseal.part-header", f"more than {CORRECTABLE} bytes of the header are wrong"
        ) from error
