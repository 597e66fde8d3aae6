"""What a torrent tells its owner: frozen events, and the channel that carries them.

Invariants of :class:`EventChannel`: the alert task never waits for a slow consumer; memory is bounded by the number of
pieces and of peers that were banned, because equal events merge while they wait; nothing is lost: a piece that is done
is reported once after the last report was read. Does not judge what an event means.
Specification: docs/specification/swarm.md, "Events".
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import trio

__all__ = [
    "Address",
    "EventChannel",
    "MetadataReceived",
    "PeerBanned",
    "PeerCount",
    "PieceDone",
    "PieceFailed",
    "TorrentError",
    "TorrentEvent",
]

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class MetadataReceived:
    """The info dictionary is here and hashes to the info-hash that was asked for."""


@dataclass(frozen=True, slots=True)
class PieceDone:
    """Piece ``index`` passed libtorrent's hash check and any thread can read it from its file."""

    index: int


@dataclass(frozen=True, slots=True)
class PieceFailed:
    """Piece ``index`` did not hash to what the metadata says; its bytes may still lie in the file, unverified."""

    index: int


@dataclass(frozen=True, slots=True)
class PeerBanned:
    """libtorrent will not speak to this peer again: it took part in pieces that failed."""

    address: Address


@dataclass(frozen=True, slots=True)
class PeerCount:
    """How many peers have finished their handshake."""

    connected: int


@dataclass(frozen=True, slots=True)
class TorrentError:
    """libtorrent stopped the torrent: because of the disk, or (``content_fault``) because its v1 and v2 hashes do not
    describe the same bytes, which is the publisher's fault and no peer's.
    """

    message: str
    content_fault: bool = False


TorrentEvent = MetadataReceived | PieceDone | PieceFailed | PeerBanned | PeerCount | TorrentError


def _merge_key(event: TorrentEvent) -> object:
    """Events with one key replace each other while they wait: only the newest peer count and error matter."""
    return type(event) if isinstance(event, PeerCount | TorrentError) else event


class EventChannel(trio.abc.ReceiveChannel[TorrentEvent]):
    """The events of one torrent, oldest first. One task reads; the session's alert task is the only writer."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[object, TorrentEvent] = OrderedDict()
        self._send, self._wake = trio.open_memory_channel[None](1)
        self._closed = False

    def put(self, event: TorrentEvent) -> None:
        """Add an event without ever waiting; called by the alert task."""
        if self._closed:
            return
        if not self._waiting:  # else the reader is told already, or has not come back for the rest
            self._notify()
        self._waiting[_merge_key(event)] = event

    def end(self) -> None:
        """No more events will come; called by the session. What waits can still be read."""
        self._send.close()

    def receive_nowait(self) -> TorrentEvent:
        """The oldest waiting event; raises ``trio.WouldBlock`` when there is none."""
        if not self._waiting:
            raise trio.WouldBlock
        return self._waiting.popitem(last=False)[1]

    async def receive(self) -> TorrentEvent:
        """The oldest event; raises ``trio.EndOfChannel`` once the torrent is removed and everything was read."""
        return (await self.receive_batch(1))[0]

    async def receive_batch(self, most: float = math.inf) -> list[TorrentEvent]:
        """All events that wait, at least one and at most ``most``; saves a task switch per piece in a fast download."""
        while not self._waiting:
            await self._wake.receive()
        await trio.lowlevel.checkpoint_if_cancelled()
        return [self.receive_nowait() for _ in range(int(min(most, len(self._waiting))))]

    async def aclose(self) -> None:
        """Stop listening: later events are dropped."""
        self._closed = True
        self._waiting.clear()
        self._wake.close()
        await trio.lowlevel.checkpoint()

    def _notify(self) -> None:
        try:
            self._send.send_nowait(None)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            return  # a wake-up is pending already, or nobody listens any more
