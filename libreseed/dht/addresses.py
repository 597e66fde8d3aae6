"""Endpoints and node contacts as KRPC carries them: compact forms, families, scopes, prefixes (BEP 5, BEP 32).

An endpoint is ``(host, port)`` with a numeric host; names never get this far, and nothing here resolves one. Contacts
come from strangers, so reading drops what could not be a node (port 0, multicast, unspecified) and
:func:`may_name` keeps an answer from pointing inward: a node out there cannot send us into this machine or this LAN.

Specification: ``docs/specification/dht.md``, "Addresses".
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from libreseed.errors import Malformed

__all__ = [
    "ID_BYTES",
    "Endpoint",
    "NodeInfo",
    "Scope",
    "family_of",
    "may_name",
    "pack_endpoint",
    "pack_node",
    "prefix_of",
    "scope_of",
    "source_of",
    "unpack_endpoint",
    "unpack_nodes",
]

ID_BYTES = 20
Endpoint = tuple[str, int]


class NodeInfo(NamedTuple):
    """A node as an answer names it: 20 bytes of id and where it is said to be."""

    node_id: bytes
    endpoint: Endpoint


class Scope(IntEnum):
    """How far an address reaches; a node may name contacts of its own scope or a wider one."""

    UNUSABLE = 0
    LOOPBACK = 1
    LOCAL = 2
    GLOBAL = 3


def family_of(host: str) -> int:
    """4 or 6."""
    return 6 if ":" in host else 4


@lru_cache(maxsize=8192)
def scope_of(host: str) -> Scope:
    """The scope of a numeric address; anything that is none is ``UNUSABLE``."""
    try:
        address = ip_address(host)
    except ValueError:
        return Scope.UNUSABLE
    if address.is_unspecified or address.is_multicast or (isinstance(address, IPv6Address) and address.ipv4_mapped):
        return Scope.UNUSABLE
    if address.is_loopback:
        return Scope.LOOPBACK
    packed = address.packed
    if len(packed) == 4:
        first, second = packed[0], packed[1]
        if first == 0 or first >= 240:  # "this network" and the reserved class E, broadcast included
            return Scope.UNUSABLE
        local = (
            first == 10
            or (first == 172 and 16 <= second < 32)
            or (first == 192 and second == 168)
            or (first == 169 and second == 254)
            or (first == 100 and 64 <= second < 128)
        )
    else:
        local = packed[0] & 0xFE == 0xFC or (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80)
    return Scope.LOCAL if local else Scope.GLOBAL


def may_name(speaker: Endpoint, named: Endpoint) -> bool:
    """Whether ``speaker``'s answer may lead us to ``named``: only outward or within its own scope."""
    scope = scope_of(named[0])
    return scope is not Scope.UNUSABLE and 0 < named[1] < 65536 and scope >= scope_of(speaker[0])


@lru_cache(maxsize=8192)
def prefix_of(host: str) -> str | None:
    """The /24 or /64 that counts as one holder of nodes; ``None`` on loopback, where every node is ours."""
    if scope_of(host) is Scope.LOOPBACK:
        return None
    if ":" in host:
        return IPv6Address(host).packed[:8].hex()
    return host.rpartition(".")[0]


def source_of(endpoint: Endpoint) -> str:
    """To whom a share or a rate is counted: an IPv4 address, an IPv6 /64; on loopback each port is its own."""
    host, port = endpoint
    if scope_of(host) is Scope.LOOPBACK:
        return f"{host}:{port}"
    return prefix_of(host) or host if ":" in host else host


def pack_endpoint(endpoint: Endpoint) -> bytes:
    """6 bytes (IPv4) or 18 bytes (IPv6): address and port, big-endian."""
    host, port = endpoint
    if ":" in host:
        return IPv6Address(host).packed + port.to_bytes(2, "big")
    return bytes(map(int, host.split("."))) + port.to_bytes(2, "big")


def unpack_endpoint(data: bytes) -> Endpoint:
    """The endpoint of 6 or 18 bytes; raises :class:`Malformed` for any other length."""
    if len(data) == 6:
        return f"{data[0]}.{data[1]}.{data[2]}.{data[3]}", data[4] << 8 | data[5]
    if len(data) == 18:
        return str(IPv6Address(data[:16])), data[16] << 8 | data[17]
    raise Malformed("encoding.range", f"a compact address has 6 or 18 bytes, not {len(data)}")


def pack_node(node: NodeInfo) -> bytes:
    """Compact node info: id and endpoint, 26 or 38 bytes."""
    return node.node_id + pack_endpoint(node.endpoint)


def unpack_nodes(data: bytes, family: int, most: int) -> list[NodeInfo]:
    """At most ``most`` contacts of ``nodes`` (family 4) or ``nodes6``; a broken length raises :class:`Malformed`."""
    size = ID_BYTES + (6 if family == 4 else 18)
    if len(data) % size:
        raise Malformed("encoding.range", f"{len(data)} bytes are no list of {size}-byte contacts")
    return [
        NodeInfo(data[at : at + ID_BYTES], unpack_endpoint(data[at + ID_BYTES : at + size]))
        for at in range(0, min(len(data), most * size), size)
    ]
