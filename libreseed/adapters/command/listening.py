"""Where to listen: names and addresses as an operator writes them, turned into addresses that can be bound.

A name is resolved once, to all addresses that it has. What a machine without IPv6 (or without IPv4) cannot have is left
out as long as something remains, so that one configuration fits every machine. Keeps nothing bound, and does not know
whether an address is this machine's: whoever binds it finds out. docs/operations.md, "Configuration".
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import trio

from libreseed.dht.addresses import Endpoint, family_of
from libreseed.errors import LocalFault

__all__ = ["listen_addresses", "settle_ports"]

_RESOLVE_S = 10.0
_ATTEMPTS = 16
_LOOPBACK = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}


async def listen_addresses(wanted: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Numeric addresses for ``wanted``, in its order and each once, spelled as the system spells them.

    Raises :class:`LocalFault` ``config.port`` for a name without an address.
    """
    found: dict[Endpoint, bool] = {}  # address -> whether it was asked for by itself
    for host, port in wanted:
        numeric = _numeric(host)
        if numeric is None:
            for address in await _resolve(host):
                found.setdefault((address, port), False)
        else:
            found[numeric, port] = not ip_address(numeric).is_unspecified
    absent = {family for family in _LOOPBACK if not all(found.values()) and not _has(family)}
    usable = tuple(one for one, explicit in found.items() if explicit or family_of(one[0]) not in absent)
    return usable or tuple(found)


def settle_ports(addresses: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Replace port 0 of "any address" by a number that is free now, the same for both families.

    For whoever binds "any address" as one socket for each address of the machine: each would get another port.
    """
    open_ended = [host for host, port in addresses if not port and ip_address(host).is_unspecified]
    chosen = _free_port(open_ended) if open_ended else 0
    return tuple((host, chosen if not port and host in open_ended else port) for host, port in addresses)


def _free_port(hosts: Sequence[str]) -> int:
    """A number that TCP and UDP of all ``hosts`` have free; 0 if none is found soon."""
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as probes:
            port = 0
            try:
                for host in hosts:
                    for protocol in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        probe = probes.enter_context(socket.socket(_LOOPBACK[family_of(host)][0], protocol))
                        if ":" in host:
                            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        probe.bind((host, port))
                        port = probe.getsockname()[1]
            except OSError:
                continue
            return port
    return 0


def _numeric(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


async def _resolve(host: str) -> list[str]:
    fault = "it takes too long"
    with trio.move_on_after(_RESOLVE_S):
        try:
            infos = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            return [str(info[4][0]) for info in infos]
        except (OSError, UnicodeError) as error:
            fault = getattr(error, "strerror", None) or str(error)
    raise LocalFault("config.port", f"cannot listen on {host}: the name cannot be resolved: {fault}")


def _has(family: int) -> bool:
    kind, loopback = _LOOPBACK[family]
    try:
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.bind((loopback, 0))
    except OSError:
        return False
    return True
