"""Node ids that follow from an IP address (BEP 42): made for ourselves, preferred in others, demanded of nobody.

An attacker with few addresses then gets few ids near a key. Loopback and private addresses are exempt, as BEP 42 says.
Specification: ``docs/specification/dht.md``, "Node ids".
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from libreseed.dht.addresses import ID_BYTES, Scope, scope_of

__all__ = ["follows_address", "id_for_address"]

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
_MASK4 = bytes.fromhex("030f3fff")
_MASK6 = bytes.fromhex("0103070f1f3f7fff")


def id_for_address(host: str, entropy: bytes) -> bytes:
    """A node id for ``host`` out of 20 bytes of ``entropy``; where BEP 42 does not apply, these bytes themselves."""
    if len(entropy) != ID_BYTES:
        raise AssertionError("an id needs 20 bytes of entropy")
    if scope_of(host) is not Scope.GLOBAL:
        return entropy
    crc = _crc_of(host, entropy[19] & 7)
    head = crc.to_bytes(4, "big")
    return head[:2] + bytes([head[2] & 0xF8 | entropy[2] & 7]) + entropy[3:]


def follows_address(node_id: bytes, host: str) -> bool:
    """Whether ``node_id`` fits ``host``; true of any id where BEP 42 does not apply. A preference, not a check."""
    if scope_of(host) is not Scope.GLOBAL:
        return True
    head = _crc_of(host, node_id[19] & 7).to_bytes(4, "big")
    return node_id[:2] == head[:2] and node_id[2] & 0xF8 == head[2] & 0xF8


@lru_cache(maxsize=4096)
def _crc_of(host: str, rand: int) -> int:
    packed = ip_address(host).packed
    masked = bytearray(a & b for a, b in zip(packed, _MASK4 if len(packed) == 4 else _MASK6, strict=False))
    masked[0] |= rand << 5
    return _crc32c(bytes(masked))


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
