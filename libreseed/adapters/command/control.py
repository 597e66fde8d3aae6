"""The seeder's control protocol and its client: one request and its replies over a unix socket (docs/operations.md).

A connection carries one request line and any number of reply lines, all canonical JSON (section 3.1) ended by LF:
``{"arguments": {...}, "command": "add"}``, then ``{"working": true}`` while the daemon is busy, then
``{"result": {...}}`` or ``{"failure": {...}}``. Closing the connection early cancels the command. Lines are bounded.

This module blocks and does not know what the commands mean; :mod:`libreseed.adapters.command.control_server` is
the server.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from libreseed import limits, wire
from libreseed.errors import LibreSeedError, LocalFault, Malformed, TransportFault, UsageFault
from libreseed.reasons import REASONS

__all__ = [
    "Request",
    "call",
    "failure_line",
    "parse_request",
    "reachable_address",
    "request_line",
    "result_line",
    "working_line",
]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for: a command and its named arguments (JSON values without floats).

    ``descriptors`` are open files that travel beside the line (SCM_RIGHTS), for a daemon that may not open them itself.
    The server closes them when the command has ended.
    """

    command: str
    arguments: Mapping[str, wire.JsonValue]
    descriptors: tuple[int, ...] = ()

    def text(self, name: str) -> str:
        """The argument ``name``, which must be a text that is not empty; raises UsageFault ``control.request``."""
        value = self.arguments.get(name)
        if not isinstance(value, str) or not value:
            raise UsageFault("control.request", f"{self.command} needs the text argument {name!r}")
        return value

    def only(self, *names: str) -> None:
        """Demand that no other argument than ``names`` was given."""
        if unknown := self.arguments.keys() - set(names):
            raise UsageFault("control.request", f"{self.command} has no argument {min(unknown)!r:.80}")


def request_line(request: Request) -> bytes:
    """The line that asks for ``request``."""
    return wire.canonical({"arguments": dict(request.arguments), "command": request.command}) + b"\n"


def parse_request(line: bytes, descriptors: tuple[int, ...] = ()) -> Request:
    """Read a request line without its LF; raises UsageFault ``control.request``."""
    try:
        document = wire.parse(line, max_bytes=limits.CONTROL_REQUEST_BYTES)
        members = wire.require_members(document, ("command", "arguments"))
    except Malformed as error:
        raise UsageFault("control.request", f"not a request: {error.message}") from error
    command, arguments = members["command"], members["arguments"]
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise UsageFault("control.request", "'command' is a text, 'arguments' an object")
    return Request(command, arguments, descriptors)


def working_line() -> bytes:
    """The line that says: still at it."""
    return wire.canonical({"working": True}) + b"\n"


def result_line(result: Mapping[str, wire.JsonValue]) -> bytes:
    """The line that ends a command that succeeded."""
    return wire.canonical({"result": dict(result)}) + b"\n"


def failure_line(error: LibreSeedError) -> bytes:
    """The line that ends a command that failed; the client raises the same reason again."""
    return wire.canonical({"failure": {"message": error.message, "reason": error.reason}}) + b"\n"


@contextlib.contextmanager
def reachable_address(path: Path) -> Iterator[str]:
    """An address for ``path`` that fits into ``sockaddr_un`` (107 bytes) however deep the directory lies.

    ``OSError`` passes when the directory of ``path`` cannot be opened.
    """
    if len(os.fsencode(path)) <= 107:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def call(path: Path, request: Request, *, on_working: Callable[[], None] = lambda: None) -> dict[str, wire.JsonValue]:
    """Ask the daemon behind the socket ``path``; returns its result or raises what it failed with.

    Also raises ``config.no-daemon``, ``config.control-forbidden``, and ``deadline.daemon`` when it falls silent.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limits.CONTROL_SILENCE_SECONDS)
        _connect(connection, path)
        try:
            # A daemon that refuses may have closed already; what it said is still there to be read.
            with contextlib.suppress(BrokenPipeError):
                _send(connection, request)
            for line in _lines(connection):
                answer = _parse_reply(line)
                if "working" not in answer:
                    return _outcome(answer)
                on_working()
        except TimeoutError as error:
            raise TransportFault("deadline.daemon", f"the daemon behind {path} does not answer") from error
        except ConnectionError as error:
            raise LocalFault("config.no-daemon", f"the daemon behind {path} went away: {error}") from error
    raise LocalFault("config.no-daemon", f"the daemon behind {path} closed the connection without an answer")


def _send(connection: socket.socket, request: Request) -> None:
    line = request_line(request)
    sent = socket.send_fds(connection, [line], list(request.descriptors)) if request.descriptors else 0
    connection.sendall(line[sent:])


def _connect(connection: socket.socket, path: Path) -> None:
    try:
        with reachable_address(path) as address:
            connection.connect(address)
    except PermissionError as error:
        raise LocalFault("config.control-forbidden", f"may not use the control socket {path}") from error
    except TimeoutError as error:
        raise TransportFault("deadline.daemon", f"the daemon behind {path} does not answer") from error
    except (FileNotFoundError, NotADirectoryError, ConnectionError) as error:
        raise LocalFault("config.no-daemon", f"no daemon answers at {path}: {error.strerror}") from error


def _lines(connection: socket.socket) -> Iterator[bytes]:
    pending = bytearray()
    while data := connection.recv(2**16):
        pending += data
        while (end := pending.find(b"\n")) >= 0:
            yield bytes(pending[:end])
            del pending[: end + 1]
        if len(pending) > limits.CONTROL_RESPONSE_BYTES:
            raise LocalFault("control.request", "the daemon's answer is longer than any it may give")


def _parse_reply(line: bytes) -> dict[str, wire.JsonValue]:
    try:
        answer = wire.parse(line, max_bytes=limits.CONTROL_RESPONSE_BYTES)
        return wire.require_members(answer, (), ("working", "result", "failure"))
    except Malformed as error:
        raise LocalFault("control.request", f"the daemon's answer is not understood: {error.message}") from error


def _outcome(answer: dict[str, wire.JsonValue]) -> dict[str, wire.JsonValue]:
    result, failure = answer.get("result"), answer.get("failure")
    if isinstance(result, dict):
        return result
    if isinstance(failure, dict) and failure.get("reason") in REASONS:
        raise LibreSeedError(failure["reason"], str(failure.get("message", "")))
    raise LocalFault("control.request", f"the daemon's answer is not understood: {answer!r:.200}")
