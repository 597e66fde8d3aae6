"""Matrix products over GF(2^8) by Intel's ISA-L, where its shared library can be found.

zfec defines the code (section 3.6); ISA-L computes the same products some fifty times as fast, because it works in the
same field (polynomial 0x11d). The library is the one inside the ``pyeclib`` wheel, or the system's. Before it is used,
it must multiply every byte by every other as zfec does; if it does not, or is absent, :func:`load_isal` gives ``None``
and zfec does the work, with equal results. Calls release the interpreter lock. Nothing here knows of stripes.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Isal", "Product", "load_isal"]

_CHECK_K, _CHECK_M = 64, 32  # a stripe whose coefficients are all bytes but 0
_SYSTEM_LIBRARY = "libisal.so.2"  # ISA-L 2.x keeps this ABI


class Isal:
    """The functions that are used, with their C signatures; raises ``OSError`` or ``AttributeError`` without them."""

    def __init__(self, library: str) -> None:
        self.library = library
        loaded = ctypes.CDLL(library)
        self._init_tables: Any = loaded.ec_init_tables
        self._init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p]
        self._init_tables.restype = None
        self._encode: Any = loaded.ec_encode_data
        self._encode.argtypes = [ctypes.c_int] * 3 + [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
        self._encode.restype = None
        self._invert: Any = loaded.gf_invert_matrix
        self._invert.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        self._invert.restype = ctypes.c_int

    def product(self, matrix: bytes, columns: int) -> Product:
        """Prepare a product with ``matrix``, row by row, of ``columns`` bytes per row."""
        rows = len(matrix) // columns
        tables = ctypes.create_string_buffer(32 * len(matrix))
        self._init_tables(columns, rows, matrix, tables)
        return Product(self._encode, tables, rows, columns)

    def inverse(self, matrix: bytes, order: int) -> bytes:
        """The inverse of a square matrix; raises ``ValueError`` if it has none."""
        result = ctypes.create_string_buffer(order * order)
        if self._invert(ctypes.create_string_buffer(matrix, order * order), result, order):
            raise ValueError("the matrix has no inverse")
        return result.raw


class Product:
    """``output[r] = sum of matrix[r][c] * source[c]`` for each byte position; safe to use from several threads."""

    __slots__ = ("_encode", "_tables", "columns", "rows")

    def __init__(self, encode: Any, tables: Any, rows: int, columns: int) -> None:
        self._encode = encode
        self._tables = tables
        self.rows = rows
        self.columns = columns

    def into(self, source: Buffer, output: Buffer) -> None:
        """Multiply the ``columns`` equal blocks in ``source`` into ``rows`` blocks in ``output``; both are writable."""
        source_view, output_view = memoryview(source).cast("B"), memoryview(output).cast("B")
        length, rest = divmod(len(source_view), self.columns)
        if rest or not length or len(output_view) != length * self.rows:
            raise ValueError(f"{len(source_view)} and {len(output_view)} bytes do not fit the matrix")
        # The two exports keep the buffers in place while C uses their addresses.
        source_export = ctypes.c_char.from_buffer(source_view)
        output_export = ctypes.c_char.from_buffer(output_view)
        sources = _addresses(ctypes.addressof(source_export), self.columns, length)
        outputs = _addresses(ctypes.addressof(output_export), self.rows, length)
        self._encode(length, self.columns, self.rows, self._tables, sources, outputs)


@lru_cache(maxsize=1)
def load_isal() -> Isal | None:
    """ISA-L, or ``None`` where there is none that agrees with zfec."""
    for library in _candidates():
        try:
            found = Isal(library)
        except (OSError, AttributeError):
            continue  # absent, for another machine, or without these functions
        if _agrees_with_zfec(found):
            return found
    return None


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec("pyeclib")
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from map(str, sorted(Path(place).parent.glob("pyeclib.libs/libisal*.so*")))
    yield _SYSTEM_LIBRARY


def _addresses(base: int, count: int, length: int) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * count)(*range(base, base + count * length, length))


def _agrees_with_zfec(isal: Isal) -> bool:
    """Whether every product of two bytes comes out as in zfec: all coefficients but 0 occur, each with all bytes."""
    from zfec import Encoder

    code, parity = Encoder(_CHECK_K, _CHECK_K + _CHECK_M), tuple(range(_CHECK_K, _CHECK_K + _CHECK_M))
    unit = [bytes(row == column for column in range(_CHECK_K)) for row in range(_CHECK_K)]
    matrix = b"".join(code.encode(unit, parity))
    blocks = [bytes(range(at, 256)) + bytes(range(at)) for at in range(_CHECK_K)]
    output = bytearray(_CHECK_M * 256)
    isal.product(matrix, _CHECK_K).into(bytearray().join(blocks), output)
    return len(set(matrix)) == 255 and bytes(output) == b"".join(code.encode(blocks, parity))
