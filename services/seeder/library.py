"""The releases of one seeder: taken in, offered to the swarm, kept findable, checked, removed.

One :class:`Holding` per release, owned by the daemon's event loop. Invariants: nothing is offered that was not verified
since its files last changed; a piece with a bad chunk is withheld before a repair touches its file; what a holding
knows about its files is what its ``seed.json`` says. DESIGN 4, "Seeder"; docs/operations.md.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.files.stopping import cancel_flag
from libreseed.adapters.release.seed_store import SeedNote, SeedStore, release_key
from libreseed.adapters.torrent.legacy_door import LegacyDoor
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.errors import LibreSeedError, LocalFault, NotFound, RecordRejected, UsageFault
from libreseed.package.minimal import MinimalManifest
from libreseed.torrent.offer import offered_pieces

from .announcer import LEGACY_PEERS, Announcer, Findable
from .config import SeederConfig
from .donor import donate_chunks, donate_small_files
from .health import Health, Meter, check_release
from .indexes import Indexes, belongs_to, claimed_salt
from .intake import Found, find_release, same_files, take_in
from .source import Source, read_file
from .stored import Stored, open_stored

__all__ = ["Holding", "Library", "Swarm"]

_LOG = logging.getLogger("libreseed.seeder")
_MIN_PREFIX = 8  # hex digits of a torrent's hash that name a release


@dataclass(slots=True)
class Holding:
    """A release that is held. ``state``: checking, seeding, damaged (good pieces only) or broken (nothing offered)."""

    key: str
    folder: Path
    stored: Stored | None = None
    state: str = "checking"
    fault: str = ""
    torrent: Torrent | None = None
    checked_ms: int = 0  # when the last check of this run ended, Unix milliseconds
    busy: trio.Lock = field(default_factory=trio.Lock)
    hurry: int = 0  # how many wait for ``busy`` who must not wait for a slow scrub
    checking: trio.CancelScope = field(default_factory=trio.CancelScope)  # of the check under way, or of the last one

    @property
    def release(self) -> str:
        """``name@version``."""
        return self.key[: -len(".") - 32]


@dataclass(frozen=True, slots=True)
class Swarm:
    """Where releases are offered: the session, and the door for clients that ask for a wrong info-hash."""

    session: TorrentSession
    door: LegacyDoor


class Library:
    """All holdings. ``run`` loads them and checks what changed while the daemon was down."""

    def __init__(
        self, store: SeedStore, swarm: Swarm, announcer: Announcer, meter: Meter, config: SeederConfig
    ) -> None:
        self.store = store
        self.holdings: dict[str, Holding] = {}
        self._session, self._door = swarm.session, swarm.door
        self._announcer = announcer
        self._meter = meter
        self._config = config
        self._intake = trio.Lock()  # one release is taken in at a time
        self._nursery: trio.Nursery
        # Every holding that is offered, whenever it is; read by one task, which minds it.
        self._to_mind, self.offered = trio.open_memory_channel[Holding](math.inf)
        self.indexes = Indexes(store, announcer)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Offer what is stored and trusted; started then. Afterwards check the rest, one by one."""
        await self.indexes.load()
        for folder in await trio.to_thread.run_sync(self.store.folders):
            await self._load(folder)
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            for holding in list(self.holdings.values()):
                if holding.state == "checking":
                    await self.check(holding)
            await trio.sleep_forever()

    async def _load(self, folder: Path) -> None:
        holding = self.holdings[folder.name] = Holding(folder.name, folder)
        try:
            holding.stored = await trio.to_thread.run_sync(open_stored, self.store, folder)
        except LibreSeedError as error:
            self._broken(holding, error)
        except OSError as error:
            self._broken(holding, from_oserror(error, "reading a stored release"))
        else:
            self._meter.files_mended += len(holding.stored.mended)
            if holding.stored.trusted and holding.stored.metainfo is not None:
                await self._offer(holding, holding.stored)

    # --- taking in ---------------------------------------------------------------------------------------------------
    async def add(self, source: Source) -> Holding:
        """Verify the release at ``source`` and hold it; one that is held already is mended from it if it is damaged.

        Raises what :mod:`services.seeder.intake` says, and LocalFault ``storage.quota``.
        """
        now_ms = time.time_ns() // 10**6
        limit = self._config.max_package_bytes
        found = await trio.to_thread.run_sync(lambda: find_release(source, now_ms=now_ms, max_package_bytes=limit))
        key = release_key(found.release, found.minimal.torrent)
        async with self._intake:
            holding = self.holdings.get(key)
            if holding is None:
                await self._admit(found)
                holding = await self._take_in(found, key, now_ms)
            elif holding.state in ("damaged", "broken"):
                await self._mend(holding, found)
            else:
                await self._judge_again(holding, found, now_ms)
            if found.index is not None:
                await self._offer_index(found.index, found.minimal)
        return holding

    async def _offer_index(self, index: bytes, minimal: MinimalManifest) -> None:
        """The index beside a release is welcome, but a bad or foreign one is no fault of the release."""
        try:
            await self.indexes.offer(index, minimal.pubkey)
        except RecordRejected as error:
            _LOG.warning("the index beside %s is ignored: %s [%s]", minimal.release, error.message, error.reason)

    async def add_index(self, path: Path) -> bool:
        """Take a release index by itself; returns whether it was newer. Its publisher must have a release here."""
        data = await trio.to_thread.run_sync(read_file, path, limits.INDEX_RECORD_BYTES)
        salt = claimed_salt(data)
        minimals = [one.stored.minimal for one in self.holdings.values() if one.stored is not None]
        publishers = {minimal.pubkey for minimal in minimals if belongs_to(salt, minimal.name)}
        refusal: LibreSeedError = NotFound("notfound.release", f"no release that {path.name} could speak of is held")
        for publisher in publishers:
            try:
                return await self.indexes.offer(data, publisher)
            except RecordRejected as error:
                refusal = error
        raise refusal

    async def _admit(self, found: Found) -> None:
        most = self._config.max_store_bytes
        if most and (used := await trio.to_thread.run_sync(self.store.used_bytes)) + found.total > most:
            message = f"{found.release} needs {found.total} bytes, {used} of {most} are in use"
            raise LocalFault("storage.quota", message)

    async def _take_in(self, found: Found, key: str, now_ms: int) -> Holding:
        async with self._staging() as staging:
            with cancel_flag() as cancelled:
                stored = await trio.to_thread.run_sync(
                    take_in, found, staging, now_ms, cancelled, limiter=self._meter.threads, abandon_on_cancel=True
                )
            self._meter.bytes_hashed += 2 * found.total  # the archive is read for its hash and for its content
            note = stored.note
            with trio.CancelScope(shield=True):  # what was published is also held
                await trio.to_thread.run_sync(self.store.write_note, staging, note)
                folder = await trio.to_thread.run_sync(self.store.publish, staging, key)
                holding = self.holdings[key] = Holding(key, folder)
                await self._offer(holding, replace(stored, folder=folder))
        _LOG.info("%s: seeding", key)
        return holding

    async def _judge_again(self, holding: Holding, found: Found, now_ms: int) -> None:
        """A folder of a release that is held may be another than the one that was taken: then verify it as if new."""
        with cancel_flag() as cancelled:
            same = partial(same_files, found, holding.folder, cancelled)
            if await trio.to_thread.run_sync(same, limiter=self._meter.threads, abandon_on_cancel=True):
                return
            await self._admit(found)
            async with self._staging() as staging:
                judge = partial(take_in, found, staging, now_ms, cancelled)
                await trio.to_thread.run_sync(judge, limiter=self._meter.threads, abandon_on_cancel=True)

    async def _mend(self, holding: Holding, found: Found) -> None:
        stored = holding.stored
        if stored is None:
            raise LocalFault("storage.io", f"no signed record of {holding.key} is left: remove it and add it again")
        await trio.to_thread.run_sync(donate_small_files, stored, found)
        with _hurry(holding):
            await self._detached(self._mend_chunks, holding, found)

    async def _mend_chunks(self, holding: Holding, found: Found) -> None:
        await self.check(holding)  # with the small files right, parity may repair more than before
        stored = holding.stored
        if holding.state == "damaged" and stored is not None:
            async with holding.busy:
                await self.withdraw(holding)
                bad = stored.note.bad_data
                await trio.to_thread.run_sync(donate_chunks, stored, found, bad, limiter=self._meter.threads)
            await self.check(holding)

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[Path]:
        manager = self.store.staging()
        staging = await trio.to_thread.run_sync(manager.__enter__)
        try:
            yield staging
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(manager.__exit__, None, None, None)

    # --- offering ----------------------------------------------------------------------------------------------------
    async def _offer(self, holding: Holding, stored: Stored) -> None:
        """Put what the note says is good into the swarm, in place of what was offered before."""
        assert stored.metainfo is not None
        holding.stored, note = stored.light(), stored.note
        await self.withdraw(holding)
        bad = bool(note.bad_data or note.bad_parity)
        have = offered_pieces(stored.metainfo.layout, bad_data=note.bad_data, bad_parity=note.bad_parity)
        holding.torrent = self._session.seed(stored.metainfo.data, holding.folder, have if bad else None)
        holding.state = "damaged" if bad else "seeding"
        holding.fault = _damage(note) if bad else ""
        self._to_mind.send_nowait(holding)
        if stored.outline is not None:
            self._door.admit(stored.outline.legacy, stored.outline.v1)
        self._announcer.keep(holding.key, self._findable(stored))

    async def withdraw(self, holding: Holding) -> None:
        """Take the torrent out of the swarm; its files are closed when this returns."""
        torrent, holding.torrent = holding.torrent, None
        if torrent is not None:
            await self._session.remove(torrent)

    async def offer_anew(self, holding: Holding, torrent: Torrent) -> None:
        """Check a release whose ``torrent`` reported an error, and offer what is good of it."""
        if holding.torrent is torrent:
            await self.withdraw(holding)
            await self.check(holding)

    def _findable(self, stored: Stored) -> Findable:
        outline = stored.outline
        hashes = {"peers-v1": outline.v1, "peers-v2": outline.v2, LEGACY_PEERS: outline.legacy} if outline else {}
        return Findable(stored.minimal.name, stored.item, hashes)

    def _broken(self, holding: Holding, error: LibreSeedError) -> None:
        holding.state, holding.fault = "broken", f"{error.message} [{error.reason}]"
        _LOG.error("%s: %s", holding.key, holding.fault)
        if holding.stored is not None:
            self._announcer.keep(holding.key, Findable(holding.stored.minimal.name, holding.stored.item))

    # --- checking ----------------------------------------------------------------------------------------------------
    async def check(self, holding: Holding, *, rate: int = 0) -> None:
        """Read everything of a release anew, heal it, and offer what is good afterwards."""
        async with holding.busy:
            if holding.stored is None or self.holdings.get(holding.key) is not holding:
                return
            if rate and holding.hurry:
                return  # somebody waits for this lock who must not wait for a slow scrub
            with trio.CancelScope() as holding.checking:
                await self._check(holding, holding.stored, rate)
                holding.checked_ms = time.time_ns() // 10**6

    async def _check(self, holding: Holding, stored: Stored, rate: int) -> None:
        async def before_repair(health: Health) -> None:
            _LOG.warning("%s: damaged on disk, repairing", holding.key)
            holding.state = "checking"
            await self.withdraw(holding)

        try:
            now = await check_release(self.store, stored, self._meter, rate=rate, before_repair=before_repair)
            await self._conclude(holding, *now)
        except LibreSeedError as error:
            await self.withdraw(holding)
            self._broken(holding, error)
        except OSError as error:
            await self.withdraw(holding)
            self._broken(holding, from_oserror(error, "checking a stored release"))

    async def check_for(self, holding: Holding) -> None:
        """The same at once, for somebody who may go away meanwhile: a slow scrub under way is begun anew."""
        with _hurry(holding):
            await self._detached(self.check, holding)

    async def _detached(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Wait for ``work``, which is the library's own: it goes on to its end when the caller is cancelled."""
        done, failure = trio.Event(), list[Exception]()

        async def run() -> None:
            try:
                await work(*arguments)
            except (LibreSeedError, OSError) as error:
                failure.append(error)
            done.set()

        self._nursery.start_soon(run)
        await done.wait()
        if failure:
            raise failure[0]

    async def _conclude(self, holding: Holding, stored: Stored, health: Health) -> None:
        self._meter.scrubs += 1
        note = replace(
            stored.note,
            stamps=health.stamps,
            bad_data=health.bad_data,
            bad_parity=health.bad_parity,
            scrubbed_ms=time.time_ns() // 10**6,
            healed=stored.note.healed + health.healed,
        )
        try:
            await trio.to_thread.run_sync(self.store.write_note, holding.folder, note)
        except OSError as error:  # a full disk is no reason to stop seeding: the next start judges the release again
            _LOG.warning("%s: %s", holding.key, from_oserror(error, "writing seed.json").message)
        before = holding.stored
        stored = replace(stored, note=note)
        holding.stored = stored.light()
        if health.healed:
            _LOG.warning("%s: repaired %d chunks from parity", holding.key, health.healed)
        if stored.metainfo is None:
            raise LocalFault("storage.io", f"the torrent file of {holding.release} is lost and cannot be built anew")
        assert before is not None
        known = (before.note.bad_data, before.note.bad_parity)
        if holding.torrent is None or known != (health.bad_data, health.bad_parity):
            await self._offer(holding, stored)
        if holding.state == "damaged":
            _LOG.error("%s: %s", holding.key, holding.fault)

    # --- naming and removing ----------------------------------------------------------------------------------------
    def find(self, text: str) -> Holding:
        """The holding that ``text`` names: ``name@version``, a key of ``list``, or the torrent's hash (a prefix)."""
        prefix = text.removeprefix("btmh:1220")
        named = [one for one in self.holdings.values() if text in (one.release, one.key)]
        if not named and len(prefix) >= _MIN_PREFIX:
            named = [one for one in self.holdings.values() if one.key[-32:].startswith(prefix[:32])]
        if not named:
            raise NotFound("notfound.release", f"{text!r:.200} is not seeded here")
        if len(named) > 1:
            keys = ", ".join(sorted(one.key for one in named)[:8])
            raise UsageFault("usage", f"{text!r:.200} names {len(named)} releases: {keys}")
        return named[0]

    async def remove(self, text: str) -> Holding:
        """Stop seeding a release and delete its files."""
        holding = self.find(text)
        with trio.CancelScope(shield=True), _hurry(holding):  # a removal that was begun is ended
            async with holding.busy:
                if self.holdings.get(holding.key) is not holding:
                    raise NotFound("notfound.release", f"{text!r:.200} was removed by somebody else")
                try:
                    await trio.to_thread.run_sync(self.store.discard, holding.folder)
                except OSError:
                    self._nursery.start_soon(self.check, holding)  # it stays, and is offered again
                    raise
                self.holdings.pop(holding.key)
                self._announcer.drop(holding.key)
                await self.withdraw(holding)
        if holding.stored is not None and holding.stored.outline is not None:
            self._door.dismiss(holding.stored.outline.legacy)
        self._drop_index(holding)
        _LOG.info("%s: removed", holding.key)
        return holding

    def _drop_index(self, removed: Holding) -> None:
        if removed.stored is None:
            return
        name, publisher = removed.stored.minimal.name, removed.stored.minimal.pubkey
        left = [one.stored.minimal for one in self.holdings.values() if one.stored is not None]
        if not any(minimal.name == name and minimal.pubkey == publisher for minimal in left):
            self.indexes.drop(name, publisher)


@contextmanager
def _hurry(holding: Holding) -> Iterator[None]:
    """End the check under way, and keep slow scrubs (which may take hours) from beginning another meanwhile."""
    holding.hurry += 1
    holding.checking.cancel()
    try:
        yield
    finally:
        holding.hurry -= 1


def _damage(note: SeedNote) -> str:
    data, parity = sum(map(len, note.bad_data)), sum(map(len, note.bad_parity))
    return f"beyond repair from its own parity: {data} data chunks and {parity} parity chunks are bad"
