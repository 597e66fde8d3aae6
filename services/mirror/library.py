"""The releases that a mirror has: found in its store folder, judged before they are shown, and again when they change.

The store is a folder of release folders, ``STORE/name@version/``, as ``libreseed-packager build --out STORE`` makes
them; ``STORE/.libreseed-mirror/`` holds the notes. One :class:`Holding` per release folder, owned by the event loop.
Invariants: nothing is shown that was not judged since its files last changed; a judgement runs to its end whoever waits
for it leaves; at most ``_JUDGES`` run at once. docs/specification/mirror.md, 2 and 3.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.files.stopping import cancel_flag
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.errors import LibreSeedError, Malformed, NotFound, TransportFault
from libreseed.ids import ReleaseId
from libreseed.repair.chunkmap import ChunkMap

from .copies import Copy, read_note, stamps_of, write_note
from .judging import Rules, judge, read_chunk_map, recall

__all__ = ["STATE_FOLDER", "Holding", "Library", "release_folders"]

_LOG = logging.getLogger("libreseed.mirror")
STATE_FOLDER = ".libreseed-mirror"
_JUDGES = 2
_MAP_CACHE_BYTES = 64 * 2**20


@dataclass(slots=True)
class Holding:
    """A release folder. ``copy`` is None until it was judged, and while ``refusal`` says why it is not shown.

    ``mark`` is what the folder looked like when it was refused: it is judged again once it looks otherwise.
    """

    release: ReleaseId
    files: ReleaseFiles
    copy: Copy | None = None
    refusal: LibreSeedError | None = None
    mark: dict[str, str] = field(default_factory=dict)
    settled: trio.Event = field(default_factory=trio.Event)  # set while no judgement is wanted or under way

    @property
    def state(self) -> str:
        """``checking``, ``refused``, ``whole`` or ``damaged``."""
        if not self.settled.is_set():
            return "checking"
        if self.copy is None:
            return "refused"
        return "whole" if self.copy.whole else "damaged"


class Library:
    """All holdings of one store; :meth:`run` judges them."""

    def __init__(self, store: Path, rules: Rules, *, rescan: float, patience: float) -> None:
        self.store = store
        self.holdings: dict[str, Holding] = {}
        self.healed = 0
        self.judged = 0
        self.changes = 0  # grows with everything that a listing could show
        self._notes = store / STATE_FOLDER
        self._rules = rules
        self._rescan = rescan
        self._patience = patience
        self.judges = trio.CapacityLimiter(_JUDGES)
        self._to_judge, self._waiting = trio.open_memory_channel[Holding](math.inf)
        self._maps: OrderedDict[str, ChunkMap] = OrderedDict()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Show what notes vouch for; started then. Judge the rest, and what comes later, until cancelled."""
        await self.look()
        async with trio.open_nursery() as nursery:
            for _ in range(_JUDGES):
                nursery.start_soon(self._judge_waiting)
            task_status.started()
            while True:
                await trio.sleep(self._rescan)
                await self.look()

    async def look(self) -> None:
        """Find release folders that came, changed or went."""
        try:
            found = await trio.to_thread.run_sync(release_folders, self.store)
        except OSError as error:  # unmounted, say: what is open goes on, and it may come back
            _LOG.warning("%s", from_oserror(error, "the store").message)
            return
        for text in self.holdings.keys() - found.keys():
            self._drop(text)
        for release in found.values():
            await self._meet(release)

    async def find(self, release: ReleaseId) -> Holding:
        """The holding of a release that can be shown; waits some time for a judgement.

        Raises :class:`NotFound` (``mirror.absent``), and TransportFault ``mirror.checking`` while it takes longer.
        """
        holding = self.holdings.get(str(release))
        if holding is None:
            if not await trio.to_thread.run_sync(_is_folder, self.store / str(release)):
                raise _absent(release)
            holding = await self._meet(release)
        await self.settle(holding)
        if holding.copy is None:
            raise _absent(release)
        return holding

    async def settle(self, holding: Holding) -> None:
        """Wait, with patience but not for ever, until no judgement of ``holding`` is wanted."""
        with trio.move_on_after(self._patience):
            await holding.settled.wait()
            return
        raise TransportFault("mirror.checking", f"{holding.release} is being verified or healed")

    def suspect(self, holding: Holding) -> None:
        """Have ``holding`` judged anew: a file is not the one that was judged, or is not what it should be."""
        if holding.settled.is_set():
            holding.settled = trio.Event()
            self._to_judge.send_nowait(holding)

    async def retry(self, holding: Holding) -> None:
        """Have a copy that will not do judged anew if that may help: its files have changed, or it was long ago."""
        copy = holding.copy
        if copy is not None and holding.settled.is_set():
            age_ms = time.time_ns() // 10**6 - copy.note.judged_ms
            stamps = await trio.to_thread.run_sync(stamps_of, holding.files)
            if stamps != dict(copy.note.stamps) or not 0 <= age_ms < limits.MIRROR_RETRY_SECONDS * 1000:
                self.suspect(holding)
        await self.settle(holding)

    async def chunk_map(self, copy: Copy) -> ChunkMap:
        """The signed chunk map of a copy, kept in memory for some time."""
        key = copy.minimal.chunks.hex
        chunk_map = self._maps.pop(key, None)
        if chunk_map is None:
            chunk_map = await trio.to_thread.run_sync(read_chunk_map, copy.files, copy.minimal)
        self._maps[key] = chunk_map
        while len(self._maps) > 1 and sum(len(one.data) for one in self._maps.values()) > _MAP_CACHE_BYTES:
            self._maps.popitem(last=False)
        return chunk_map

    async def confirm(self, holding: Holding, copy: Copy, now_ms: int) -> None:
        """A scrub found ``copy`` as it was judged."""
        holding.copy = replace(copy, note=replace(copy.note, judged_ms=now_ms))
        await self._remember(holding, holding.copy)

    def complain(self, holding: Holding, message: str) -> None:
        """Log what went wrong with a copy."""
        _LOG.error("%s: %s", holding.release, message)

    async def _meet(self, release: ReleaseId) -> Holding:
        """The holding of a folder that is there; new, or changed since it was refused, it is to be judged."""
        holding = self.holdings.get(str(release))
        if holding is None:
            files = ReleaseFiles.of_release(self.store / str(release), release)
            holding = self.holdings[str(release)] = Holding(release, files)
            if await trio.to_thread.run_sync(self._recall, holding):
                self.changes += 1
            else:
                self._to_judge.send_nowait(holding)
        elif holding.state == "refused" and await trio.to_thread.run_sync(stamps_of, holding.files) != holding.mark:
            self.suspect(holding)
        return holding

    def _recall(self, holding: Holding) -> bool:
        """Whether the note vouches for the copy; blocks."""
        try:
            note = read_note(self._note(holding))
            holding.copy = recall(holding.files, note, self._rules, time.time_ns() // 10**6)
        except (LibreSeedError, OSError):
            return False  # the judgement will say why
        if holding.copy is not None:
            holding.settled.set()
        return holding.copy is not None

    async def _judge_waiting(self) -> None:
        async for holding in self._waiting:
            if self.holdings.get(str(holding.release)) is holding:
                await self._judge(holding)
            holding.settled.set()

    async def _judge(self, holding: Holding) -> None:
        mark = await trio.to_thread.run_sync(stamps_of, holding.files)
        try:
            with cancel_flag() as cancelled:
                now_ms, note = time.time_ns() // 10**6, holding.copy.note if holding.copy else None
                if note is None:
                    note = await trio.to_thread.run_sync(read_note, self._note(holding))
                copy = await trio.to_thread.run_sync(
                    judge, holding.files, note, self._rules, now_ms, cancelled,
                    limiter=self.judges, abandon_on_cancel=True,
                )  # fmt: skip
        except LibreSeedError as error:
            self._refuse(holding, error, mark)
        except OSError as error:
            self._refuse(holding, from_oserror(error, f"reading {holding.release}"), mark)
        else:
            self.judged += 1
            self.healed += copy.note.healed - (note.healed if note is not None else 0)
            self._accept(holding, copy)
            await self._remember(holding, copy)

    def _accept(self, holding: Holding, copy: Copy) -> None:
        if holding.copy is None or holding.copy.whole != copy.whole:
            _LOG.info("%s: %s, coherence %s", holding.release, "whole" if copy.whole else "damaged", copy.coherence)
        holding.copy, holding.refusal = copy, None
        self.changes += 1

    def _refuse(self, holding: Holding, error: LibreSeedError, mark: dict[str, str]) -> None:
        _LOG.error("%s is not shown: %s [%s]", holding.release, error.message, error.reason)
        holding.copy, holding.refusal, holding.mark = None, error, mark
        self.changes += 1

    async def _remember(self, holding: Holding, copy: Copy) -> None:
        """A note that cannot be kept costs the next start a judgement, nothing else."""
        with contextlib.suppress(OSError):
            await trio.to_thread.run_sync(self._keep_note, holding, copy)

    def _keep_note(self, holding: Holding, copy: Copy) -> None:
        self._notes.mkdir(mode=0o700, exist_ok=True)
        write_note(self._note(holding), copy.note)

    def _note(self, holding: Holding) -> Path:
        return self._notes / f"{holding.release}.note.json"

    def _drop(self, text: str) -> None:
        holding = self.holdings.pop(text)
        holding.copy = None
        holding.settled.set()
        self.changes += 1
        _LOG.info("%s is gone from the store", text)


def _absent(release: ReleaseId) -> NotFound:
    return NotFound("mirror.absent", f"{release} is not mirrored here")


def _is_folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()  # in this order: a link into a closed folder would raise


def release_folders(store: Path) -> dict[str, ReleaseId]:
    """Folders that are named like a release, by name."""
    found: dict[str, ReleaseId] = {}
    for path in sorted(store.iterdir()):
        with contextlib.suppress(Malformed):
            release = ReleaseId.parse(path.name)
            if str(release) == path.name and _is_folder(path):
                found[path.name] = release
    return dict(list(found.items())[: limits.MIRROR_RELEASES])
