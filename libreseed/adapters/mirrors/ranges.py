"""Ranges of files over HTTP: connections are kept, redirects follow the rules, every answer is held to its promise.

A body gives exactly the span that was asked for or raises ``http.*``: another status than 206, another
``Content-Range``, an encoding or another length is refused before a byte is passed on. A small file that is sent whole
instead (200, of exactly its size) is kept until :meth:`Ranges.forget`, and every span of it is served from there.
A mirror that answers "no" is a :class:`RangeRefused`. Verifies no content. ``docs/specification/resolver.md``,
"Mirrors".
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.http.outgoing import client_tls, proxy_for, public_address
from libreseed.adapters.http.weburl import WebUrl
from libreseed.adapters.mirrors.link import Link
from libreseed.adapters.mirrors.whole import WholeBody
from libreseed.errors import NotFound, TransportFault, UsageFault

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
        if ca_file is not None:
            self._tls = self._trusting()  # a bad file is said at once
        self._idle: dict[str, list[Link]] = {}
        self._whole: dict[str, bytes] = {}  # files of servers that give no ranges
        self._coming = 0  # bytes of those that are on their way
        self._led: dict[str, tuple[WebUrl, str | None]] = {}  # where a URL led in the end, and the address there

    def close(self) -> None:
        """End the connections that are kept."""
        for links in self._idle.values():
            for link in links:
                link.close()
        self._idle.clear()

    @asynccontextmanager
    async def open(
        self, url: str, start: int, stop: int, *, size: int, on_chunk: Callable[[], None] | None = None
    ) -> AsyncIterator[Link | WholeBody]:
        """The bytes ``start`` up to, without, ``stop`` of a file of ``size``: read them from the link, all of them.

        While a file comes whole instead, ``on_chunk`` hears of each chunk of it.
        """
        fetched = 0
        if url not in self._whole:
            async with self._answered(url, (start, stop)) as (link, target, status, headers):
                if status != 200 or link.length != size or not self._keeps(size):
                    _check(target, status, headers, link.length, (start, stop))
                    yield link
                    return
                _refuse_encoded(target, headers)
                self._coming += size
                try:
                    self._whole[url] = await link.whole(size, on_chunk)
                finally:
                    self._coming -= size
                fetched = size
        yield WholeBody(url, memoryview(self._whole[url])[start:stop], fetched)

    def forget(self, urls: Iterable[str]) -> None:
        """Drop the files at ``urls`` that were sent whole."""
        for url in urls:
            self._whole.pop(url, None)

    def _keeps(self, size: int) -> bool:
        """Whether one more file of ``size`` bytes may be held in memory."""
        kept = sum(map(len, self._whole.values())) + self._coming
        return size <= limits.MIRROR_WHOLE_BYTES and kept + size <= limits.MIRROR_WHOLES_BYTES

    async def get(self, url: str, *, most: int) -> bytes:
        """A whole document of at most ``most`` bytes; raises ``http.*``, ``http.not-found`` for a 404."""
        async with self._answered(url, None) as (link, target, status, headers):
            if status == 404:
                raise NotFound("http.not-found", f"{target}: the server has no such thing")
            if status != 200:
                raise TransportFault("http.status", f"{target} answers {status}", evidence={"status": status})
            _refuse_encoded(target, headers)
            if link.length is not None and link.length > most:
                message = f"{target} would send {link.length} bytes, more than the {most} asked for"
                raise TransportFault("http.too-large", message)
            return await link.whole(most)

    @asynccontextmanager
    async def _answered(
        self, url: str, span: tuple[int, int] | None
    ) -> AsyncIterator[tuple[Link, WebUrl, int, Mapping[str, str]]]:
        """The answer after redirects, by the rules of :mod:`libreseed.adapters.http.redirects`."""
        target, address = self._led.get(url) or (WebUrl.parse(url), None)
        for hops in range(limits.HTTP_REDIRECTS + 1):
            link, status, headers = await self._ask(target, address, span)
            keep = False
            try:
                location = headers.get("location")
                if status in _REDIRECTS and location is not None:
                    target, address = await self._led_to(target, link.peer, location, hops)
                    continue
                self._led[url] = target, address
                yield link, target, status, headers
                keep = link.reusable and not link.left
                return
            finally:
                if keep:
                    self._idle.setdefault(target.origin, []).append(link)
                else:
                    link.close()
        raise AssertionError("next_hop ends it")

    async def _led_to(self, origin: WebUrl, peer: str, location: str, hops: int) -> tuple[WebUrl, str | None]:
        """Where the answer of ``peer`` leads, and at which address that is looked for.

        A host that redirects to itself is looked for where it has just answered, not where its name leads by now.
        """
        import httpx

        from libreseed.adapters.http.redirects import literal_address, next_hop

        try:
            target = WebUrl.parse(str(next_hop(httpx.URL(str(origin)), location, hops)))
        except UsageFault as error:
            raise TransportFault("http.redirect", f"{origin.host} redirects to no URL that can be used") from error
        by_proxy = proxy_for(target) is not None
        if self._allow_private:
            return target, None
        if target.host == origin.host:
            return target, None if by_proxy or literal_address(target.host) else peer
        return target, await public_address(target, by_proxy=by_proxy)

    def _context(self, url: WebUrl) -> ssl.SSLContext | None:
        if url.scheme != "https":
            return None  # to load the system's authorities takes as long as 50 MB of download
        if self._tls is None:
            self._tls = self._trusting()
        return self._tls

    def _trusting(self) -> ssl.SSLContext:
        context = client_tls(self._ca_file)
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def _ask(
        self, url: WebUrl, address: str | None, span: tuple[int, int] | None
    ) -> tuple[Link, int, Mapping[str, str]]:
        """A link on which the answer's head has come; one that was kept may have been closed meanwhile."""
        kept = self._idle.get(url.origin)
        while kept:
            link = kept.pop()
            try:
                return link, *await link.ask(url, span)
            except TransportFault:
                link.close()
            except trio.Cancelled:
                link.close()
                raise
        link = await Link.open(url, tls=self._context(url), proxy=proxy_for(url), address=address)
        try:
            return link, *await link.ask(url, span)
        except BaseException:
            link.close()
            raise


def _check(url: WebUrl, status: int, headers: Mapping[str, str], length: int | None, span: tuple[int, int]) -> None:
    if status not in {200, 206}:
        raise RangeRefused(status, _pause(headers.get("retry-after", "")))
    _refuse_encoded(url, headers)
    if status == 200:
        small = f"{limits.MIRROR_WHOLE_BYTES // 2**20} MiB"
        message = f"{url} is sent whole when a range of it is asked for: for more than {small} its server has to give "
        message += "byte ranges"
        raise TransportFault("http.range", message)
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if not found or (int(found[1]), int(found[2]) + 1) != span:
        raise TransportFault("http.range", f"{url} does not send the bytes {span[0]} to {span[1]} asked for")
    if length is not None and length != span[1] - span[0]:
        raise TransportFault("http.range", f"{url} announces {length} bytes where {span[1] - span[0]} were asked for")


def _refuse_encoded(url: WebUrl, headers: Mapping[str, str]) -> None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise TransportFault("http.encoding", f"{url} sends an encoded body unasked")


def _pause(retry_after: str) -> float:
    """Seconds of a ``Retry-After`` in seconds; 0 for any other form."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else 0.0
