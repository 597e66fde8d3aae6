"""How requests leave this machine: whose certificates count, which proxy is used, and where redirects may lead.

Shared by the general client and by the reader of ranges, so that both keep one set of rules.
"""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import TransportFault, UsageFault

if TYPE_CHECKING:
    import httpx

    from libreseed.adapters.http.weburl import WebUrl

__all__ = ["client_tls", "no_authority", "proxy_for", "public_address"]


def client_tls(ca_file: Path | None) -> ssl.SSLContext:
    """Certificates by the system's authorities, or by those in ``ca_file`` alone; raises ``http.ca``, NotFound."""
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except FileNotFoundError as error:
        raise from_oserror(error, f"reading the authorities in {ca_file}") from error
    except (OSError, ssl.SSLError) as error:
        raise UsageFault("http.ca", f"cannot use the authorities in {ca_file}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def no_authority() -> ssl.SSLContext:
    """A context that believes nobody, for what never speaks TLS: to load authorities takes 0.05 to 0.1 s."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def proxy_for(url: httpx.URL | WebUrl) -> str | None:
    """The proxy that the environment names for ``url``, as a URL; None to connect directly."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # elsewhere the system's settings may name one
    from urllib.request import getproxies, proxy_bypass  # 10 ms that nearly nobody needs

    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy and not proxy_bypass(url.host) else None


async def public_address(url: httpx.URL | WebUrl, *, by_proxy: bool) -> str | None:
    """Where to connect to when redirected to ``url``'s host; None where the address is in it, or a proxy finds out.

    Raises ``http.redirect`` for a private address, ``http.unreachable`` for a name that nobody knows. Connecting to
    the address that was judged leaves nothing to a name that answers differently the second time.
    """
    from libreseed.adapters.http.redirects import literal_address, refuse_private

    address = literal_address(url.host)
    if address is not None:
        refuse_private(url, [address])
        return None
    if by_proxy:
        return None  # the proxy resolves the name, within its own network
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransportFault("http.unreachable", f"{url.host} cannot be resolved: {error}") from error
    addresses = [str(info[4][0]) for info in found]
    refuse_private(url, addresses)
    return addresses[0]
