"""The server of the seeder's control socket: local, authenticated by the kernel, strict and bounded (G6).

Invariants: the socket file is private from its first moment; only root, the daemon's own user and, if one is named,
members of one group are answered (``SO_PEERCRED``); a client costs at most one request line of memory, one of
``CONTROL_CONNECTIONS`` places and ``CONTROL_REQUEST_SECONDS`` before it has said what it wants. A client that goes away
cancels its command. The owner holds the lock of the state directory, so an existing socket file is always a dead one.

It does not know what the commands mean. Protocol: :mod:`libreseed.adapters.command.control`.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio

from libreseed import limits, wire
from libreseed.adapters.command import control
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LibreSeedError, LocalFault, UsageFault

__all__ = ["ControlServer", "Handler"]

Handler = Callable[[control.Request], Awaitable[Mapping[str, wire.JsonValue]]]
_UCRED = struct.Struct("3i")  # pid, uid, gid
_SO_PEERGROUPS = 59  # Linux 4.13; the socket module does not name it


class ControlServer:
    """Answers requests at ``path`` by ``handler``, which returns the result or raises :class:`LibreSeedError`.

    ``group``, if given, may connect too (mode 0660 instead of 0600).
    """

    def __init__(self, path: Path, handler: Handler, *, group: str | None = None) -> None:
        self._path = path
        self._handler = handler
        self._gid = None if group is None else _group_id(group)
        self._places = trio.CapacityLimiter(limits.CONTROL_CONNECTIONS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; the socket file is removed then."""
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            await self._bind(listener)
            try:
                task_status.started()
                async with trio.open_nursery() as nursery:
                    while True:
                        connection, _ = await listener.accept()
                        nursery.start_soon(self._serve, connection)
            finally:
                self._path.unlink(missing_ok=True)

    async def _bind(self, listener: trio.socket.SocketType) -> None:
        self._path.unlink(missing_ok=True)
        with control.reachable_address(self._path) as address:
            await listener.bind(address)
        # Nobody can connect before listen(), so the mode is in force before the first client.
        if self._gid is not None:
            os.chown(self._path, -1, self._gid)
        self._path.chmod(0o600 if self._gid is None else 0o660)
        listener.listen(limits.CONTROL_CONNECTIONS)

    async def _serve(self, connection: trio.socket.SocketType) -> None:
        stream = trio.SocketStream(connection)
        async with stream:
            try:
                self._places.acquire_nowait()
            except trio.WouldBlock:
                await _say(
                    stream, control.failure_line(LocalFault("storage.busy", "too many control commands at once"))
                )
                return
            try:
                await self._converse(stream)
            except* (trio.BrokenResourceError, trio.TooSlowError):
                pass  # the client is gone or does not read: nobody is left to be told
            finally:
                self._places.release()

    async def _converse(self, stream: trio.SocketStream) -> None:
        with contextlib.ExitStack() as files:
            try:
                self._authorise(stream.socket)
                line, descriptors = await _read_request(stream, files)
                request = control.parse_request(line, descriptors)
            except LibreSeedError as error:
                await _say(stream, control.failure_line(error))
                return
            await self._execute(stream, request)

    async def _execute(self, stream: trio.SocketStream, request: control.Request) -> None:
        line: bytes | None = None  # stays so when the client goes away first
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_end, stream, nursery.cancel_scope)
            nursery.start_soon(_beat, stream)
            line = await self._answer(request)
            nursery.cancel_scope.cancel()
        if line is not None:
            await _say(stream, line)

    async def _answer(self, request: control.Request) -> bytes:
        try:
            line = control.result_line(await self._handler(request))
        except OSError as error:
            return control.failure_line(from_oserror(error, request.command))
        except LibreSeedError as error:
            return control.failure_line(error)
        if len(line) > limits.CONTROL_RESPONSE_BYTES:
            return control.failure_line(LocalFault("storage.busy", "the answer is longer than the protocol allows"))
        return line

    def _authorise(self, connection: trio.socket.SocketType) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, gid = _UCRED.unpack(credentials)
        if uid in _owner_uids():
            return
        if self._gid is not None and self._gid in {gid, *_supplementary_groups(connection)}:
            return
        raise UsageFault("config.control-forbidden", f"user {uid} (process {pid}) may not control this daemon")


def _owner_uids() -> frozenset[int]:
    return frozenset({0, os.geteuid()})


async def _read_request(stream: trio.SocketStream, files: contextlib.ExitStack) -> tuple[bytes, tuple[int, ...]]:
    """The request line and the descriptors that came with it, which ``files`` closes."""
    line, descriptors = bytearray(), list[int]()
    with trio.move_on_after(limits.CONTROL_REQUEST_SECONDS):
        while data := await _receive(stream, descriptors, files):
            line += data
            end = line.find(b"\n")
            if end > limits.CONTROL_REQUEST_BYTES or (end < 0 and len(line) > limits.CONTROL_REQUEST_BYTES):
                raise UsageFault("control.request", f"a request line has at most {limits.CONTROL_REQUEST_BYTES} bytes")
            if 0 <= end < len(line) - 1:
                raise UsageFault("control.request", "a connection carries one request")
            if end >= 0:
                return bytes(line[:end]), tuple(descriptors)
        raise UsageFault("control.request", "the connection ended within the request")
    raise UsageFault("control.request", f"no request within {limits.CONTROL_REQUEST_SECONDS} seconds")


async def _receive(stream: trio.SocketStream, descriptors: list[int], files: contextlib.ExitStack) -> bytes:
    space = socket.CMSG_SPACE(limits.CONTROL_DESCRIPTORS * 4)
    data, ancillary, flags, _ = await stream.socket.recvmsg(
        limits.CONTROL_REQUEST_BYTES, space, socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for (descriptor,) in struct.iter_unpack("i", payload[: len(payload) // 4 * 4]):
                files.callback(os.close, descriptor)
                descriptors.append(descriptor)
    if flags & socket.MSG_CTRUNC or len(descriptors) > limits.CONTROL_DESCRIPTORS:
        raise UsageFault("control.request", f"at most {limits.CONTROL_DESCRIPTORS} files can be handed over")
    return data


async def _cancel_at_end(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """End the command when its client closes the connection, or says anything more."""
    await stream.receive_some(1)
    scope.cancel()


async def _beat(stream: trio.SocketStream) -> None:
    while True:
        await trio.sleep(limits.CONTROL_BEAT_SECONDS)
        await _say(stream, control.working_line())


async def _say(stream: trio.SocketStream, line: bytes) -> None:
    # Shielded: a line that was begun is ended, else the next one would be unreadable.
    with trio.fail_after(limits.CONTROL_REPLY_SECONDS) as scope:
        scope.shield = True
        await stream.send_all(line)


def _supplementary_groups(connection: trio.socket.SocketType) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * 1024)
    except OSError:  # an older kernel, or more groups than any user has: then only the primary group counts
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise UsageFault("config.value", f"control-group: there is no group {group!r}") from error
