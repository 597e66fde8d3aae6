"""Which URLs may be asked and which redirects may be followed: decided on values, before anything is sent.

A server may send us on within its scheme to another public place. It may not make us speak another scheme (https to
http gives up what TLS proves), nor reach an address that only this machine's network has (a mirror could else read
an intranet, or a cloud's metadata, through us). What a *user* names may be anywhere. The addresses behind a redirect's
name are judged by :func:`refuse_private`; the client then connects to exactly those, so that a name which answers
differently the second time gains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from libreseed import limits
from libreseed.adapters.http.weburl import WebUrl
from libreseed.errors import TransportFault, UsageFault

__all__ = ["literal_address", "next_hop", "parse_base_url", "parse_url", "refuse_private"]

_IPV4_AT_THE_END = tuple(map(IPv6Network, ("64:ff9b::/96", "::/96")))  # NAT64 (RFC 6052), IPv4-compatible addresses
# What ``is_global`` says of special addresses differs between releases of Python, so these are told apart here: IPv6 is
# public where addresses are given out to networks, less what is set aside for protocols and for documentation.
_GIVEN_OUT = IPv6Network("2000::/3")
_SET_ASIDE = (IPv4Network("192.0.0.0/24"), IPv6Network("2001::/23"), IPv6Network("3fff::/20"))


def parse_url(text: str) -> httpx.URL:
    """A URL that may be asked: http or https, a host, no user or password, no fragment; else ``http.url``."""
    try:
        url = httpx.URL(text)
        if len(text) > limits.HTTP_URL_CHARS or any(not "!" <= character <= "~" for character in text):
            raise ValueError("it is too long or has characters that a URL cannot have")
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("it is no http or https URL")
        if url.port is not None and not 0 < url.port < 65536:
            raise ValueError("no such port")
        if url.userinfo or url.fragment:
            raise ValueError("it has a user, a password or a fragment")
    except (httpx.InvalidURL, ValueError) as error:
        shown = "***@" + text.rpartition("@")[2] if "@" in text.partition("//")[2].partition("/")[0] else text
        raise UsageFault("http.url", f"cannot use the URL {shown[:200]!r}: {error}") from error
    return url


def parse_base_url(text: str) -> str:
    """A server's base URL as an operator writes it: no query; without the slash at its end."""
    url = parse_url(text)
    if url.query or "?" in text:
        raise UsageFault("http.url", f"cannot use the URL {text[:200]!r}: it has a query")
    return text.rstrip("/")


def next_hop(url: httpx.URL, location: str, hops: int) -> httpx.URL:
    """Where ``location`` leads from ``url`` after ``hops`` redirects; raises TransportFault ``http.redirect``."""
    if hops >= limits.HTTP_REDIRECTS:
        raise _refused(url, f"it redirects more than {limits.HTTP_REDIRECTS} times")
    try:
        target = parse_url(str(url.join(location).copy_with(fragment=None)))
    except (httpx.InvalidURL, UsageFault) as error:
        raise _refused(url, "it redirects to no URL that can be used") from error
    if target.scheme != url.scheme:
        raise _refused(url, f"it redirects from {url.scheme} to {target.scheme}")
    return target


def refuse_private(url: httpx.URL | WebUrl, addresses: Iterable[str]) -> None:
    """Raise ``http.redirect`` if any of ``addresses`` is not a public one."""
    for address in addresses:
        if not _is_public(_reached(ip_address(address.partition("%")[0]))):
            raise _refused(url, f"it redirects to {url.host}, which is the private address {address}")


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.is_multicast or any(address in network for network in _SET_ASIDE):
        return False
    return address.is_global and (address.version == 4 or address in _GIVEN_OUT)


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """What answers at ``address``: itself, or the IPv4 address in it that a translator or tunnel leads to."""
    if isinstance(address, IPv4Address):
        return address
    if any(address in network for network in _IPV4_AT_THE_END):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def literal_address(host: str) -> str | None:
    """The address if ``host`` is one; None for a name."""
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        return None


def _refused(url: httpx.URL | WebUrl, why: str) -> TransportFault:
    return TransportFault("http.redirect", f"{url.host} is refused: {why}", evidence={"url": str(url)})
