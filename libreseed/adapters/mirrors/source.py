"""Mirrors at work for one fetch: tasks that carry out the board's asks, judge what comes, and tell what became of it.

Every chunk is hashed against the signed chunk map and written by a thread while the next ones arrive; only then the
owner hears of it. One task per connection; the board and the mix are touched between awaits only. An ask ends early
when the mirror sends too much that is wrong, when nothing whole comes for ``silence_s``, and when somebody faster takes
it over. ``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.mirrors.link import Link
from libreseed.adapters.mirrors.ranges import RangeRefused, Ranges
from libreseed.adapters.mirrors.sites import Site
from libreseed.errors import TransportFault
from libreseed.ids import ReleaseId
from libreseed.resolve.journal import Kind
from libreseed.resolve.mirror_board import Ask
from libreseed.resolve.mirror_score import MirrorScore
from libreseed.resolve.source_mix import SourceMix

__all__ = ["MirrorSource"]

_CHUNK = limits.CHUNK_BYTES
_BATCH_CHUNKS = 204  # about 1 MiB: what one trip to a thread judges at most; and a quarter of the request, so that
_BATCH_LEAST = 4  # the rest of one that comes wrong need not be read
_NOT_HERE = frozenset({404, 410})

Deliver = Callable[[Kind, range, bytearray], None]


class MirrorSource:
    """``sites`` in the order of the mix's mirrors. ``deliver`` hears of judged chunks, which are written already."""

    def __init__(self, sites: Sequence[Site], release: ReleaseId, ranges: Ranges, silence_s: float) -> None:
        self._places = {site.base: {kind: list(site.content(release, kind)) for kind in Kind} for site in sites}
        self._ranges = ranges
        self._silence_s = silence_s
        self._threads = trio.CapacityLimiter(2)
        self._news = trio.Event()

    async def run(self, mix: SourceMix, store: ChunkStore, deliver: Deliver) -> None:
        """Work until cancelled, or until no mirror is left."""
        work = _Work(mix, store, deliver)
        async with trio.open_nursery() as nursery:
            for mirror in mix.board.mirrors:
                for _ in range(limits.MIRROR_CONNECTIONS):
                    nursery.start_soon(self._serve, work, mirror)

    def wake(self) -> None:
        """Something changed: mirrors that have nothing to do look again."""
        self._news.set()
        self._news = trio.Event()

    async def _serve(self, work: _Work, mirror: MirrorScore) -> None:
        mix = work.mix
        while mirror.alive:
            news = self._news
            ask = mix.next(mirror, trio.current_time())
            if ask is not None:
                await self._carry_out(work, ask)
                mix.ended(trio.current_time())
                self.wake()
                continue
            work.stop_robbed()
            due = mix.wake_at(trio.current_time())
            with trio.move_on_at(math.inf if due is None else due):
                await news.wait()

    async def _carry_out(self, work: _Work, ask: Ask) -> None:
        board = work.mix.board
        urls = self._places[ask.mirror.url][ask.kind]
        start, stop = _span(work.store, ask)
        try:
            with work.carrying(ask, self._silence_s) as carry:
                async with self._ranges.open(urls[0], start, stop) as body:
                    await self._take(work, carry, body, stop - start)
            if carry.scope.cancelled_caught and not carry.stopped:
                raise TransportFault("http.timeout", f"{urls[0]} gave no chunk for {self._silence_s:g} s")
            board.ended(ask, trio.current_time())
        except RangeRefused as refusal:
            if refusal.status in _NOT_HERE and len(urls) > 1 and not ask.mirror.proven:
                del urls[0]  # another kind of mirror
                board.withdrawn(ask)
            else:
                board.refused(ask, trio.current_time(), refusal.pause_s)
        except TransportFault as fault:
            board.failed(ask, fault.reason, fault.message, trio.current_time())

    async def _take(self, work: _Work, carry: _Carry, body: Link, left: int) -> None:
        """Read and judge at the same time: one batch is being judged while the next one fills."""
        fault: TransportFault | None = None
        send, receive = trio.open_memory_channel[memoryview](0)
        size = min(_BATCH_CHUNKS, max(_BATCH_LEAST, len(carry.ask.chunks) // 4)) * _CHUNK
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._judge_all, work, carry, receive)
            async with send:
                while left and fault is None:
                    batch = _Batch(min(left, size), carry)
                    try:
                        await batch.fill(body, self._silence_s)
                    except TransportFault as error:
                        fault = error
                    finally:
                        if whole := batch.whole_chunks(last=batch.size == left):
                            with trio.CancelScope(shield=not batch.full):  # what has come is not thrown away
                                await send.send(whole)
                    left -= batch.size
        if fault is not None:
            raise fault

    async def _judge_all(self, work: _Work, carry: _Carry, batches: trio.MemoryReceiveChannel[memoryview]) -> None:
        with trio.CancelScope(shield=True):  # ends when the sender does; hashing and writing 1 MiB is not worth losing
            async for batch in batches:
                ask = carry.ask
                chunks = ask.left[: -(-len(batch) // _CHUNK)]
                judge = partial(work.store.take, chunks, batch, parity=ask.kind is Kind.PARITY)
                flags = await trio.to_thread.run_sync(judge, limiter=self._threads)
                if not work.mix.board.arrived(ask, flags):
                    carry.stop()
                work.deliver(ask.kind, chunks, flags)


class _Batch:
    """Memory for some chunks on their way."""

    def __init__(self, size: int, carry: _Carry) -> None:
        self.size = size
        self._carry = carry
        self._memory = memoryview(bytearray(size))
        self._filled = 0

    @property
    def full(self) -> bool:
        return self._filled == self.size

    async def fill(self, body: Link, silence_s: float) -> None:
        while not self.full:
            count = await body.receive_into(self._memory[self._filled :])
            self._carry.ask.mirror.received += count
            before, self._filled = self._filled, self._filled + count
            if before // _CHUNK != self._filled // _CHUNK:
                self._carry.scope.deadline = trio.current_time() + silence_s

    def whole_chunks(self, *, last: bool) -> memoryview:
        """What has come, without a chunk of which a part is missing; the ``last`` one of all may be short."""
        whole = self._filled if last and self.full else self._filled - self._filled % _CHUNK
        return self._memory[:whole]


class _Carry:
    """One ask that is being carried out."""

    def __init__(self, ask: Ask, silence_s: float) -> None:
        self.ask = ask
        self.scope = trio.CancelScope(deadline=trio.current_time() + silence_s)
        self.stopped = False

    def stop(self) -> None:
        """It is not worth reading on, or somebody else does it."""
        self.stopped = True
        self.scope.cancel()


class _Work:
    """One run: what all its tasks share."""

    def __init__(self, mix: SourceMix, store: ChunkStore, deliver: Deliver) -> None:
        self.mix = mix
        self.store = store
        self.deliver = deliver
        self._carries: set[_Carry] = set()

    @contextmanager
    def carrying(self, ask: Ask, silence_s: float) -> Iterator[_Carry]:
        """The scope in which ``ask`` is carried out."""
        carry = _Carry(ask, silence_s)
        self._carries.add(carry)
        try:
            with carry.scope:
                yield carry
        finally:
            self._carries.discard(carry)

    def stop_robbed(self) -> None:
        """End what others are to finish."""
        for carry in self._carries:
            if carry.ask.robbed:
                carry.stop()


def _span(store: ChunkStore, ask: Ask) -> tuple[int, int]:
    """The bytes of the file that ``ask`` names."""
    if ask.kind is Kind.PARITY:
        return ask.chunks.start * _CHUNK, ask.chunks.stop * _CHUNK
    offset, length = store.chunk_map.grid.span(ask.chunks)
    return offset, offset + length
