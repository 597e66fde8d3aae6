"""The BitTorrent peer protocol (BEP 3, 6, 10) as far as fetching byte ranges needs it: bytes in, frozen events out.

Invariants: at most one frame is buffered, and no frame is longer than :data:`limits.PEER_FRAME_BYTES`; a block is an
event only if it was requested and is complete; a peer that breaks a rule raises ``source.peer-protocol`` and the
connection is over. Opens no socket, knows no time, and verifies no content: the chunk map does.
Specification: docs/specification/swarm.md, "Salvage".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from libreseed import bencode, limits
from libreseed.errors import ContentRejected, Malformed, TransportFault
from libreseed.torrent.bitfield import unpack_bitfield

__all__ = [
    "Block",
    "BlockRefused",
    "Choked",
    "Handshaken",
    "HaveChanged",
    "PeerWire",
    "Request",
    "Unchoked",
    "WireEvent",
]

_PROTOCOL = b"\x13BitTorrent protocol"
_EXTENSIONS = bytes([0, 0, 0, 0, 0, 0x10, 0, 0x04])  # BEP 10, BEP 6
_HANDSHAKE_BYTES = 68
_FAST = 0x04

_CHOKE, _UNCHOKE, _INTERESTED, _NOT_INTERESTED, _HAVE, _BITFIELD, _REQUEST, _PIECE, _CANCEL, _PORT = range(10)
_SUGGEST, _HAVE_ALL, _HAVE_NONE, _REJECT, _ALLOWED_FAST = range(13, 18)
_EXTENDED = 20


@dataclass(frozen=True, slots=True)
class Request:
    """``length`` bytes (at most 16 KiB) at ``begin`` of piece ``index``."""

    index: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Handshaken:
    """The peer speaks about the same torrent. ``fast``: it answers every request, if only with a refusal (BEP 6)."""

    peer_id: bytes
    fast: bool


@dataclass(frozen=True, slots=True)
class HaveChanged:
    """What the peer has may have changed: see :attr:`PeerWire.have`."""


@dataclass(frozen=True, slots=True)
class Choked:
    """The peer will not serve for now; what was requested has to be requested again."""


@dataclass(frozen=True, slots=True)
class Unchoked:
    """The peer serves requests."""


@dataclass(frozen=True, slots=True)
class Block:
    """The bytes of a request, unverified."""

    request: Request
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockRefused:
    """The peer will not serve this request."""

    request: Request


WireEvent = Handshaken | HaveChanged | Choked | Unchoked | Block | BlockRefused


class PeerWire:
    """One connection. ``info_hash`` has 20 bytes (v1, or v2 truncated), ``pieces`` is the torrent's piece count."""

    def __init__(self, info_hash: bytes, peer_id: bytes, pieces: int) -> None:
        if len(info_hash) != 20 or len(peer_id) != 20 or pieces < 1:
            raise ValueError("an info-hash and a peer id have 20 bytes, a torrent has pieces")
        self.have = [False] * pieces
        self.choked = True
        self.queue_limit = limits.PEER_REQUESTS  # what the peer is willing to queue, by BEP 10's reqq
        self._info_hash = info_hash
        self._peer_id = peer_id
        self._buffer = bytearray()
        self._open = False
        self._fast = False
        self._announced = False
        self._asked: Counter[Request] = Counter()  # what a peer that chokes was asked before counts too

    def opening(self) -> bytes:
        """The first bytes to send: handshake, extended handshake without extensions, interest."""
        hello = bencode.encode({b"m": {}, b"reqq": 0})
        return (
            _PROTOCOL
            + _EXTENSIONS
            + self._info_hash
            + self._peer_id
            + _frame(_EXTENDED, b"\0" + hello)
            + _frame(_INTERESTED)
        )

    def ask(self, request: Request) -> bytes:
        """The bytes of a request; the caller keeps within ``queue_limit`` and what the peer has."""
        if not 0 < request.length <= limits.PEER_BLOCK_BYTES:
            raise ValueError(f"a request is for 1 to {limits.PEER_BLOCK_BYTES} bytes")
        self._asked[request] += 1
        return _frame(_REQUEST, b"".join(n.to_bytes(4, "big") for n in (request.index, request.begin, request.length)))

    def receive(self, data: bytes) -> list[WireEvent]:
        """Take bytes from the peer, in any portions; raises ``source.peer-protocol``."""
        self._buffer += data
        events: list[WireEvent] = []
        if not self._open:
            if len(self._buffer) < _HANDSHAKE_BYTES:
                return events
            events.append(self._handshake(bytes(self._buffer[:_HANDSHAKE_BYTES])))
            del self._buffer[:_HANDSHAKE_BYTES]
        for kind, payload in self._frames():
            handler = _HANDLERS.get(kind)
            if handler is not None:  # what a leecher sends us, DHT ports and extensions need no answer
                event = handler(self, payload)
                if event is not None:
                    events.append(event)
        return events

    def _handshake(self, data: bytes) -> Handshaken:
        if not data.startswith(_PROTOCOL):
            _broken("it does not speak BitTorrent")
        if data[28:48] != self._info_hash:
            _broken("it answers for another torrent")
        self._open = True
        self._fast = bool(data[27] & _FAST)
        return Handshaken(data[48:68], self._fast)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        position = 0
        while len(self._buffer) - position >= 4:
            size = int.from_bytes(self._buffer[position : position + 4], "big")
            if size > limits.PEER_FRAME_BYTES:
                _broken(f"a message of {size} bytes")
            if len(self._buffer) - position - 4 < size:
                break
            frame = bytes(self._buffer[position + 4 : position + 4 + size])
            position += 4 + size
            if frame:  # an empty one only keeps the connection alive
                yield frame[0], frame[1:]
        del self._buffer[:position]

    # --- messages ----------------------------------------------------------------------------------------------------
    def _on_choke(self, payload: bytes) -> WireEvent | None:
        _exactly(payload, 0, "choke")
        self.choked = True
        return Choked()

    def _on_unchoke(self, payload: bytes) -> WireEvent | None:
        _exactly(payload, 0, "unchoke")
        self.choked = False
        return Unchoked()

    def _on_have(self, payload: bytes) -> WireEvent | None:
        _exactly(payload, 4, "have")
        index = int.from_bytes(payload, "big")
        if index >= len(self.have):
            _broken(f"it has piece {index} of {len(self.have)}")
        self.have[index] = True
        return HaveChanged()

    def _on_bitfield(self, payload: bytes) -> WireEvent | None:
        self._announce_once()
        try:
            self.have = unpack_bitfield(payload, len(self.have))
        except ContentRejected as error:
            _broken(error.message)
        return HaveChanged()

    def _on_have_all(self, payload: bytes) -> WireEvent | None:
        _exactly(payload, 0, "have all")
        self._announce_once()
        self.have = [True] * len(self.have)
        return HaveChanged()

    def _on_have_none(self, payload: bytes) -> WireEvent | None:
        _exactly(payload, 0, "have none")
        self._announce_once()
        return None

    def _on_piece(self, payload: bytes) -> WireEvent | None:
        if len(payload) < 8:
            _broken("a block without its place")
        request = Request(_u32(payload, 0), _u32(payload, 4), len(payload) - 8)
        self._answered(request)
        return Block(request, payload[8:])

    def _on_reject(self, payload: bytes) -> WireEvent | None:
        _exactly(payload, 12, "reject")
        request = Request(_u32(payload, 0), _u32(payload, 4), _u32(payload, 8))
        self._answered(request)
        return BlockRefused(request)

    def _on_extended(self, payload: bytes) -> WireEvent | None:
        if payload[:1] != b"\0":
            return None  # we offer no extension, so the rest is none of our business
        try:
            hello = bencode.decode(payload[1:], max_bytes=limits.PEER_FRAME_BYTES)
        except Malformed:
            return None  # many clients are careless here, and nothing depends on it
        asked = hello.get(b"reqq") if isinstance(hello, dict) else None
        if isinstance(asked, int) and asked > 0:
            self.queue_limit = min(asked, limits.PEER_REQUESTS)
        return None

    def _answered(self, request: Request) -> None:
        if not self._asked[request]:
            _broken("it answers what was not asked for")
        self._asked[request] -= 1
        if not self._asked[request]:
            del self._asked[request]

    def _announce_once(self) -> None:
        if self._announced:
            _broken("it says twice what it has")
        self._announced = True


_HANDLERS: dict[int, Callable[[PeerWire, bytes], WireEvent | None]] = {
    _CHOKE: PeerWire._on_choke,
    _UNCHOKE: PeerWire._on_unchoke,
    _HAVE: PeerWire._on_have,
    _BITFIELD: PeerWire._on_bitfield,
    _PIECE: PeerWire._on_piece,
    _HAVE_ALL: PeerWire._on_have_all,
    _HAVE_NONE: PeerWire._on_have_none,
    _REJECT: PeerWire._on_reject,
    _EXTENDED: PeerWire._on_extended,
}


def _frame(kind: int, payload: bytes = b"") -> bytes:
    return (1 + len(payload)).to_bytes(4, "big") + bytes([kind]) + payload


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _exactly(payload: bytes, size: int, name: str) -> None:
    if len(payload) != size:
        _broken(f"a {name} message of {len(payload)} bytes")


def _broken(what: str) -> NoReturn:
    raise TransportFault("source.peer-protocol", f"the peer breaks the protocol: {what}")
