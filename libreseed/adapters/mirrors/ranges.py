"""Ranges of a file over HTTP: one answer at a time, read into the caller's memory, with the status for the caller.

:class:`RangeBody` is what both ways of reading give: :class:`ClientRanges` over the general client, and
:class:`libreseed.adapters.mirrors.direct.DirectRanges` over a plain connection. A body gives exactly the span asked
for or raises ``http.*``; what is asked for and refused is a :class:`RangeRefused`. Verifies no content.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from libreseed.adapters.http.client import HttpClient
from libreseed.errors import TransportFault

__all__ = ["ClientRanges", "RangeBody", "RangeRefused", "Ranges", "read_pause"]


class RangeRefused(Exception):
    """The mirror answers, and does not give this span now; ``pause_s`` is the rest that it asks for (0: none)."""

    def __init__(self, status: int, pause_s: float) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.pause_s = pause_s


class RangeBody(Protocol):
    """The bytes of one span, in order."""

    async def receive_into(self, view: memoryview) -> int:
        """Fill the start of ``view``, which is no longer than what is left; returns how many bytes, at least one.

        Raises ``http.cut-off`` when the body ends early, and other ``http.*``.
        """
        ...


class Ranges(Protocol):
    """A way to ask for ranges."""

    def open(self, url: str, start: int, stop: int) -> AbstractAsyncContextManager[RangeBody]:
        """Ask for the bytes ``start`` up to, without, ``stop``; raises ``http.*`` or :class:`RangeRefused`."""
        ...


class ClientRanges:
    """Ranges over :class:`HttpClient`: any URL that it can ask, by way of proxies and redirects."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    @asynccontextmanager
    async def open(self, url: str, start: int, stop: int) -> AsyncIterator[RangeBody]:
        """As :meth:`Ranges.open`."""
        async with self._client.stream(url, most=stop - start, span=(start, stop)) as stream:
            if stream.status != 206:
                raise RangeRefused(stream.status, read_pause(stream.headers.get("retry-after", "")))
            yield _StreamBody(url, stream.chunks())


class _StreamBody:
    def __init__(self, url: str, chunks: AsyncIterator[bytes]) -> None:
        self._url = url
        self._chunks = chunks
        self._rest = memoryview(b"")

    async def receive_into(self, view: memoryview) -> int:
        while not self._rest:
            data = await anext(self._chunks, None)
            if data is None:
                raise TransportFault("http.cut-off", f"{self._url} ends before the bytes asked for do")
            self._rest = memoryview(data)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def read_pause(retry_after: str) -> float:
    """Seconds of a ``Retry-After`` in seconds; 0 for any other form."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else 0.0
