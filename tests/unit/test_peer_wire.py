"""docs/specification/swarm.md, "Salvage": the peer protocol as bytes in, events out; strict and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed import bencode, limits
from libreseed.errors import TransportFault
from libreseed.torrent.peer_wire import (
    Block,
    BlockRefused,
    Choked,
    Handshaken,
    HaveChanged,
    PeerWire,
    Request,
    Unchoked,
)

HASH = bytes(range(20))
HELLO = b"\x13BitTorrent protocol" + b"\0\0\0\0\0\x10\0\x04" + HASH + b"-XX0000-" + b"p" * 12


def message(kind: int, payload: bytes = b"") -> bytes:
    return (1 + len(payload)).to_bytes(4, "big") + bytes([kind]) + payload


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def opened() -> PeerWire:
    wire = PeerWire(HASH, b"-LS0001-" + b"x" * 12, 10)
    assert wire.receive(HELLO) == [Handshaken(HELLO[48:], fast=True)]
    return wire


def test_opening_is_handshake_extension_and_interest() -> None:
    data = PeerWire(HASH, b"i" * 20, 10).opening()
    assert data[:68] == b"\x13BitTorrent protocol" + b"\0\0\0\0\0\x10\0\x04" + HASH + b"i" * 20
    assert data[68:] == message(20, b"\0d1:mde4:reqqi0ee") + message(2)


def test_conversation() -> None:
    wire = opened()
    assert wire.choked
    request = Request(3, 5120, 5)
    assert wire.ask(request) == message(6, u32(3, 5120, 5))
    answer = message(5, b"\x10\x40") + bytes(4) + message(1) + message(7, u32(3, 5120) + b"bytes") + message(0)
    assert wire.receive(answer) == [HaveChanged(), Unchoked(), Block(request, b"bytes"), Choked()]
    assert [index for index, flag in enumerate(wire.have) if flag] == [3, 9]
    assert wire.receive(message(4, u32(0))) == [HaveChanged()]
    assert wire.have[0]


def test_refused_request() -> None:
    wire = opened()
    wire.ask(Request(1, 0, 16384))
    assert wire.receive(message(16, u32(1, 0, 16384))) == [BlockRefused(Request(1, 0, 16384))]


def test_peer_that_has_all_or_nothing() -> None:
    everything, nothing = opened(), opened()
    assert everything.receive(message(14)) == [HaveChanged()]
    assert all(everything.have)
    assert nothing.receive(message(15)) == []
    assert not any(nothing.have)


def test_queue_follows_the_peer_within_our_own_limit() -> None:
    wire = opened()
    wire.receive(message(20, b"\0" + bencode.encode({b"reqq": 7})))
    assert wire.queue_limit == 7
    wire.receive(message(20, b"\0" + bencode.encode({b"reqq": 10**6})))
    assert wire.queue_limit == limits.PEER_REQUESTS


@pytest.mark.parametrize("kind", [2, 3, 6, 8, 9, 13, 17, 21, 99])
def test_messages_that_need_no_answer_make_no_event(kind: int) -> None:
    assert opened().receive(message(kind, bytes(12))) == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(message(7, u32(3, 0) + b"unasked"), id="unasked block"),
        pytest.param(message(7, u32(3)), id="block without place"),
        pytest.param(message(16, u32(3, 0, 5)), id="unasked refusal"),
        pytest.param(message(4, u32(10)), id="piece past the end"),
        pytest.param(message(4, b""), id="short have"),
        pytest.param(message(5, b"\xff\xc0\x00"), id="long bitfield"),
        pytest.param(message(5, b"\xff"), id="short bitfield"),
        pytest.param(message(5, b"\xff\xff"), id="spare bits"),
        pytest.param(message(5, b"\xff\xc0") * 2, id="bitfield twice"),
        pytest.param(message(14) + message(15), id="all and none"),
        pytest.param(message(1, b"x"), id="long unchoke"),
        pytest.param((limits.PEER_FRAME_BYTES + 1).to_bytes(4, "big"), id="endless message"),
        pytest.param(b"\xff\xff\xff\xff", id="4 GiB message"),
    ],
)
def test_broken_rule_ends_the_connection(data: bytes) -> None:
    with pytest.raises(TransportFault) as broken:
        opened().receive(data)
    assert broken.value.reason == "source.peer-protocol"


@pytest.mark.parametrize("hello", [b"\x12" + HELLO[1:], HELLO[:28] + bytes(20) + HELLO[48:], bytes(68)])
def test_other_protocol_or_torrent_is_refused(hello: bytes) -> None:
    with pytest.raises(TransportFault) as broken:
        PeerWire(HASH, bytes(20), 1).receive(hello)
    assert broken.value.reason == "source.peer-protocol"


def test_block_is_taken_as_often_as_it_was_asked_for() -> None:
    wire = opened()
    wire.ask(Request(0, 0, 1))
    wire.ask(Request(0, 0, 1))
    assert len(wire.receive(message(7, u32(0, 0) + b"a") * 2)) == 2
    with pytest.raises(TransportFault):
        wire.receive(message(7, u32(0, 0) + b"a"))


@given(st.data())
def test_same_events_in_any_portions(data: st.DataObject) -> None:
    stream = HELLO + message(14) + bytes(4) + message(1) + message(7, u32(2, 7) + b"abc") + message(0)
    wire = PeerWire(HASH, bytes(20), 10)
    wire.ask(Request(2, 7, 3))
    events = []
    position = 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        events += wire.receive(stream[position : position + size])
        position += size
    whole = PeerWire(HASH, bytes(20), 10)
    whole.ask(Request(2, 7, 3))
    assert events == whole.receive(stream)


@given(st.binary(max_size=200))
def test_only_transport_faults_escape(data: bytes) -> None:
    wire = opened()
    try:
        wire.receive(data)
    except TransportFault as error:
        assert error.reason == "source.peer-protocol"
    assert len(wire._buffer) <= limits.PEER_FRAME_BYTES + 4
