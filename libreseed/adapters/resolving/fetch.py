"""Steps 4 to 6: fetch a release's bytes from the swarm, verify every chunk as it arrives, repair, give back.

:class:`ContentFetch` composes the torrent session, the chunk store, the journal and the plan. One task, :meth:`run`,
and its children own all state (trio switches tasks only at awaits, and no state is touched across one); hashing, coding
and file IO run in threads. Write order: a chunk is hashed from the disk, then journaled, then counted.
``docs/specification/resolver.md``, "Fetch".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_ledger import ChunkLedger, FetchTotals
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.chunks.recovery import Findings, journal_for, store_of
from libreseed.adapters.resolving.arrivals import portion, put_whole, read_at, verify_batch
from libreseed.adapters.resolving.single_chunks import Salvage, SingleChunks
from libreseed.adapters.resolving.store import Workspace
from libreseed.adapters.resolving.swarm_watch import STATUS_S, SwarmWatch
from libreseed.adapters.resolving.verified_prefix import VerifiedPrefix
from libreseed.adapters.torrent.events import (
    Address,
    PeerBanned,
    PeerCount,
    PieceDone,
    PieceFailed,
    TorrentError,
    TorrentEvent,
)
from libreseed.errors import ContentRejected, LocalFault
from libreseed.ids import Sha256Digest
from libreseed.resolve.engine import Resolution
from libreseed.resolve.fetch_plan import FetchPlan, Need
from libreseed.resolve.journal import Kind, Origin
from libreseed.resolve.piece_map import Chunk
from libreseed.resolve.source_mix import SourceMix
from libreseed.torrent.layout import TorrentLayout

if TYPE_CHECKING:
    from libreseed.adapters.resolving.mirror_feed import MirrorFeed
    from libreseed.adapters.torrent.torrent import Torrent

__all__ = ["ContentFetch"]


class ContentFetch:
    """One fetch. ``on_chunks`` hears how many data chunks are verified by now, and how many peers are connected;
    ``on_prefix`` how many bytes from the start of the .tgz are verified."""

    def __init__(
        self,
        resolution: Resolution,
        space: Workspace,
        layout: TorrentLayout,
        torrent: Torrent | None,
        *,
        salvage: Salvage | None = None,
        mirrors: MirrorFeed | None = None,
        heard: set[Address] | None = None,
        on_chunks: Callable[[int, int], None] | None = None,
        on_prefix: Callable[[int], None] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        policy = resolution.policy
        now = trio.current_time()
        self.plan = FetchPlan(
            layout,
            patience_s=policy.patience_s,
            silence_s=policy.peer_silence_s,
            now=now,
            mirrors=mirrors.urls if mirrors is not None else (),
        )
        self.ledger = ChunkLedger(self.plan)
        self._resolution = resolution
        self._space = space
        self._layout = layout
        self._torrent = torrent
        self.mirrors = mirrors
        self._singles = SingleChunks(self.plan, space, layout, salvage)
        self.watch = SwarmWatch(self.plan, heard if heard is not None else set())
        self._on_chunks = on_chunks
        self._on_step = on_step
        self._store: ChunkStore | None = None
        self._pending: list[tuple[Kind, range]] = []  # chunks of finished pieces
        self._probes: list[tuple[Kind, range]] = []  # chunks of failed pieces
        self._news = trio.Event()
        self._opened = trio.Event()  # the chunk map is here
        self._work = trio.Event()
        self._busy = False
        self._given: set[int] = set()  # pieces handed to the session
        self.disturbed = False  # the session refused a piece or a peer
        self._prefix = VerifiedPrefix(self.plan, space.swarm / layout.tgz.name, on_prefix)

    def restore(self, found: Findings) -> None:
        """Start from what an earlier run left; call it before :meth:`run`."""
        self.plan.restore(found.have, found.verified)
        if found.verified is not None:
            self.ledger.totals.reused = found.verified.data.count(1)
            self.ledger.totals.healed = len(found.damaged)

    async def run(self) -> FetchTotals:
        """Return once every data chunk is verified on disk; raises what the plan or the engine raises."""
        if self._resolution.completed == 4:
            self._open_chunks()
        elif self.plan.mix is not None:
            self.plan.mix.opens()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._verify_loop)
                nursery.start_soon(self._prefix.run)
                if self.mirrors is not None and self.plan.mix is not None:
                    nursery.start_soon(self._mirror_loop, self.mirrors, self.plan.mix)
                if self._torrent is not None:
                    nursery.start_soon(self._event_loop, self._torrent)
                    nursery.start_soon(self._status_loop, self._torrent)
                await self._decide_loop(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.ledger.close()
        self.disturbed |= await self.watch.crossed(self._torrent)
        return self.ledger.totals

    @property
    def singles_received(self) -> int:
        """Bytes of single chunks from peers, at most: good ones, and those that were asked for in vain."""
        return self._singles.received

    async def settle(self) -> None:
        """Judge every chunk once more when nobody else writes here; what has changed is repaired from parity.

        A session that refuses a piece may still have a block of it on the way to the disk, where the chunk has been
        fetched from elsewhere or decoded meanwhile. Call it only after the torrent was left.
        """
        self._torrent = None
        report = await trio.to_thread.run_sync(partial(_given(self._store).repair, threads=2))
        self.ledger.totals.healed += len(report.repaired)
        self._prefix.forget()

    async def sha256(self, expected: Sha256Digest) -> Sha256Digest | None:
        """The SHA-256 of the whole .tgz as hashed while it arrived; None when that could not be.

        If it is not ``expected`` though every chunk verified, either the publisher lies or the bytes changed on this
        disk since: the latter raises ``storage.io`` and the next run heals it.
        """
        digest = await self._prefix.sha256()
        if digest != expected:
            after = await trio.to_thread.run_sync(partial(_given(self._store).verify, threads=2))
            if changed := after.missing_data():
                message = (
                    f"{len(changed)} chunks of {self._layout.tgz.name} changed on the disk after they were verified"
                )
                raise LocalFault("storage.io", message, evidence={"chunks": changed[:100]})
        return digest

    # --- what happens ------------------------------------------------------------------------------------------------
    async def _event_loop(self, torrent: Torrent) -> None:
        while True:
            for event in await torrent.events.receive_batch():
                self._on_event(event)
            await self._maybe_chunk_map()
            self._wake()

    def _on_event(self, event: TorrentEvent) -> None:
        now = trio.current_time()
        match event:
            case PieceDone(index):
                if (whole := self.plan.piece_done(index, now)) is not None:
                    self._pending.append(whole)
                    self._work.set()
            case PieceFailed(index):
                self.disturbed = True
                self.plan.piece_failed(index, now)
            case PeerBanned(address):
                self.disturbed = True
                self.plan.peer_banned(address, now)
            case TorrentError(message, True):
                raise ContentRejected("torrent.pieces", f"the publisher's torrent contradicts itself: {message}")
            case TorrentError(message):
                full = "space" in message.lower() or "too large" in message.lower()  # ENOSPC, EFBIG
                reason = "storage.full" if full else "storage.io"
                raise LocalFault(reason, f"writing below {self._space.root}: {message}")
            case PeerCount():
                pass

    async def _maybe_chunk_map(self) -> None:
        """Step 4, as soon as the ``.chunks`` file is whole."""
        if self._resolution.completed == 3 and self.plan.pieces.chunk_map_done():
            data = await trio.to_thread.run_sync((self._space.swarm / self._layout.chunks.name).read_bytes)
            if self._resolution.completed == 3:  # a mirror may have been first meanwhile
                self._resolution.chunk_map(data, self._layout.m)
                self._step_done(4)
                self._open_chunks()

    async def _mirror_loop(self, mirrors: MirrorFeed, mix: SourceMix) -> None:
        """The chunk map, unless the swarm is first; then chunks beside the swarm."""
        if self._store is None:
            data = await mirrors.chunk_map(self._resolution.minimal, self._layout.chunks.size, mix.hastens)
            if data is not None and self._store is None:
                await trio.to_thread.run_sync(put_whole, self._space.swarm / self._layout.chunks.name, data)
            if data is not None and self._resolution.completed == 3:
                self._give_map(data)
                self._resolution.chunk_map(data, self._layout.m)
                self._step_done(4)
                self._open_chunks()
            mix.opened()
            self._wake()
        await self._opened.wait()

        def ended() -> None:
            self._report()
            self._wake()

        await mirrors.run(mix, _given(self._store), partial(self._count, Origin.MIRROR), ended)

    def _give_map(self, data: bytes) -> None:
        """The session need not fetch the chunk map, and offers it."""
        size = self._layout.piece_bytes
        for number, piece in enumerate(self._layout.chunks.pieces):
            self.plan.piece_done(piece, trio.current_time())
            if self._torrent is not None:
                self._torrent.give(piece, data[number * size : (number + 1) * size])

    def _open_chunks(self) -> None:
        chunk_map = self._resolution.map
        self._store = store_of(self._space, self._layout, chunk_map)
        self.ledger.journal, _ = journal_for(self._space, chunk_map)
        if self.plan.mix is not None:
            self.plan.mix.update(trio.current_time())
        self._opened.set()
        self._work.set()

    async def _status_loop(self, torrent: Torrent) -> None:
        """The swarm can't be subscribed to: look at it as long as the fetch lasts."""
        while True:
            await self.watch.look(torrent)
            self._wake()
            if self.mirrors is not None and self.watch.leeching:
                await self._give_back()
            await trio.sleep(STATUS_S)

    async def look(self) -> None:
        """Bring ``watch.contributors`` up to date."""
        if self._torrent is not None:
            await self.watch.look(self._torrent)

    async def until_shared(self) -> None:
        """Return once no connected peer lacks a piece of the .tgz, or none is left."""
        if self._torrent is not None:
            await self.watch.until_shared(self._torrent)

    def _step_done(self, step: int) -> None:
        if self._on_step is not None:
            self._on_step(step)

    def _wake(self) -> None:
        self._news.set()
        if self.mirrors is not None:
            self.mirrors.wake()

    # --- verification ------------------------------------------------------------------------------------------------
    async def _verify_loop(self) -> None:
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while (self._pending or self._probes) and self._store is not None:
                self._busy = True
                batch, self._pending = portion(self._pending)
                probes, self._probes = self._probes, []
                results = await trio.to_thread.run_sync(verify_batch, self._store, batch + probes)
                with self.ledger.together():
                    for kind, chunks, flags in results[: len(batch)]:
                        self.plan.chunks_bad(kind, [chunks[at] for at, flag in enumerate(flags) if not flag])
                        self._count(Origin.SWARM, kind, chunks, flags)
                    for kind, chunks, flags in results[len(batch) :]:
                        self._count(Origin.PEER, kind, chunks, flags)
                self._busy = False
                self._report()
            self._wake()

    def _count(self, origin: Origin, kind: Kind, chunks: Iterable[int], flags: Iterable[int]) -> None:
        self.ledger.count(kind, origin, chunks, flags, trio.current_time())
        self._prefix.look()

    def _report(self) -> None:
        if self._on_chunks is not None:
            self._on_chunks(self.plan.verified.data.count(1), len(self.watch.connected))

    # --- decisions ---------------------------------------------------------------------------------------------------
    async def _decide_loop(self, nursery: trio.Nursery) -> None:
        revision: tuple[int, int, int] | None = None
        while True:
            if self._torrent is not None and revision != self.plan.revision:
                revision = self.plan.revision
                await self._torrent.want(self.plan.priorities())
            self._news = trio.Event()
            until: float | None = None
            if (probes := self.plan.take_probes()) and self._store is not None:
                self._probes += probes
                self._work.set()
            if not self._verifying():
                decision = self.plan.decide(trio.current_time())
                until = decision.until
                if self.mirrors is not None:
                    self.mirrors.wake()  # parity may be wished for now
                if decision.need is Need.DONE:
                    return
                if decision.need is Need.DECODE:
                    await self._decode()
                    continue
                if decision.readmit and self._torrent is not None:
                    await self._readmit(self._torrent, decision.readmit)
                    continue
                if decision.salvage:
                    self.plan.salvaging = True
                    nursery.start_soon(self._ask_for_chunks, decision.salvage[: limits.SALVAGE_CHUNKS])
                    continue
            with trio.move_on_at(until if until is not None else float("inf")):
                await self._news.wait()

    def _verifying(self) -> bool:
        """Whether the chunk map is being read or chunks on disk wait for their hash: no decision is due before."""
        if self._store is None:
            return self.plan.pieces.chunk_map_done()
        return self._busy or bool(self._pending or self._probes)

    async def _readmit(self, torrent: Torrent, addresses: tuple[Address, ...]) -> None:
        """Take back peers that the session banned for pieces which it shall not ask them for again."""
        self.plan.readmitted(addresses, trio.current_time())
        await torrent.want(self.plan.priorities())
        # Taking back means joining the swarm anew, so everybody else who was ever seen is named, too.
        await torrent.readmit([*addresses, *(self.watch.everybody() - self.plan.swarm.banned - set(addresses))])

    async def _decode(self) -> None:
        """Step 6: decode what lacks from parity, in place; every byte is verified before and after."""
        store = _given(self._store)
        if self._resolution.completed == 4:
            self._resolution.content(self.plan.verified)
            self._step_done(5)
        report = await trio.to_thread.run_sync(partial(store.repair, threads=2))
        if report.lying:
            report.require_complete()
        before, after = self.plan.verified, report.verified
        lost = [chunk for chunk in after.missing_data() if before.data[chunk]]
        self.ledger.lost(Kind.DATA, lost)
        self.ledger.lost(Kind.PARITY, [chunk for chunk in after.missing_parity() if before.parity[chunk]])
        self._count(Origin.REPAIR, Kind.DATA, report.repaired, b"\1" * len(report.repaired))
        self._count(Origin.PEER, Kind.DATA, range(len(after.data)), after.data)  # good bytes of failed pieces
        self._report()
        await self._give_back()

    async def _ask_for_chunks(self, wants: tuple[Chunk, ...]) -> None:
        """Salvage: single chunks from peers whose pieces failed, and for pieces of which the rest is here."""
        found = await self._singles.ask(self._resolution.map, _given(self._store), wants, self.watch.callable)
        for kind in Kind:
            chunks = sorted(chunk for found_kind, chunk in found if found_kind is kind)
            self._count(Origin.PEER, kind, chunks, b"\1" * len(chunks))
        self._singles.done(wants, self.watch.callable(), trio.current_time())
        await self._give_back()
        self._report()
        self._wake()

    async def _give_back(self) -> None:
        """Pieces that chunks and parity completed go to the session, which offers them to the swarm."""
        if self._torrent is None:
            return
        path = self._space.swarm / self._layout.tgz.name
        for piece in self.plan.to_give():
            if piece in self._given:
                continue  # another task, or a verdict that is under way
            self._given.add(piece)
            span = self._layout.span(piece)
            data = await trio.to_thread.run_sync(read_at, path, span.offset, span.length)
            self._torrent.give(piece, data)


def _given(store: ChunkStore | None) -> ChunkStore:
    if store is None:
        raise AssertionError("the chunk map comes first")
    return store
