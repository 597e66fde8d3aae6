"""A mirror on loopback for tests, as small as can be, and honest until a test gives it a temper.

It answers GET with or without one Range from files in memory, over HTTP/1.1 with keep-alive. A *temper* sees each
request before it is answered and may answer in its place: it returns True then.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import trio

from libreseed.limits import CHUNK_BYTES
from tests.resolver_support import Sample

_REQUEST = re.compile(rb"GET (\S+) HTTP/1\.1\r\n")
_RANGE = re.compile(rb"(?im)^range: bytes=([0-9]+)-([0-9]+)\r?$")
_HOSTS = itertools.count(1)


@dataclass(frozen=True)
class Asked:
    """One request; ``span`` is (first, last + 1) of its Range."""

    path: str
    span: tuple[int, int] | None
    head: bytes


Temper = Callable[["FakeMirror", Asked, trio.SocketStream], Awaitable[bool]]


@dataclass
class FakeMirror:
    """``files`` by path; ``sent`` counts bytes of bodies, ``asked`` keeps every request."""

    files: dict[str, bytes]
    temper: Temper | None = None
    url: str = ""
    sent: int = 0
    asked: list[Asked] = field(default_factory=list)
    enough: trio.Event = field(default_factory=trio.Event)  # set by :func:`slowed`

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        high, low = divmod(next(_HOSTS), 250)
        host = f"127.1.{high}.{2 + low}"
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        self.url = f"http://{host}:{listener.socket.getsockname()[1]}"
        await trio.serve_listeners(self._serve, [listener], task_status=task_status)

    async def _serve(self, stream: trio.SocketStream) -> None:
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = await stream.receive_some(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                if not await self._answer(head + b"\r\n", stream):
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, head: bytes, stream: trio.SocketStream) -> bool:
        request, ranged = _REQUEST.match(head), _RANGE.search(head)
        assert request, head
        span = (int(ranged[1]), int(ranged[2]) + 1) if ranged else None
        asked = Asked(request[1].decode(), span, head)
        self.asked.append(asked)
        if self.temper is not None and await self.temper(self, asked, stream):
            return False
        body = self.files.get(asked.path)
        if body is None:
            await self.reply(stream, 404, b"")
        elif span is None:
            await self.reply(stream, 200, body)
        elif span[1] > len(body):
            await self.reply(stream, 416, b"", f"Content-Range: bytes */{len(body)}")
        else:
            await self.reply(stream, 206, body[slice(*span)], content_range(span, len(body)))
        return True

    async def reply(self, stream: trio.SocketStream, status: int, body: bytes, *fields: str) -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *fields, "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        for start in range(0, len(body), 65536):
            await stream.send_all(body[start : start + 65536])
            self.sent += len(body[start : start + 65536])


def content_range(span: tuple[int, int], size: int) -> str:
    return f"Content-Range: bytes {span[0]}-{span[1] - 1}/{size}"


def files_of(sample: Sample) -> dict[str, bytes]:
    """What an honest mirror has of ``sample``, by path."""
    release = str(sample.minimal.release)
    packages, seed = f"/packages/{release}", f"/seed/{release}/{release}"
    files = {
        f"{packages}/{name}": sample.files.path(suffix).read_bytes()
        for name, suffix in (("minimal.json", ".minimal.json"), ("torrent", ".torrent"), ("chunks", ".chunks"))
    }
    return files | {
        f"{seed}.tgz": sample.files.tgz.read_bytes(),
        f"{seed}.parity": sample.files.path(".parity").read_bytes(),
    }


def tgz_path(sample: Sample) -> str:
    return f"/seed/{sample.minimal.release}/{sample.minimal.release}.tgz"


def without_chunks(files: dict[str, bytes], sample: Sample, chunks: Iterable[int]) -> dict[str, bytes]:
    """``files`` with junk in the place of these chunks of the .tgz: a damaged copy that does not know it."""
    data = bytearray(files[tgz_path(sample)])
    for chunk in chunks:
        start, stop = chunk * CHUNK_BYTES, min((chunk + 1) * CHUNK_BYTES, len(data))
        data[start:stop] = bytes([chunk % 251 + 1]) * (stop - start)
    return files | {tgz_path(sample): bytes(data)}


async def start(nursery: trio.Nursery, files: dict[str, bytes], temper: Temper | None = None) -> FakeMirror:
    """A mirror that serves until the nursery ends."""
    mirror = FakeMirror(files, temper)
    await nursery.start(mirror.run)
    return mirror


def refusing(chunks: set[int], status: int = 503) -> Temper:
    """A mirror that knows what it lacks: no range of the .tgz with any of these chunks is given."""

    async def temper(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
        if asked.span is None or not asked.path.endswith(".tgz"):
            return False
        if chunks.isdisjoint(range(asked.span[0] // CHUNK_BYTES, -(-asked.span[1] // CHUNK_BYTES))):
            return False
        await mirror.reply(stream, status, b"")
        return True

    return temper


def slowed(bytes_per_second: float, enough: float = math.inf) -> Temper:
    """An honest mirror with a thin line: each connection gets so much. It tells when ``enough`` bytes were sent."""

    async def temper(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
        if asked.span is None or not asked.path.endswith(".tgz"):
            return False
        data = mirror.files[asked.path]
        head = f"HTTP/1.1 206 X\r\nContent-Length: {asked.span[1] - asked.span[0]}\r\n"
        await stream.send_all(f"{head}{content_range(asked.span, len(data))}\r\n\r\n".encode())
        for start in range(*asked.span, CHUNK_BYTES):
            part = data[start : min(start + CHUNK_BYTES, asked.span[1])]
            await stream.send_all(part)
            mirror.sent += len(part)
            if mirror.sent >= enough:
                mirror.enough.set()
            await trio.sleep(len(part) / bytes_per_second)
        return True

    return temper
