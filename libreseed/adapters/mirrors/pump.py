"""The body of one range, from connection to disk: received, hashed against the chunk map and written by one thread.

A thread for each body, because Python's lock is let go while bytes are received and written but not while chunks are
hashed: handing every batch to another thread would cost more than the hashing. Chunks are judged a batch at a time, or
as soon as the mirror pauses, and told of then, but good ones not many times within a moment: while the trio thread
hears of them, no chunk is hashed. :meth:`Pump.run` blocks; everything else belongs to the trio thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from libreseed import limits
from libreseed.adapters.command.awake_clock import AwakeClock
from libreseed.adapters.mirrors.framed import Framed
from libreseed.adapters.mirrors.link import Link
from libreseed.adapters.mirrors.whole import WholeBody
from libreseed.errors import TransportFault

__all__ = ["BATCH_BYTES", "Pump"]

_CHUNK = limits.CHUNK_BYTES
_BATCH_CHUNKS = 410  # about 2 MiB: what is judged at once at most
BATCH_BYTES = _BATCH_CHUNKS * _CHUNK
_BATCH_LEAST = 4
_PAUSE_S = 0.02  # without a byte, after which what is here is judged
_TELL_S = 0.03  # for which good news may wait

Judge = Callable[[range, memoryview], bytearray]
Tell = Callable[[range, bytearray], None]


class Pump:
    """Carries the chunks ``chunks`` (``length`` bytes) of the answer on ``link``.

    It is judged in so many ``portions`` at least, so that the rest of one that comes wrong need not be read.
    ``memory``, ``BATCH_BYTES`` long, is not touched by anybody else until :meth:`run` is through. ``judge`` hashes and
    writes a run of chunks; ``tell`` hears what it found. Both are called in the thread.
    """

    def __init__(
        self,
        link: Link | WholeBody | Framed,
        chunks: range,
        length: int,
        memory: memoryview,
        *,
        portions: int,
        judge: Judge,
        tell: Tell,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.received = 0
        self.ended = False  # set by the trio thread once :meth:`run` is through
        self._link = link
        self._chunks = chunks  # not judged yet
        self._untold = chunks
        self._flags = bytearray()  # of those that are judged and untold
        self._told_at = 0.0
        self._left = length
        self._judge = judge
        self._tell = tell
        self._monotonic = monotonic
        size = min(_BATCH_CHUNKS, max(_BATCH_LEAST, len(chunks) // portions)) * _CHUNK
        self._memory = memory[: min(size, length)]
        self._filled = 0
        self._stopped = False

    def stop(self) -> None:
        """Make :meth:`run` return soon; called in any thread."""
        self._stopped = True
        self._link.interrupt()

    def run(self, silence_s: float) -> None:
        """Return when all has come, or after :meth:`stop`.

        Raises ``http.cut-off`` when it ends early, ``http.timeout`` when no whole chunk comes for ``silence_s`` while
        this process runs. What came before is judged in any case.
        """
        self._told_at = time.monotonic()
        try:
            self._receive_all(silence_s)
        except TransportFault:
            self._judge_filled(whole=False)
            if not self._stopped:
                raise
        else:
            self._judge_filled(whole=not self._left)
        finally:
            self._tell_judged()

    def _receive_all(self, silence_s: float) -> None:
        clock = AwakeClock(self._monotonic)  # of this thread alone
        deadline = clock.current_time() + silence_s
        while self._left and not self._stopped:
            count = self._link.receive_now(self._memory[self._filled : self._filled + self._left])
            if count is None:
                if not self._link.wait(_PAUSE_S):
                    self._judge_filled(whole=False)
                    self._tell_judged()
                    self._link.wait(clock.deadline_to_sleep_time(deadline))
                if clock.current_time() > deadline:
                    raise TransportFault("http.timeout", f"{self._link.name} gave no chunk for {silence_s:g} s")
                continue
            before, self._filled = self._filled, self._filled + count
            self.received += count
            self._left -= count
            if before // _CHUNK != self._filled // _CHUNK:
                deadline = clock.current_time() + silence_s
            if self._filled == len(self._memory):
                self._judge_filled(whole=not self._left)

    def _judge_filled(self, *, whole: bool) -> None:
        """Judge what has come; a chunk of which a part is missing waits, unless it is the last one and ``whole``."""
        ready = self._filled if whole else self._filled - self._filled % _CHUNK
        if not ready:
            return
        chunks = self._chunks[: -(-ready // _CHUNK)]
        flags = self._judge(chunks, self._memory[:ready])
        self._flags += flags
        self._chunks = self._chunks[len(chunks) :]
        rest = self._filled - ready
        self._memory[:rest] = self._memory[ready : self._filled]
        self._filled = rest
        if 0 in flags or time.monotonic() > self._told_at + _TELL_S:
            self._tell_judged()

    def _tell_judged(self) -> None:
        flags, self._flags = self._flags, bytearray()
        if flags:
            self._tell(self._untold[: len(flags)], flags)
            self._untold = self._untold[len(flags) :]
            self._told_at = time.monotonic()
