"""Answers to GET and HEAD: a representation with its size and strong ETag, whole, in ranges, or not at all (RFC 9110).

The bytes come from a :class:`Body` in portions of at most ``limits.HTTP_PORTION_BYTES``, so an answer of any size takes
the memory of one. The first portion is read before the head goes out; a body that fails later leaves a short answer,
and the server closes the connection: that is the only way left to say so.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from libreseed import limits
from libreseed.adapters.http.guards import Scope, Send, problem
from libreseed.adapters.http.ranges import Span, Unsatisfiable, not_modified, precondition_fails, select

__all__ = ["Body", "Entity", "InMemory", "headers_of", "respond"]

Fields = Sequence[tuple[str, str]]


class Body(Protocol):
    """Where the bytes of an answer come from."""

    def prepare(self, spans: Sequence[Span]) -> None:
        """Raise, before anything is sent, if not all of ``spans`` can be had."""

    def read(self, start: int, stop: int) -> Awaitable[bytes]:
        """The bytes from ``start`` up to ``stop``, all of them; at most one portion is asked for at a time."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """A small body."""

    data: bytes

    def prepare(self, spans: Sequence[Span]) -> None:
        """All of it is there."""

    async def read(self, start: int, stop: int) -> bytes:
        """As the protocol says."""
        return self.data[start:stop]


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class Entity:
    """A representation: ``etag`` with its quotes, ``fields`` are further header fields of a success."""

    size: int
    etag: str
    media_type: str
    body: Body
    fields: Fields = ()

    @classmethod
    def of_bytes(cls, data: bytes, etag: str, media_type: str, fields: Fields = ()) -> Entity:
        """One that is in memory."""
        return cls(len(data), etag, media_type, InMemory(data), fields)


def headers_of(scope: Scope) -> dict[str, str]:
    """Header fields by lower-case name; a field that is given several times is joined by commas."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


async def respond(scope: Scope, send: Send, entity: Entity) -> int:
    """Answer a GET or HEAD with ``entity``, as the request's conditions and ranges want it; returns the status."""
    headers = headers_of(scope)
    common: Fields = (("etag", entity.etag), ("accept-ranges", "bytes"), *entity.fields)
    if precondition_fails(headers, entity.etag):
        await problem(send, 412, "http.precondition")
        return 412
    if not_modified(headers, entity.etag):
        await _start(send, 304, common)
        await send({"type": "http.response.body", "body": b""})
        return 304
    is_head = scope["method"] == "HEAD"
    try:
        spans = None if is_head else select(headers, entity.size, entity.etag).spans
    except Unsatisfiable:
        await problem(send, 416, "http.range", headers=[(b"content-range", b"bytes */%d" % entity.size)])
        return 416
    if spans is None:
        fields = (("content-type", entity.media_type), ("content-length", str(entity.size)), *common)
        await _send(send, _Head(200, fields), entity.body, [] if is_head else [(0, entity.size)])
        return 200
    if len(spans) == 1:
        start, stop = spans[0]
        where = ("content-range", f"bytes {start}-{stop - 1}/{entity.size}")
        fields = (("content-type", entity.media_type), ("content-length", str(stop - start)), where, *common)
        await _send(send, _Head(206, fields), entity.body, spans)
        return 206
    await _send_parts(send, entity, spans, common)
    return 206


async def _send_parts(send: Send, entity: Entity, spans: Sequence[Span], common: Fields) -> None:
    """Several ranges: ``multipart/byteranges`` (RFC 9110, 14.6)."""
    boundary = secrets.token_hex(16)
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {entity.media_type}\r\n"
        f"Content-Range: bytes {start}-{stop - 1}/{entity.size}\r\n\r\n".encode()
        for start, stop in spans
    ]
    end = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(stop - start for start, stop in spans) + len(end)
    media_type = ("content-type", f"multipart/byteranges; boundary={boundary}")
    head = _Head(206, (media_type, ("content-length", str(length)), *common))
    await _send(send, head, entity.body, spans, (heads, end))


async def _send(
    send: Send, head: _Head, body: Body, spans: Sequence[Span], frame: tuple[Sequence[bytes], bytes] | None = None
) -> None:
    portions = _portions(spans)
    body.prepare(spans)
    data = b""
    if portions:  # before the head goes out: what cannot be read at all is no success
        data = await body.read(*portions[0][1])
    await _start(send, head.status, head.fields)
    for place, (number, span) in enumerate(portions):
        if place:
            data = await body.read(*span)
        if frame is not None and number >= 0:
            data = frame[0][number] + data
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": frame[1] if frame is not None else b""})


def _portions(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """The spans, cut; each portion with the number of the span that begins with it, or -1."""
    step = limits.HTTP_PORTION_BYTES
    return [
        (number if at == start else -1, (at, min(at + step, stop)))
        for number, (start, stop) in enumerate(spans)
        for at in range(start, stop, step)
    ]


async def _start(send: Send, status: int, fields: Fields) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
