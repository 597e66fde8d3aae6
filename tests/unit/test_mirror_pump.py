"""A body on its way to the disk: what is told of it, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from libreseed import limits
from libreseed.adapters.mirrors.pump import BATCH_BYTES, Pump
from libreseed.errors import TransportFault

SIZE = limits.CHUNK_BYTES
BATCH = BATCH_BYTES // SIZE
DATA = random.Random(3).randbytes(3 * BATCH_BYTES)


@dataclass
class Body:
    """In a link's place: gives ``data`` in full buffers, with a pause at each of ``pauses`` bytes; then breaks off."""

    data: bytes
    pauses: list[int] = field(default_factory=list)
    given: int = 0
    patient: bool = False  # it has been waited for in vain
    stop_at: int = -1
    stop: Callable[[], None] = print
    events: list[str] = field(default_factory=list)
    name: str = "http://mirror"

    def receive_now(self, view: memoryview) -> int | None:
        if self.pauses and self.given == self.pauses[0]:
            return None
        if self.given == len(self.data):
            raise TransportFault("http.cut-off", "it ends")
        count = min(len(view), len(self.data) - self.given, (self.pauses or [len(self.data)])[0] - self.given)
        view[:count] = self.data[self.given : self.given + count]
        self.given += count
        self.events.append("received")
        if self.given == self.stop_at:
            self.stop()
        return count

    def wait(self, seconds: float) -> bool:
        self.events.append("waited")
        self.patient = not self.patient
        if not self.patient:
            self.pauses.pop(0)
        return not self.patient

    def interrupt(self) -> None:
        self.data = self.data[: self.given]


@dataclass
class Scene:
    """One pump of all chunks of ``body`` up to ``length`` bytes; chunks in ``bad`` do not verify."""

    body: Body
    length: int
    bad: frozenset[int] = frozenset()
    told: list[tuple[range, bytes]] = field(default_factory=list)
    written: dict[int, bytes] = field(default_factory=dict)

    def pump(self, monotonic: Callable[[], float] = time.monotonic) -> Pump:
        chunks = range(7, 7 + -(-self.length // SIZE))
        memory = memoryview(bytearray(BATCH_BYTES))
        body = cast(Any, self.body)
        judge, tell = self.judge, self.tell
        return Pump(body, chunks, self.length, memory, portions=1, judge=judge, tell=tell, monotonic=monotonic)

    def judge(self, chunks: range, data: memoryview) -> bytearray:
        for place, chunk in enumerate(chunks):
            self.written[chunk] = bytes(data[place * SIZE : (place + 1) * SIZE])
        return bytearray(chunk not in self.bad for chunk in chunks)

    def tell(self, chunks: range, flags: bytearray) -> None:
        self.body.events.append("told")
        self.told.append((chunks, bytes(flags)))

    def heard(self) -> dict[int, int]:
        """Chunk by chunk, in order and each once."""
        pairs = [pair for chunks, flags in self.told for pair in zip(chunks, flags, strict=True)]
        assert [chunk for chunk, _ in pairs] == list(range(7, 7 + len(pairs)))
        return dict(pairs)


@pytest.mark.parametrize("length", [1, SIZE, BATCH_BYTES, BATCH_BYTES + 1, len(DATA) - 10, len(DATA)])
def test_every_chunk_is_told_of_once_and_in_order(length: int) -> None:
    scene = Scene(Body(DATA[:length]), length)
    scene.pump().run(5)
    assert set(scene.heard().values()) == {1}
    assert b"".join(scene.written[chunk] for chunk in scene.heard()) == DATA[:length]


def test_a_wrong_chunk_is_told_of_before_more_is_received() -> None:
    scene = Scene(Body(DATA), len(DATA), frozenset({7 + 3}))
    scene.pump().run(5)
    assert scene.body.events[:3] == ["received", "told", "received"]
    assert scene.heard()[10] == 0
    assert sum(scene.heard().values()) == 3 * BATCH - 1


def test_what_came_before_a_fault_is_told_of_though_it_may_have_waited() -> None:
    came = BATCH_BYTES + 5 * SIZE + 17
    scene = Scene(Body(DATA[:came]), len(DATA))
    with pytest.raises(TransportFault):
        scene.pump().run(5)
    assert len(scene.heard()) == BATCH + 5


def test_what_came_is_told_of_when_it_is_stopped() -> None:
    came = BATCH_BYTES + 2 * SIZE
    scene = Scene(Body(DATA[:came], stop_at=came), len(DATA))
    pump = scene.pump()
    scene.body.stop = pump.stop
    pump.run(5)
    assert len(scene.heard()) == BATCH + 2


def test_what_came_is_told_of_when_the_mirror_pauses() -> None:
    scene = Scene(Body(DATA, pauses=[2 * SIZE + 1]), len(DATA))
    scene.pump().run(5)
    assert scene.body.events[:4] == ["received", "waited", "told", "waited"]
    assert scene.told[0] == (range(7, 9), b"\1\1")
    assert len(scene.heard()) == 3 * BATCH


def test_a_mirror_that_sent_while_this_process_stood_still_was_not_silent() -> None:
    """All connections to it would find their patience at an end at once, and three faults drop a mirror."""
    now = [1000.0]
    scene = Scene(Body(DATA, pauses=[SIZE + 1]), len(DATA))
    waited = scene.body.wait

    def wait(seconds: float) -> bool:
        now[0] += 3600 if scene.body.patient else seconds  # stopped in the second, longer one
        return waited(seconds)

    scene.body.wait = wait  # type: ignore[method-assign]  # as a link does on a machine that was suspended
    scene.pump(lambda: now[0]).run(5)
    assert len(scene.heard()) == 3 * BATCH


@pytest.mark.parametrize("trickle", [0, 1])
def test_a_mirror_that_sends_no_whole_chunk_ends_within_its_patience(trickle: int) -> None:
    now = [1000.0]
    scene = Scene(Body(DATA), len(DATA))

    def wait(seconds: float) -> bool:
        now[0] += max(0.0, seconds)
        return bool(trickle)

    def receive_now(view: memoryview) -> int | None:
        scene.body.patient = not scene.body.patient
        return trickle if trickle and scene.body.patient else None

    scene.body.wait, scene.body.receive_now = wait, receive_now  # type: ignore[method-assign]  # says next to nothing
    with pytest.raises(TransportFault, match="gave no chunk for 5 s"):
        scene.pump(lambda: now[0]).run(5)
    assert 1005 < now[0] < 1006
