"""Strict, bounded bencoding (BEP 3) for torrents and KRPC: the one place that imports ``bencode2``.

``bencode2`` refuses unsorted and duplicate keys, leading zeros, trailing bytes and deep nesting; what it lacks is one
declared error and a size bound. Texts are bytes here, never ``str``.
"""

from __future__ import annotations

from typing import Any

from bencode2 import BencodeDecodeError, bdecode
from bencode2 import bencode as _bencode

from libreseed.errors import Malformed

__all__ = ["BencodeValue", "decode", "encode"]

BencodeValue = Any  # bytes | int | list[BencodeValue] | dict[bytes, BencodeValue]


def decode(data: bytes, *, max_bytes: int) -> BencodeValue:
    """Read one bencoded value of at most ``max_bytes`` bytes; raises :class:`Malformed` for anything else."""
    if len(data) > max_bytes:
        raise Malformed("encoding.too-large", f"{len(data)} bytes of bencoding where at most {max_bytes} are allowed")
    try:
        return bdecode(data)
    except (BencodeDecodeError, ValueError) as error:  # ValueError: an integer of more than 4300 digits
        raise Malformed("encoding.bencode", f"not bencoding: {error}") from error


def encode(value: BencodeValue) -> bytes:
    """The canonical bencoding of ``value`` (bytes, int, list, dict with bytes keys)."""
    return bytes(_bencode(value))
