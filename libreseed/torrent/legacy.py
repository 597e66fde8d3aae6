"""The v1 info-hash that a client arrives at which drops members with an empty name (aria2 before 1.37).

BEP 52 puts each file's properties under the empty name in ``file tree``. Such a client decodes ``info``, loses these
members, encodes the rest anew and hashes that. It then asks trackers, the DHT and peers for a torrent that nobody has.
"""

from __future__ import annotations

import hashlib

from libreseed import bencode, limits

__all__ = ["hash_without_empty_names"]


def hash_without_empty_names(info: bytes) -> bytes:
    """The 20 bytes for a verified info dictionary; raises :class:`Malformed` if it is no bencoding."""
    members = bencode.decode(info, max_bytes=limits.METAINFO_BYTES)
    left = bencode.encode(_without_empty_names(members))
    return hashlib.sha1(left, usedforsecurity=False).digest()


def _without_empty_names(value: bencode.BencodeValue) -> bencode.BencodeValue:
    if isinstance(value, dict):
        return {name: _without_empty_names(member) for name, member in value.items() if name}
    if isinstance(value, list):
        return [_without_empty_names(member) for member in value]
    return value
