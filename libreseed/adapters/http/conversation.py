"""One connection of a server: TLS, then hypercorn's protocol code for HTTP/1.1 or 2, within this server's bounds.

hypercorn's own connection and HTTP/2 sender are not used as they are, for what was found in version 0.18 by reading and
by trying: a client that keeps its HTTP/2 window shut makes it take an answer of any size into memory (a pop of nothing
wakes the application that waits for room); one frame per write costs most of the speed of large answers; an upgrade
to HTTP/2 in the clear leads into code that any client can make fail. What is kept is the protocol logic itself.

Sends are shielded from cancellation, because half a TLS record spoils the connection; their time is bounded by
:class:`~libreseed.adapters.http.connections.SteadyStream`.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import TrioSingleTask, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from libreseed import limits
from libreseed.adapters.http.connections import Connection, Connections

__all__ = ["Conversation", "Setting"]

_RECEIVE_BYTES = 64 * 2**10
_ABSOLUTE = re.compile(rb"https?://[^/?#]+(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all connections of a server share."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    connections: Connections


class Conversation:
    """One connection, from the handshake to its end."""

    def __init__(self, setting: Setting, connection: Connection, stream: Any) -> None:
        self._setting = setting
        self._connection = connection
        self._stream = stream  # a trio.SSLStream around the connection's stream, or that itself
        self._sending = trio.Lock()
        self._idling = TrioSingleTask()
        self._reading = trio.CancelScope()
        self._tasks: TaskGroup
        self._protocol: H11Protocol | H2Protocol

    async def run(self) -> None:
        """Serve the connection until either side ends it; the caller closes the socket."""
        alpn = await self._shake_hands()
        if alpn is None:
            return
        setting = self._setting
        kind = _Http2 if alpn == "h2" else _Http11
        server = self._connection.ends[1]
        is_tls = isinstance(self._stream, trio.SSLStream)
        async with TaskGroup() as self._tasks:
            self._protocol = kind(
                setting.app,
                setting.config,
                setting.context,
                self._tasks,
                ConnectionState({}),
                is_tls,
                self._connection.peer,
                server,
                self._on_event,
            )
            await self._protocol.initiate()
            await self._set_idle(True)
            await self._read()
            await self._idling.stop()

    async def _shake_hands(self) -> str | None:
        """The protocol agreed on; None if there was no agreement in time."""
        if not isinstance(self._stream, trio.SSLStream):
            return "http/1.1"
        try:
            with trio.fail_after(self._setting.config.ssl_handshake_timeout):
                await self._stream.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return None
        return self._stream.selected_alpn_protocol() or "http/1.1"

    async def _read(self) -> None:
        """Until the client has ended, or the connection is closed: then also what waits to read on is over.

        hypercorn lets a reader wait for the end of an answer that may never end once nobody takes it.
        """
        with self._reading, contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._stream.receive_some(_RECEIVE_BYTES):
                await self._protocol.handle(RawData(bytes(data)))
            await self._protocol.handle(RawData(b""))
        self._connection.gone = True
        await self._protocol.handle(Closed())

    async def _on_event(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            await self._close()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            await self._set_idle(event.idle)

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            try:
                with trio.CancelScope(shield=True):
                    await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._connection.gone = True
                await self._protocol.handle(Closed())
                self._reading.cancel()

    async def _set_idle(self, idle: bool) -> None:
        self._setting.connections.set_idle(self._connection, idle)
        if idle and not self._connection.gone:  # an answer may end after its reader has left: nobody to wait for
            await self._idling.restart(self._tasks, self._leave_when_idle)
        else:
            await self._idling.stop()

    async def _leave_when_idle(self) -> None:
        with trio.move_on_after(self._setting.config.keep_alive_timeout):
            await self._setting.context.terminated.wait()
        with trio.CancelScope(shield=True):
            await self._protocol.handle(Closed())
            await self._close()

    async def _close(self) -> None:
        """Say the end (TLS's own, or that of what we send), then close."""
        self._connection.gone = True
        try:
            await self._stream.aclose()
        except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            self._connection.abort()
        self._reading.cancel()


class _Http11(H11Protocol):
    """HTTP/1.1, which no request leaves: neither by an upgrade (RFC 9113 has dropped ``h2c``) nor by CONNECT."""

    async def _check_protocol(self, event: Any) -> None:
        """An upgrade that is not granted is ignored (RFC 9110, 7.8)."""

    async def _create_stream(self, request: h11.Request) -> None:
        if request.method == b"CONNECT":  # this is no proxy, and h11 pauses for what would follow
            await self._send_error_response(405)
            await self.send(Closed())
            return
        await super()._create_stream(_plain(request))


def _plain(request: h11.Request) -> h11.Request:
    """The request as one for HTTP, by its path.

    hypercorn must see no WebSocket, whose code a client can make fail at will; and it takes the whole of an absolute
    target for a path, where a server has to leave out whom it names (RFC 9112, 3.2.2).
    """
    headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
    found = _ABSOLUTE.fullmatch(request.target)
    if len(headers) == len(request.headers) and not found:
        return request
    target = request.target if not found else b"/" + found[1].removeprefix(b"/")
    return h11.Request(method=request.method, headers=headers, target=target, http_version=request.http_version)


class _Http2(H2Protocol):
    """HTTP/2 that keeps a slow client waiting, not its answer in memory, and writes several frames at once."""

    _resets = 0

    async def _send_data(self, stream_id: int) -> None:
        try:
            if await self._send_frames(stream_id):
                self.priority.block(stream_id)
            ended = self.stream_buffers[stream_id].complete  # now: it may become so while the frames are written
            if ended:
                self.connection.end_stream(stream_id)
            await self._flush()
        except (h2.exceptions.ProtocolError, KeyError):  # it was closed meanwhile
            ended = True
            if stream_id in self.stream_buffers:
                await self.stream_buffers[stream_id].close()
        if ended:
            self.stream_buffers.pop(stream_id, None)
            with contextlib.suppress(KeyError):
                self.priority.remove_stream(stream_id)

    async def _send_frames(self, stream_id: int) -> bool:
        """Put frames of one stream together, up to a portion; True if it can go on only after news."""
        buffer = self.stream_buffers[stream_id]
        left = limits.HTTP_FRAMES_BYTES
        with memoryview(buffer.buffer) as whole:
            view = bytes(whole[:left])
        at = 0
        while at < len(view):
            window = self.connection.local_flow_control_window(stream_id)
            frame = view[at : at + max(0, min(window, self.connection.max_outbound_frame_size))]
            if not frame:
                break
            self.connection.send_data(stream_id, frame)
            at += len(frame)
        del buffer.buffer[:at]
        if len(buffer.buffer) < BUFFER_LOW_WATER:
            await buffer._paused.set()
        if not buffer.buffer:
            await buffer._is_empty.set()
        return not buffer.buffer or at < len(view)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        self._resets += sum(isinstance(event, h2.events.StreamReset) for event in events)
        if self._resets > limits.HTTP_RESETS:  # CVE-2023-44487: requests that are taken back cost us, not the client
            await self._end(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        elif any(isinstance(event, h2.events.RequestReceived) and _is_connect(event) for event in events):
            await self._end(h2.errors.ErrorCodes.PROTOCOL_ERROR)  # no proxy, no WebSocket (RFC 8441)
        else:
            await super()._handle_events(events)

    async def _end(self, why: h2.errors.ErrorCodes) -> None:
        self.connection.close_connection(why)
        await self._flush()
        await self.send(Closed())


def _is_connect(event: h2.events.RequestReceived) -> bool:
    return any(name == b":method" and value.upper() == b"CONNECT" for name, value in event.headers)
