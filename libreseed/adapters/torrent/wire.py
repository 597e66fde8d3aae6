"""Byte ranges of a torrent from one peer, over our own connection: single chunks of pieces that libtorrent refuses.

Why: libtorrent takes whole pieces and bans who serves a damaged one, though all of its 5120-byte chunks but one may be
good. Invariants: at most ``PEER_REQUESTS`` requests are open; a peer that is silent for ``patience_s`` is given up with
``source.peer-silent``; memory is bounded by the ranges asked for. The bytes are **unverified**: the caller checks each
chunk against the chunk map. Specification: docs/specification/swarm.md, "Salvage".
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import trio

from libreseed import limits
from libreseed.adapters.torrent.events import Address
from libreseed.errors import TransportFault
from libreseed.torrent.peer_wire import Block, BlockRefused, Choked, PeerWire, Request

__all__ = ["ChunkPeer", "TorrentSpace", "UnverifiedRange"]


@dataclass(frozen=True, slots=True)
class TorrentSpace:
    """The linear space of a torrent: which hash names it (v1, or v2 truncated), how it is cut. Sizes are bytes."""

    info_hash: bytes
    piece_bytes: int
    pieces: int

    def requests(self, offset: int, length: int) -> list[Request]:
        """Requests for ``length`` bytes at ``offset``, none across a piece or longer than a block."""
        if offset < 0 or length < 1 or offset + length > self.piece_bytes * self.pieces:
            raise ValueError(f"{length} bytes at {offset} are not in the torrent")
        found = []
        end = offset + length
        while offset < end:
            index, begin = divmod(offset, self.piece_bytes)
            size = min(end - offset, self.piece_bytes - begin, limits.PEER_BLOCK_BYTES)
            found.append(Request(index, begin, size))
            offset += size
        return found


@dataclass(frozen=True, slots=True)
class UnverifiedRange:
    """What the peer sent for ``[offset, offset + length)``; ``data`` is None when it does not serve it."""

    offset: int
    length: int
    data: bytes | None


class ChunkPeer:
    """A connection made by :meth:`connect`. One task uses it."""

    def __init__(self, stream: trio.abc.Stream, space: TorrentSpace, patience_s: float) -> None:
        self.space = space
        self._stream = stream
        self._patience_s = patience_s
        self._wire = PeerWire(space.info_hash, b"-LS0001-" + os.urandom(12), space.pieces)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: Address, space: TorrentSpace, *, patience_s: float = limits.PEER_PATIENCE_S
    ) -> AsyncIterator[ChunkPeer]:
        """Connect, shake hands and wait until the peer serves; raises ``source.peer-*``."""
        deadline = trio.current_time() + patience_s
        try:
            with trio.fail_at(deadline):
                stream = await trio.open_tcp_stream(*address)
        except OSError as error:
            raise TransportFault("source.peer-refused", f"{address[0]}:{address[1]}: {error}") from error
        except trio.TooSlowError as error:
            raise TransportFault("source.peer-silent", f"{address[0]}:{address[1]} does not answer") from error
        async with stream:
            peer = cls(stream, space, patience_s)
            await peer._send(peer._wire.opening())
            while peer._wire.choked:
                await peer._receive(deadline)
            yield peer

    def has(self, index: int) -> bool:
        """Whether the peer says that it has piece ``index``."""
        return self._wire.have[index]

    async def fetch(self, offset: int, length: int) -> bytes:
        """``length`` unverified bytes at ``offset`` of the torrent; raises ``source.peer-refused`` and others."""
        async with aclosing(self.fetch_all([(offset, length)])) as found:
            async for part in found:
                if part.data is not None:
                    return part.data
        raise TransportFault("source.peer-refused", f"the peer does not serve {length} bytes at {offset}")

    async def fetch_all(self, ranges: Iterable[tuple[int, int]]) -> AsyncGenerator[UnverifiedRange, None]:
        """Every ``(offset, length)``, requests pipelined, in the order in which they complete."""
        work = _Work(self.space, ranges)
        deadline = trio.current_time() + self._patience_s
        while not work.done:
            asked = [self._wire.ask(request) for request in work.start(self._wire.queue_limit, self._wire.have)]
            if asked:
                await self._send(b"".join(asked))
            if work.open:
                answers = [self._feed(work, event) for event in await self._receive(deadline)]
                if any(answers):
                    deadline = trio.current_time() + self._patience_s
                while self._wire.choked and not work.done:
                    await self._receive(deadline)
            while work.finished:
                yield work.finished.popleft()

    @staticmethod
    def _feed(work: _Work, event: object) -> bool:
        """Note what an event means for the ranges; True when it answers a request."""
        match event:
            case Block(request, data):
                work.answer(request, data)
            case BlockRefused(request):
                work.answer(request, None)
            case Choked():
                work.ask_again()
                return False
            case _:
                return False
        return True

    async def _send(self, data: bytes) -> None:
        try:
            with trio.fail_after(self._patience_s):
                await self._stream.send_all(data)
        except trio.TooSlowError as error:
            raise TransportFault("source.peer-silent", "the peer does not take our requests") from error
        except trio.BrokenResourceError as error:
            raise TransportFault("source.peer-refused", "the peer closed the connection") from error

    async def _receive(self, deadline: float) -> list[object]:
        """Events of what arrives next; at ``deadline`` the peer counts as silent, whatever else it sends."""
        try:
            with trio.fail_at(deadline):
                while True:
                    data = await self._stream.receive_some(limits.PEER_FRAME_BYTES)
                    if not data:
                        raise TransportFault("source.peer-refused", "the peer closed the connection")
                    if events := self._wire.receive(bytes(data)):
                        return list(events)
        except trio.TooSlowError as error:
            raise TransportFault("source.peer-silent", f"no answer for {self._patience_s:g} s") from error
        except trio.BrokenResourceError as error:
            raise TransportFault("source.peer-refused", "the peer closed the connection") from error


class _Work:
    """Which requests of which ranges are waiting, open and answered."""

    def __init__(self, space: TorrentSpace, ranges: Iterable[tuple[int, int]]) -> None:
        self.finished: deque[UnverifiedRange] = deque()
        self._waiting: deque[Request] = deque()
        self._open: set[Request] = set()
        self._parts: dict[tuple[int, int], dict[Request, bytes | None]] = {}
        self._users: dict[Request, list[tuple[int, int]]] = {}
        for wanted in dict.fromkeys(ranges):
            requests = space.requests(*wanted)
            self._parts[wanted] = dict.fromkeys(requests)
            for request in requests:
                self._users.setdefault(request, []).append(wanted)
        self._missing = {wanted: len(parts) for wanted, parts in self._parts.items()}
        self._waiting.extend(self._users)

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def done(self) -> bool:
        return not self._parts and not self.finished

    def start(self, most: int, have: list[bool]) -> list[Request]:
        """The requests to send now, at most ``most`` open ones in total; what the peer lacks is answered with None."""
        chosen = []
        while self._waiting and len(self._open) < most:
            request = self._waiting.popleft()
            self._open.add(request)
            if have[request.index]:
                chosen.append(request)
            else:
                self.answer(request, None)
        return chosen

    def answer(self, request: Request, data: bytes | None) -> None:
        if request not in self._open:
            return  # it was asked for again after a choke, and both answers came
        self._open.discard(request)
        for wanted in self._users[request]:
            parts = self._parts[wanted]
            parts[request] = data
            self._missing[wanted] -= 1
            if not self._missing[wanted]:
                del self._parts[wanted]
                whole = [part for part in parts.values() if part is not None]
                joined = b"".join(whole) if len(whole) == len(parts) else None
                self.finished.append(UnverifiedRange(*wanted, joined))

    def ask_again(self) -> None:
        self._waiting.extendleft(self._open)
        self._open.clear()
