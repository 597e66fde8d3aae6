"""Ranges of files over HTTP: connections are kept, redirects follow the rules, every answer is held to its promise.

A body gives exactly the span that was asked for or raises ``http.*``: another status than 206, another
``Content-Range``, an encoding or another length is refused before a byte is passed on. A mirror that answers "no" is a
:class:`RangeRefused`. Verifies no content. ``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from libreseed import limits
from libreseed.adapters.http.outgoing import client_tls, proxy_for, public_address
from libreseed.adapters.http.redirects import next_hop, parse_url
from libreseed.adapters.mirrors.link import Link
from libreseed.errors import TransportFault

__all__ = ["RangeRefused", "Ranges"]

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/(?:[0-9]{1,15}|\*)", re.ASCII)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RangeRefused(Exception):
    """The mirror answers, and does not give this span now; ``pause_s`` is the rest that it asks for (0: none)."""

    def __init__(self, status: int, pause_s: float) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.pause_s = pause_s


class Ranges:
    """``ca_file`` and ``allow_private`` as for the general client. Close it when done."""

    def __init__(self, *, ca_file: Path | None = None, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[tuple[str, str, int | None], list[Link]] = {}
        self._led: dict[str, tuple[httpx.URL, str | None]] = {}  # where a URL led in the end, and the address there

    def close(self) -> None:
        """End the connections that are kept."""
        for links in self._idle.values():
            for link in links:
                link.close()
        self._idle.clear()

    @asynccontextmanager
    async def open(self, url: str, start: int, stop: int) -> AsyncIterator[Link]:
        """The bytes ``start`` up to, without, ``stop``: read them from the link, all of them."""
        target, address = self._led.get(url) or (parse_url(url), None)
        for hops in range(limits.HTTP_REDIRECTS + 1):
            link, status, headers = await self._ask(target, address, start, stop)
            keep = False
            try:
                location = headers.get("location")
                if status in _REDIRECTS and location is not None:
                    origin, target = target, next_hop(target, location, hops)
                    if target.host != origin.host and not self._allow_private:
                        address = await public_address(target, by_proxy=proxy_for(target) is not None)
                    continue
                _check(target, status, headers, link.length, (start, stop))
                self._led[url] = target, address
                yield link
                keep = link.reusable and not link.left
                return
            finally:
                if keep:
                    self._idle.setdefault(_key(target), []).append(link)
                else:
                    link.close()
        raise AssertionError("next_hop ends it")

    def _context(self, url: httpx.URL) -> ssl.SSLContext | None:
        if url.scheme != "https":
            return None
        if self._tls is None:
            self._tls = client_tls(self._ca_file)
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def _ask(
        self, url: httpx.URL, address: str | None, start: int, stop: int
    ) -> tuple[Link, int, Mapping[str, str]]:
        """A link on which the answer's head has come; one that was kept may have been closed meanwhile."""
        kept = self._idle.get(_key(url))
        while kept:
            link = kept.pop()
            try:
                return link, *await link.ask(url, start, stop)
            except TransportFault:
                link.close()
            except trio.Cancelled:
                link.close()
                raise
        link = await Link.open(url, tls=self._context(url), proxy=proxy_for(url), address=address)
        try:
            return link, *await link.ask(url, start, stop)
        except BaseException:
            link.close()
            raise


def _check(url: httpx.URL, status: int, headers: Mapping[str, str], length: int | None, span: tuple[int, int]) -> None:
    if status not in {200, 206}:
        raise RangeRefused(status, _pause(headers.get("retry-after", "")))
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise TransportFault("http.encoding", f"{url} sends an encoded body unasked")
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if status != 206 or not found or (int(found[1]), int(found[2]) + 1) != span:
        raise TransportFault("http.range", f"{url} does not send the bytes {span[0]} to {span[1]} asked for")
    if length is not None and length != span[1] - span[0]:
        raise TransportFault("http.range", f"{url} announces {length} bytes where {span[1] - span[0]} were asked for")


def _key(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _pause(retry_after: str) -> float:
    """Seconds of a ``Retry-After`` in seconds; 0 for any other form."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else 0.0
