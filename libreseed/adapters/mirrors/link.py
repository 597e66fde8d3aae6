"""One HTTP/1.1 connection to a mirror, read straight into the caller's memory: plain or TLS, direct or by a proxy.

h11 reads and writes the heads, strictly; bodies of a known length do not pass through it, because copying and counting
them in Python would take longer than verifying them. Belongs to one task at a time, which may lend
it to one thread for a body. Every failure is ``http.*``.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

import h11
import trio

import libreseed
from libreseed import limits
from libreseed.adapters.http.weburl import WebUrl
from libreseed.errors import TransportFault

__all__ = ["Link"]

_HEAD_PORTION = 4096  # read at once while a head is awaited: the rest of a body is better read in place
_BODY_PORTION = 2**16
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_AGENT = f"libreseed/{libreseed.__version__}"


class EndOfBody(TransportFault):
    """A body of unknown length has come to its proper end."""


class Link:
    """``length`` is that of the present body (None: not announced), ``left`` what was not read of it.

    Another request may follow when ``left`` is 0 and the link is ``reusable``.
    """

    def __init__(self, sock: socket.socket, name: str, via: _Proxy | None) -> None:
        self.length: int | None = None
        self.left = 0
        self.reusable = False
        self._sock = sock
        self.name = name  # for messages
        self._via = via  # a proxy that takes whole URLs
        self._secure = False  # TLS
        self._wants_write = False  # TLS must send before it can receive
        self._early = memoryview(b"")  # of the body, came with the head
        self._parser: h11.Connection | None = None  # while a body is chunked

    @classmethod
    async def open(cls, url: WebUrl, *, tls: ssl.SSLContext | None, proxy: str | None, address: str | None) -> Self:
        """Connect for requests to ``url``'s origin; ``address`` is where its host is, if that is decided.

        ``tls`` is given for https.
        """
        via = _proxy_url(proxy) if proxy else None
        host, port = (via.host, via.port) if via is not None else (address or url.host, url.port)
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise TransportFault("http.unreachable", f"{host} port {port} cannot be reached: {error}") from error
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = cls(sock, url.origin, via)
        try:
            if tls is not None:
                if via is not None:
                    await link._tunnel(url)
                await link._encrypt(tls, url.host)
        except BaseException:
            link.close()
            raise
        return link

    @property
    def peer(self) -> str:
        """The address at the other end."""
        try:
            return str(self._sock.getpeername()[0])
        except OSError as error:
            raise TransportFault("http.cut-off", f"{self.name} broke off: {error}") from error

    def close(self) -> None:
        """End it."""
        self._sock.close()

    async def ask(self, url: WebUrl, span: tuple[int, int] | None = None) -> tuple[int, dict[str, str]]:
        """GET ``url``, or its bytes from ``[0]`` up to ``[1]``; the status and the headers, by lower-case name."""
        target = url.target if self._via is None else str(url)
        fields = [("host", url.netloc)]
        if span is not None:
            fields.append(("range", f"bytes={span[0]}-{span[1] - 1}"))
        return await self._exchange(b"GET", target.encode("ascii"), fields)

    async def whole(self, most: int, on_chunk: Callable[[], None] | None = None) -> bytes:
        """The body of the last answer; raises ``http.too-large`` before it has more than ``most`` bytes.

        ``on_chunk`` is called whenever the bytes of one more chunk have come.
        """
        body, memory = bytearray(), memoryview(bytearray(_BODY_PORTION))
        while self.length is None or self.left:
            try:
                count = self.receive_now(memory if self.length is None else memory[: self.left])
            except EndOfBody:
                return bytes(body)
            if count is None:
                await self._readable()
                continue
            before = len(body)
            body += memory[:count]
            if len(body) > most:
                raise TransportFault("http.too-large", f"{self.name} sends more than the {most} bytes asked for")
            if on_chunk is not None and before // limits.CHUNK_BYTES != len(body) // limits.CHUNK_BYTES:
                on_chunk()
        return bytes(body)

    # --- a body, in any thread ---------------------------------------------------------------------------------------
    def receive_now(self, view: memoryview) -> int | None:
        """Fill the start of ``view`` with bytes of the body that are here; None: :meth:`wait` first.

        Raises ``http.cut-off`` when the body ends early.
        """
        if self._parser is not None and not self._early:
            data = self._receive_chunked(self._parser)
            if data is None:
                return None
            self._early = memoryview(data)
        if self._early:
            count = min(len(view), len(self._early))
            view[:count] = self._early[:count]
            self._early = self._early[count:]
        else:
            found = self._fill(view)
            if found is None:
                return None
            count = found
            if not count:
                raise TransportFault("http.cut-off", f"{self.name} ends before the bytes asked for do")
        self.left = max(0, self.left - count)
        return count

    def _fill(self, view: memoryview) -> int | None:
        """What is here, into the start of ``view``: 0 at the end, None for nothing yet.

        TLS gives no more than a record of 16 KiB at once: it is asked again at once, because a trip through the caller
        costs as much as to decipher one.
        """
        receive, count = self._sock.recv_into, 0
        with self._declared():
            try:
                count = got = receive(view)
                while got and self._secure and count < len(view):
                    got = receive(view[count:])
                    count += got
            except _NOT_YET as want:
                self._wants_write = isinstance(want, ssl.SSLWantWriteError)
                return count or None
            except OSError:
                if not count:  # otherwise the next call meets it
                    raise
        return count

    def wait(self, seconds: float) -> bool:
        """Whether more may be here within ``seconds``; blocks."""
        waiter = select.poll()
        waiter.register(self._sock, select.POLLOUT if self._wants_write else select.POLLIN)
        return bool(waiter.poll(max(0.0, seconds) * 1000))

    def interrupt(self) -> None:
        """Wake up whoever waits in another thread: nothing more will come."""
        self.reusable = False
        with contextlib.suppress(OSError):  # it is closed already, by either side
            self._sock.shutdown(socket.SHUT_RDWR)

    def _receive_chunked(self, parser: h11.Connection) -> bytes | None:
        with self._declared():
            while (event := parser.next_event()) is h11.NEED_DATA:
                try:
                    parser.receive_data(self._sock.recv(_BODY_PORTION))
                except _NOT_YET:
                    return None
        if isinstance(event, h11.EndOfMessage):
            raise EndOfBody("http.cut-off", f"{self.name} ends before the bytes asked for do")
        if not isinstance(event, h11.Data):
            raise TransportFault("http.cut-off", f"{self.name} broke off")
        return bytes(event.data)

    # --- heads -------------------------------------------------------------------------------------------------------
    async def _exchange(
        self, method: bytes, target: bytes, fields: list[tuple[str, str]]
    ) -> tuple[int, dict[str, str]]:
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.HTTP_HEAD_BYTES)
        fields = [*fields, ("user-agent", _AGENT), ("accept-encoding", "identity"), *self._authorization(method)]
        with self._declared():
            head = parser.send(h11.Request(method=method, target=target, headers=fields))
            await self._send_all((head or b"") + (parser.send(h11.EndOfMessage()) or b""))
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await self._receive_some())
                elif isinstance(event, h11.Response):
                    break
                elif not isinstance(event, h11.InformationalResponse):
                    raise TransportFault("http.cut-off", f"{self.name} ends without an answer")
        headers = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in event.headers}
        self._begin_body(parser, headers)
        return event.status_code, headers

    def _begin_body(self, parser: h11.Connection, headers: dict[str, str]) -> None:
        self._parser = None
        self._early = memoryview(b"")
        if "transfer-encoding" in headers or "content-length" not in headers:
            self._parser, self.length, self.left, self.reusable = parser, None, 0, False
            return
        self.length = self.left = int(headers["content-length"])  # one number, as h11 has seen to
        early = parser.trailing_data[0]
        self._early = memoryview(early)[: self.left]
        keeps = parser.their_http_version == b"1.1" and "close" not in headers.get("connection", "").lower()
        self.reusable = keeps and len(early) <= self.left

    async def _tunnel(self, url: WebUrl) -> None:
        host = f"[{url.host}]" if ":" in url.host else url.host
        target = f"{host}:{url.port}".encode("ascii")
        status, _ = await self._exchange(b"CONNECT", target, [("host", target.decode())])
        if status != 200 or self._early:
            raise TransportFault("http.unreachable", f"the proxy for {self.name} answers {status}")
        self._parser, self._via = None, None

    def _authorization(self, method: bytes) -> list[tuple[str, str]]:
        if self._via is None or not self._via.userinfo:
            return []
        userinfo = unquote(self._via.userinfo).encode()
        return [("proxy-authorization", "Basic " + base64.b64encode(userinfo).decode("ascii"))]

    # --- bytes -------------------------------------------------------------------------------------------------------
    async def _encrypt(self, tls: ssl.SSLContext, host: str) -> None:
        with self._declared():
            sock = tls.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
            self._sock, self._secure = sock, True
            while True:
                try:
                    sock.do_handshake()
                    return
                except _NOT_YET as want:
                    await self._wait(want)

    async def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except _NOT_YET as want:
                await self._wait(want, sending=True)

    async def _receive_some(self) -> bytes:
        with self._declared():
            while True:
                try:
                    return self._sock.recv(_HEAD_PORTION)
                except _NOT_YET as want:
                    await self._wait(want)

    async def _readable(self) -> None:
        """What :meth:`wait` is in a thread."""
        if self._wants_write:
            await trio.lowlevel.wait_writable(self._sock)
        else:
            await trio.lowlevel.wait_readable(self._sock)

    async def _wait(self, want: OSError, *, sending: bool = False) -> None:
        if isinstance(want, ssl.SSLWantWriteError) or (sending and not isinstance(want, ssl.SSLWantReadError)):
            await trio.lowlevel.wait_writable(self._sock)
        else:
            await trio.lowlevel.wait_readable(self._sock)

    @contextlib.contextmanager
    def _declared(self) -> Iterator[None]:
        """What the system, TLS and h11 raise, as ours."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            message = f"{self.name}: {error.verify_message} (--ca-file names its authority)"
            raise TransportFault("http.certificate", message) from error
        except h11.RemoteProtocolError as error:
            raise TransportFault("http.protocol", f"{self.name} does not speak HTTP as it should: {error}") from error
        except OSError as error:
            raise TransportFault("http.cut-off", f"{self.name} broke off: {error}") from error


class _Proxy(NamedTuple):
    host: str
    port: int
    userinfo: str


def _proxy_url(text: str) -> _Proxy:
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        proxy = _Proxy(url.hostname or "", url.port or 80, url.netloc.rpartition("@")[0])
    except ValueError as error:
        raise TransportFault("http.unreachable", f"the environment names no proxy that can be used: {error}") from error
    if url.scheme != "http" or not proxy.host:
        raise TransportFault("http.unreachable", f"only http:// proxies can be used for mirrors, not {url.scheme}://")
    return proxy
