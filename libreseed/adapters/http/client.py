"""One HTTP client: httpx on trio, with every answer bounded in bytes and in time.

Invariants: no body is kept or passed on beyond the caller's ``most``; a transfer ends at its total deadline, however it
drips; what comes is what was sent (``Accept-Encoding: identity``, anything encoded is refused, so nothing inflates);
certificates are verified, against the system's authorities or the operator's own; redirects are followed by the
rules of :mod:`libreseed.adapters.http.redirects` only. Proxies come from the environment
(``HTTPS_PROXY``, ``NO_PROXY``...). Every failure is a LibreSeedError ``http.*``.
It verifies no content. docs/specification/http.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import trio

import libreseed
from libreseed import limits
from libreseed.adapters.http.outgoing import client_tls, no_authority, proxy_for, public_address
from libreseed.adapters.http.redirects import literal_address, next_hop, parse_url
from libreseed.errors import LibreSeedError, NotFound, TransportFault, UsageFault

__all__ = ["HttpAnswer", "HttpClient", "HttpClientOptions", "HttpStream"]

# httpx tells every request at INFO, with its whole URL: noise on a terminal, and a place where a password may stand.
logging.getLogger("httpx").setLevel(logging.WARNING)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/(?:[0-9]{1,15}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class HttpClientOptions:
    """How to ask. ``timeout`` (seconds) bounds connecting and each wait for bytes, ``total`` a whole transfer.

    ``allow_private`` lets redirects lead to private addresses. ``ca_file`` replaces the system's authorities.
    """

    ca_file: Path | None = None
    timeout: float = 15.0
    total: float = 600.0
    allow_private: bool = False
    http2: bool = True
    connections: int = 32
    use_proxies: bool = True
    plain: bool = False  # nothing but http:// is asked: authorities take long to load


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer. ``headers`` have lower-case names; ``url`` is the one that answered, after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def require(self, *statuses: int) -> Self:
        """The answer itself if its status is one of ``statuses``; else ``http.not-found`` (404) or ``http.status``."""
        _require(self.status, self.url, statuses or (200,))
        return self

    def json(self) -> Any:
        """The body as JSON of anybody's making (nothing of ours is signed in this form); raises ``http.protocol``."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise TransportFault("http.protocol", f"{self.url} does not answer in JSON") from error


@dataclass(slots=True)
class HttpStream:
    """An answer whose body is still coming: iterate :meth:`chunks` once, within the ``async with``."""

    status: int
    headers: Mapping[str, str]
    url: str
    most: int
    _response: httpx.Response = field(repr=False)
    _raw: AsyncIterator[bytes] | None = field(default=None, repr=False)

    def require(self, *statuses: int) -> Self:
        """As :meth:`HttpAnswer.require`."""
        _require(self.status, self.url, statuses or (200,))
        return self

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises ``http.too-large`` before passing on more than ``most`` bytes."""
        taken = 0
        self._raw = self._response.aiter_raw()
        async for chunk in self._raw:
            taken += len(chunk)
            if taken > self.most:
                raise TransportFault("http.too-large", f"{self.url} sends more than the {self.most} bytes asked for")
            yield chunk

    async def abandon(self) -> None:
        """End the body where it is.

        httpx's nested generators end by an exception at their innermost wait, else by the collector, which warns.
        """
        if self._raw is None:
            return
        with trio.CancelScope(deadline=-math.inf, shield=True), contextlib.suppress(httpx.HTTPError, httpx.StreamError):
            async for _ in self._raw:  # what is in memory already
                pass


class HttpClient:
    """Use as an async context manager; safe for many tasks at once. Keeps connections open between requests."""

    def __init__(self, options: HttpClientOptions | None = None) -> None:
        self._options = options or HttpClientOptions()
        timeout = httpx.Timeout(self._options.timeout, pool=None)
        pool = httpx.Limits(max_connections=self._options.connections, max_keepalive_connections=16, keepalive_expiry=8)
        try:
            self._client = httpx.AsyncClient(
                http2=self._options.http2,
                verify=no_authority() if self._options.plain else client_tls(self._options.ca_file),
                timeout=timeout,
                limits=pool,
                trust_env=self._options.use_proxies,
                follow_redirects=False,
                headers={"user-agent": f"libreseed/{libreseed.__version__}", "accept-encoding": "identity"},
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise UsageFault("http.proxy", f"the environment names a proxy that cannot be used: {error}") from error

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await self._client.__aexit__(kind, error, trace)

    async def get(
        self, url: str, *, most: int, headers: Mapping[str, str] | None = None, span: tuple[int, int] | None = None
    ) -> HttpAnswer:
        """The answer to GET, whatever its status; ``span`` asks for the bytes from ``[0]`` up to, without, ``[1]``.

        With ``span`` a success must be exactly those bytes (206), else ``http.range``.
        """
        async with self.stream(url, most=most, headers=headers, span=span) as stream:
            return await _whole(stream)

    async def post_json(self, url: str, value: object, *, most: int, accept: str = "application/json") -> HttpAnswer:
        """The answer to a POST of ``value`` as JSON."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return await self.post(url, body, "application/json", most=most, headers={"accept": accept})

    async def post(
        self, url: str, data: bytes, content_type: str, *, most: int, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """The answer to a POST of ``data``. A redirect is an error: what one server is told is not told another."""
        fields = {**(headers or {}), "content-type": content_type}
        async with self._deadline(url), self._send("POST", parse_url(url), fields, data) as response:
            if response.status_code in _REDIRECTS:
                raise TransportFault("http.redirect", f"{url} redirects a POST")
            stream = _stream_of(response, url, most)
            try:
                return await _whole(stream)
            finally:
                await stream.abandon()

    @asynccontextmanager
    async def stream(
        self, url: str, *, most: int, headers: Mapping[str, str] | None = None, span: tuple[int, int] | None = None
    ) -> AsyncIterator[HttpStream]:
        """The answer to GET as it arrives; parameters as for :meth:`get`."""
        fields = dict(headers or {})
        if span is not None:
            if not 0 <= span[0] < span[1]:
                raise ValueError("a span has at least one byte")
            fields["range"] = f"bytes={span[0]}-{span[1] - 1}"
        async with self._deadline(url), self._follow(parse_url(url), fields) as response:
            stream = _stream_of(response, str(response.request.extensions["asked"]), most)
            if span is not None:
                _check_span(stream, span)
            try:
                yield stream
            finally:
                await stream.abandon()

    @asynccontextmanager
    async def _follow(self, url: httpx.URL, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        pinned: str | None = None
        for hops in range(limits.HTTP_REDIRECTS + 1):
            async with self._send("GET", url, headers, None, pinned) as response:
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or location is None:
                    yield response
                    return
                answered_at = _answered_at(response)
            origin, url = url, next_hop(url, location, hops)
            pinned = await self._pin(url, answered_at if url.host == origin.host else None)
        raise AssertionError("next_hop ends it")

    async def _pin(self, url: httpx.URL, answered_at: str | None) -> str | None:
        """The address to connect to for a redirect to ``url``'s host; None leaves it to the system, or to a proxy.

        A host that redirects to itself is looked for where it has just answered, not where its name leads by now.
        """
        if self._options.allow_private:
            return None
        by_proxy = self._options.use_proxies and proxy_for(url) is not None
        if answered_at is not None:
            return None if by_proxy or literal_address(url.host) else answered_at
        return await public_address(url, by_proxy=by_proxy)

    @asynccontextmanager
    async def _send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None, pinned: str | None = None
    ) -> AsyncIterator[httpx.Response]:
        fields, extensions, target = dict(headers), {"asked": str(url)}, url
        if pinned is not None:
            fields["host"] = url.netloc.decode("ascii")
            extensions["sni_hostname"] = url.host
            target = url.copy_with(host=pinned)
        request = self._client.build_request(method, target, headers=fields, content=content, extensions=extensions)
        try:
            response = await self._client.send(request, stream=True)
        except ValueError as error:  # httpcore reads an HTTP/2 status as a number, whatever it is
            raise TransportFault("http.protocol", f"{url} does not speak HTTP as it should: {error}") from error
        self._client.cookies.clear()
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise TransportFault("http.encoding", f"{url} sends an encoded body unasked")
            yield response
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await response.aclose()

    @asynccontextmanager
    async def _deadline(self, url: str) -> AsyncIterator[None]:
        """The total time of a transfer, and the one place where httpx's errors become ours."""
        try:
            with trio.fail_after(self._options.total):
                yield
        except trio.TooSlowError as error:
            raise TransportFault("http.timeout", f"{url} takes longer than {self._options.total:g} s") from error
        except httpx.TimeoutException as error:
            message = f"{url} does not answer within {self._options.timeout:g} s"
            raise TransportFault("http.timeout", message) from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise _translated(url, error) from error


def _answered_at(response: httpx.Response) -> str | None:
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    return str(address[0]) if address and "%" not in address[0] else None  # a link-local one is of one interface


def _stream_of(response: httpx.Response, url: str, most: int) -> HttpStream:
    stream = HttpStream(response.status_code, dict(response.headers), url, most, response)
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 16 and int(length) > most:
        raise TransportFault("http.too-large", f"{url} would send {length} bytes, more than the {most} asked for")
    return stream


async def _whole(stream: HttpStream) -> HttpAnswer:
    body = b"".join([chunk async for chunk in stream.chunks()])
    return HttpAnswer(stream.status, stream.headers, body, stream.url)


def _check_span(stream: HttpStream, span: tuple[int, int]) -> None:
    if stream.status >= 300:
        return  # the caller sees the status
    found = _CONTENT_RANGE.fullmatch(stream.headers.get("content-range", ""))
    if stream.status != 206 or not found or (int(found[1]), int(found[2]) + 1) != span:
        raise TransportFault("http.range", f"{stream.url} does not send the bytes {span[0]} to {span[1]} asked for")


def _require(status: int, url: str, statuses: tuple[int, ...]) -> None:
    if status in statuses:
        return
    if status == 404:
        raise NotFound("http.not-found", f"{url}: the server has no such thing")
    raise TransportFault("http.status", f"{url} answers {status}", evidence={"status": status})


def _translated(url: str, error: Exception) -> LibreSeedError:
    """httpx often has no message of its own: the innermost cause says what happened."""
    cause: BaseException = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransportFault("http.certificate", f"{url}: {cause.verify_message} (--ca-file names its authority)")
    text = str(error) or str(cause) or type(cause).__name__
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol)):
        return TransportFault("http.unreachable", f"{url} cannot be reached: {text}")
    if isinstance(error, httpx.ProtocolError):
        return TransportFault("http.protocol", f"{url} does not speak HTTP as it should: {text}")
    return TransportFault("http.cut-off", f"{url} broke off: {text}")
