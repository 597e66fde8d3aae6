"""A body between bytes that are here already comes out as one, in portions of any size."""

from __future__ import annotations

import pytest

from libreseed.adapters.mirrors.framed import Framed
from libreseed.adapters.mirrors.whole import WholeBody


@pytest.mark.parametrize("portion", [1, 3, 4, 7, 100])
@pytest.mark.parametrize(("head", "tail"), [(b"head", b"tail"), (b"", b"tail"), (b"head", b""), (b"", b"")])
def test_head_body_and_tail_are_one(portion: int, head: bytes, tail: bytes) -> None:
    body = b"0123456789"
    framed = Framed(WholeBody("m", memoryview(body), 0), len(body), head, tail)
    out, memory = b"", bytearray(portion)
    while len(out) < len(head + body + tail):
        count = framed.receive_now(memoryview(memory))
        assert count
        out += bytes(memory[:count])
    assert out == head + body + tail
    assert framed.added == len(head + tail)


def test_no_more_is_taken_from_the_answer_than_was_asked_for() -> None:
    body = WholeBody("m", memoryview(b"0123456789"), 0)
    framed = Framed(body, 4, b"", b"")
    memory = bytearray(100)
    assert framed.receive_now(memoryview(memory)) == 4
    assert body.receive_now(memoryview(memory)) == 6
