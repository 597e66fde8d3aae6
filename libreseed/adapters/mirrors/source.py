"""Mirrors at work for one fetch: tasks that carry out the board's asks, judge what comes, and tell what became of it.

Every chunk is hashed against the signed chunk map and written by a thread (:mod:`.pump`); only then the owner hears
of it. One task per connection; the board and the mix are touched between awaits only. An ask ends early
when the mirror sends too much that is wrong, when nothing whole comes for ``silence_s``, and when somebody faster takes
it over. ``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.mirrors.framed import Framed
from libreseed.adapters.mirrors.link import Link
from libreseed.adapters.mirrors.pump import BATCH_BYTES, Pump
from libreseed.adapters.mirrors.ranges import RangeRefused, Ranges
from libreseed.adapters.mirrors.sites import Site
from libreseed.adapters.mirrors.whole import WholeBody
from libreseed.errors import TransportFault
from libreseed.ids import ReleaseId
from libreseed.resolve.journal import Kind
from libreseed.resolve.mirror_board import Ask
from libreseed.resolve.mirror_score import MirrorScore
from libreseed.resolve.source_mix import SourceMix

__all__ = ["MirrorSource"]

_CHUNK = limits.CHUNK_BYTES
_NOT_HERE = frozenset({404, 410})

Deliver = Callable[[Kind, range, bytearray], None]


class MirrorSource:
    """``sites`` in the order of the mix's mirrors. ``deliver`` hears of judged chunks, which are written already."""

    def __init__(self, sites: Sequence[Site], release: ReleaseId, ranges: Ranges, silence_s: float) -> None:
        self._places = {site.base: {kind: list(site.content(release, kind)) for kind in Kind} for site in sites}
        self._ranges = ranges
        self._silence_s = silence_s
        self._threads = trio.CapacityLimiter(limits.MIRROR_THREADS)
        self._memories: list[memoryview] = []  # free ones: a new one costs about what it costs to fill it
        self._news = trio.Event()

    async def run(self, mix: SourceMix, store: ChunkStore, deliver: Deliver, ended: Callable[[], None]) -> None:
        """Work until cancelled, or until no mirror is left; ``ended`` is called after each request, and has to
        call :meth:`wake`."""
        work = _Work(mix, store, deliver)
        try:
            async with trio.open_nursery() as nursery:
                for mirror in mix.board.mirrors:
                    for _ in range(limits.MIRROR_CONNECTIONS):
                        nursery.start_soon(self._serve, work, mirror, ended)
        finally:
            for kinds in self._places.values():
                for urls in kinds.values():
                    self._ranges.forget(urls)

    def wake(self) -> None:
        """Something changed: mirrors that have nothing to do look again."""
        self._news.set()
        self._news = trio.Event()

    async def _serve(self, work: _Work, mirror: MirrorScore, ended: Callable[[], None]) -> None:
        mix = work.mix
        while mirror.alive:
            news = self._news
            ask = mix.next(mirror, trio.current_time())
            if ask is not None:
                await self._carry_out(work, ask)
                mix.ended(ask, trio.current_time())
                ended()  # a refusal is news, too: it may have been the last hope
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
                opened = self._ranges.open(urls[0], start, stop, size=work.size(ask.kind), on_chunk=carry.postpone)
                async with opened as link:
                    if ask.sample:
                        await self._compare(work, ask, link, start, stop - start)
                    else:
                        carry.scope.deadline = math.inf  # the thread keeps the time from here on
                        await self._take(work, carry, link, stop - start)
            if carry.scope.cancelled_caught and not carry.stopped:
                raise TransportFault("http.timeout", f"{urls[0]} gave no chunk for {self._silence_s:g} s")
            board.ended(ask, trio.current_time())
        except RangeRefused as refusal:
            if refusal.status in _NOT_HERE and len(urls) > 1 and not ask.mirror.has_given(ask.kind):
                del urls[0]  # another kind of mirror
                board.withdrawn(ask)
            else:
                board.refused(ask, trio.current_time(), refusal.pause_s)
        except TransportFault as fault:
            board.failed(ask, fault.reason, fault.message, trio.current_time())

    async def _compare(self, work: _Work, ask: Ask, link: Link | WholeBody, start: int, length: int) -> None:
        """A sample against what is here."""
        if isinstance(link, Link):
            given = await link.whole(length)
            ask.mirror.received += len(given)
        else:
            memory = bytearray(length)
            given = bytes(memory[: link.receive_now(memoryview(memory))])
            ask.mirror.received += link.fetched
        known = await trio.to_thread.run_sync(work.store.read, start, length)
        work.mix.board.compared(ask, given == known)

    async def _take(self, work: _Work, carry: _Carry, link: Link | WholeBody, length: int) -> None:
        """Let a thread receive, judge and write the answer, and hear of every batch while it does."""
        ask, token = carry.ask, trio.lowlevel.current_trio_token()
        send, receive = trio.open_memory_channel[tuple[range, bytearray]](math.inf)

        def judge(chunks: range, data: memoryview) -> bytearray:
            return work.store.take(chunks, data, parity=ask.kind is Kind.PARITY)

        def tell(chunks: range, flags: bytearray) -> None:
            token.run_sync_soon(send.send_nowait, (chunks, flags))

        body = await self._framed(work, ask, link, length)
        portions = 2 if ask.mirror.clean and ask.mirror.good > limits.MIRROR_TRIED_CHUNKS else 4
        memory = self._memories.pop() if self._memories else memoryview(bytearray(BATCH_BYTES))
        pump = Pump(body, ask.chunks, ask.head + length + ask.tail, memory, portions=portions, judge=judge, tell=tell)
        fault: TransportFault | None = None
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(self._hear, work, carry, receive)
            try:
                with trio.CancelScope() as guard:
                    async with trio.open_nursery() as watch:
                        watch.start_soon(_stop_when_cancelled, pump)
                        try:
                            await trio.to_thread.run_sync(pump.run, self._silence_s, limiter=self._threads)
                        except TransportFault as error:
                            fault = error
                        pump.ended = True
                        guard.cancel()
            finally:
                self._memories.append(memory)
                came = pump.received - (body.added if isinstance(body, Framed) else 0)
                ask.mirror.received += link.fetched if isinstance(link, WholeBody) else came
        if fault is not None:
            raise fault

    async def _framed(self, work: _Work, ask: Ask, link: Link | WholeBody, length: int) -> Link | WholeBody | Framed:
        """The answer to ``ask``, between what is here of its first and its last chunk."""
        if not ask.head and not ask.tail:
            return link
        read = work.store.read
        start, whole = work.store.chunk_map.grid.span(ask.chunks)
        head = await trio.to_thread.run_sync(read, start, ask.head)
        tail = await trio.to_thread.run_sync(read, start + whole - ask.tail, ask.tail)
        return Framed(link, length, head, tail)

    async def _hear(
        self, work: _Work, carry: _Carry, judged: trio.MemoryReceiveChannel[tuple[range, bytearray]]
    ) -> None:
        with trio.CancelScope(shield=True):  # ends when the thread does; what it wrote is not forgotten
            async for chunks, flags in judged:
                if not work.mix.board.arrived(carry.ask, flags):
                    carry.stop()
                work.deliver(carry.ask.kind, chunks, flags)


async def _stop_when_cancelled(pump: Pump) -> None:
    """A thread cannot be cancelled; it can be told."""
    try:
        await trio.sleep_forever()
    finally:
        if not pump.ended:
            pump.stop()


class _Carry:
    """One ask that is being carried out."""

    def __init__(self, ask: Ask, silence_s: float) -> None:
        self.ask = ask
        self.scope = trio.CancelScope(deadline=trio.current_time() + silence_s)
        self.stopped = False
        self._silence_s = silence_s

    def postpone(self) -> None:
        """A chunk has come: the time for the next one begins."""
        self.scope.deadline = trio.current_time() + self._silence_s

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

    def size(self, kind: Kind) -> int:
        """Bytes of the file that has the chunks of ``kind``."""
        if kind is Kind.DATA:
            return self.store.chunk_map.grid.size
        return len(self.mix.board.pools[kind]) * _CHUNK

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
    start, stop = offset + ask.head, offset + length - ask.tail
    if not ask.sample:
        return start, stop
    some = limits.MIRROR_SAMPLE_BYTES
    return (start - some, start) if ask.head else (stop, stop + some)
