"""A second door for clients that cannot compute a hybrid torrent's v1 info-hash, such as aria2 before 1.37.

Such a client drops the members with an empty name, which BEP 52 needs, and asks for the info-hash of what is left
(:func:`libreseed.torrent.legacy.hash_without_empty_names`). Whoever knocks here with that hash is led to our own
session: the 20 bytes are exchanged in both handshakes, and from then on bytes go through unread. The session verifies
what it receives and the client what it gets, as always; nothing is trusted here. Any other hash, an encrypted
handshake or a silent caller is sent away. The number of callers is bounded. docs/specification/torrent.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import trio

from libreseed import limits
from libreseed.dht.addresses import family_of
from libreseed.errors import LocalFault

__all__ = ["LegacyDoor"]

_HANDSHAKE_BYTES = 68  # BEP 3: 1 + 19 + 8 reserved + info-hash + peer id
_GREETING = b"\x13BitTorrent protocol"
_HASH = slice(28, 48)
_ATTEMPTS = 8


class LegacyDoor:
    """Listens on ``port`` (0: any) of ``hosts`` and leads admitted callers to the session at ``session``.

    One task owns it: :meth:`run` in it, :meth:`admit` and :meth:`dismiss` from the same trio thread.
    """

    def __init__(self, session: tuple[str, int], *, hosts: Sequence[str], port: int = 0) -> None:
        self._session = session
        self._hosts = tuple(dict.fromkeys(hosts))
        self._wanted = port
        self._known: dict[bytes, bytes] = {}
        self._places = trio.CapacityLimiter(limits.LEGACY_CALLERS)
        self.port = 0

    @property
    def ports(self) -> dict[int, int]:
        """IP family (4, 6) -> :attr:`port`, for every family that it listens on."""
        return {family_of(host): self.port for host in self._hosts}

    def admit(self, legacy: bytes, v1: bytes) -> None:
        """Lead callers that ask for ``legacy`` (20 bytes) to the torrent ``v1`` (20 bytes)."""
        if len(legacy) != 20 or len(v1) != 20:
            raise ValueError("an info-hash is 20 bytes")
        self._known[legacy] = v1

    def dismiss(self, legacy: bytes) -> None:
        """Send callers that ask for ``legacy`` away; those inside stay."""
        self._known.pop(legacy, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once :attr:`port` is bound on every host; ``config.port`` if it cannot be."""
        listeners = await self._listen()
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._meet, listeners)

    async def _listen(self) -> list[trio.SocketListener]:
        """The same port everywhere; one that the system chose for the first host may be taken on another."""
        attempts = 1 if self._wanted else _ATTEMPTS
        while True:
            attempts -= 1
            async with contextlib.AsyncExitStack() as opened:
                listeners: list[trio.SocketListener] = []
                try:
                    for host in self._hosts:
                        port = listeners[0].socket.getsockname()[1] if listeners else self._wanted
                        for listener in await trio.open_tcp_listeners(port, host=host):
                            listeners.append(await opened.enter_async_context(listener))
                except OSError as error:
                    if not attempts:
                        text = f"the door for old clients cannot listen on {host} port {port}: {error.strerror}"
                        raise LocalFault("config.port", text) from error
                else:
                    opened.pop_all()
                    return listeners

    async def _meet(self, caller: trio.SocketStream) -> None:
        async with caller:
            try:
                self._places.acquire_nowait()
            except trio.WouldBlock:
                return
            try:
                await self._lead(caller)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                return  # either side went away: the caller's stream is closed on leaving
            finally:
                self._places.release()

    async def _lead(self, caller: trio.SocketStream) -> None:
        session: trio.SocketStream | None = None
        async with contextlib.AsyncExitStack() as streams:
            with trio.move_on_after(limits.LEGACY_HANDSHAKE_SECONDS):
                session = await self._introduce(caller, streams)
            if session is None:
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pass, caller, session, nursery.cancel_scope)
                nursery.start_soon(_pass, session, caller, nursery.cancel_scope)

    async def _introduce(
        self, caller: trio.SocketStream, streams: contextlib.AsyncExitStack
    ) -> trio.SocketStream | None:
        """Both handshakes; the stream to the session, or ``None`` if either side does not speak as it should."""
        greeting = await _receive(caller, _HANDSHAKE_BYTES)
        legacy = greeting[_HASH]
        if len(greeting) < _HANDSHAKE_BYTES or not greeting.startswith(_GREETING) or legacy not in self._known:
            return None
        v1 = self._known[legacy]
        session = await streams.enter_async_context(await trio.open_tcp_stream(*self._session))
        await session.send_all(_exchanged(greeting, v1))
        answer = await _receive(session, _HANDSHAKE_BYTES)
        if len(answer) < _HANDSHAKE_BYTES or answer[_HASH] != v1:
            return None
        await caller.send_all(_exchanged(answer, legacy))
        return session


async def _pass(source: trio.SocketStream, target: trio.SocketStream, both: trio.CancelScope) -> None:
    """Pass bytes on until the source ends; then end both directions. The session drops silent callers by itself."""
    while data := await source.receive_some(limits.LEGACY_PORTION_BYTES):
        await target.send_all(data)
    both.cancel()


async def _receive(stream: trio.SocketStream, size: int) -> bytes:
    """``size`` bytes, or fewer if the stream ends."""
    data = b""
    while len(data) < size and (more := await stream.receive_some(size - len(data))):
        data += more
    return data


def _exchanged(handshake: bytes, info_hash: bytes) -> bytes:
    return handshake[:28] + info_hash + handshake[48:]
