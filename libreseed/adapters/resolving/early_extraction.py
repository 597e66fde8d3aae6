"""Steps 8 and 9 beside the download: a .tgz is extracted out of sight while its rest arrives (``resolver.md``, 4).

It saves time and decides nothing. Only verified bytes are read, what comes of them counts after step 7, and whatever
goes wrong here is forgotten: then the whole .tgz is extracted once more, and that is judged.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.files.durable import staging_directory
from libreseed.adapters.files.growing_file import GrowingFile, Stopped
from libreseed.errors import LibreSeedError, LocalFault
from libreseed.package.minimal import MinimalManifest

if TYPE_CHECKING:
    from libreseed.adapters.packing.archive import ExtractReport

__all__ = ["EarlyExtraction", "Extracted", "early_extraction"]

_LOOK_S = 0.5  # after so long it is known how fast bytes come
_FAST = 128 * 2**20  # bytes per second: more keep the processors busy by themselves, and are soon here anyway
_ROOM = 4  # times the .tgz that the disk must have free: a tree that it has no room for shall not end the download


@dataclass(frozen=True, slots=True)
class Extracted:
    """A tree of which steps 8 and 9 would say ``report``, below a staging directory that somebody else removes."""

    root: Path
    report: ExtractReport


@asynccontextmanager
async def early_extraction(
    tgz: Path, minimal: MinimalManifest, parent: Path, progress: Progress
) -> AsyncIterator[EarlyExtraction]:
    """Ready to extract ``tgz`` into a staging directory in ``parent``, which goes afterwards unless it was renamed."""
    early = EarlyExtraction(tgz, minimal, parent, progress)
    try:
        async with trio.open_nursery() as nursery:
            early.nursery = nursery
            yield early
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(early.clear)


class EarlyExtraction:
    """Told how much is verified; begins when it is worth it, and has the tree when all is."""

    nursery: trio.Nursery

    def __init__(self, tgz: Path, minimal: MinimalManifest, parent: Path, progress: Progress) -> None:
        self._staging = ExitStack()
        self._file = GrowingFile(tgz, minimal.size)
        self._minimal = minimal
        self._parent = parent
        self._progress = progress
        self._first: tuple[float, int] | None = None  # when we first heard of a prefix, and its length
        self._begun = False
        self._ended = trio.Event()
        self._count = 0  # uncompressed bytes so far
        self._shown = False
        self._extracted: Extracted | None = None

    def verified(self, end: int) -> None:
        """All bytes before ``end`` are."""
        self._file.grow(end)
        now = trio.current_time()
        if self._first is None:
            self._first = now, end
        since, at = self._first
        slow = now - since >= _LOOK_S and end - at <= _FAST * (now - since)
        if slow and not self._begun and shutil.disk_usage(self._parent).free >= _ROOM * self._minimal.size:
            self._begun = True
            self.nursery.start_soon(self._run)

    async def result(self) -> Extracted | None:
        """After step 7, which found all to be right: the tree, None if it has to be extracted now.

        Its bytes are shown in the phase that its caller has begun.
        """
        if not self._begun:
            return None
        self._file.grow(self._minimal.size)
        self._progress.update(self._count)
        self._shown = True
        await self._ended.wait()
        if self._extracted is None:
            return None
        try:  # it may lie there for as long as the download has taken
            await trio.to_thread.run_sync(_require_untouched, self._extracted)
        except (LocalFault, OSError):
            await self.drop()
            return None
        return self._extracted

    async def drop(self) -> None:
        """Instead of :meth:`result`: what was read does not count, so the disk has to have no room for it."""
        self._file.stop()
        if self._begun:
            await self._ended.wait()
        await trio.to_thread.run_sync(self.clear)

    def clear(self) -> None:
        """Remove what there is of a tree, once nobody writes it; where that fails, the next run does it. Blocks."""
        with suppress(OSError):
            self._staging.close()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            await trio.to_thread.run_sync(self._extract)
            nursery.cancel_scope.cancel()
        self._ended.set()

    async def _stop_when_cancelled(self) -> None:
        """Nobody cancels a thread that waits for bytes."""
        try:
            await trio.sleep_forever()
        finally:
            self._file.stop()

    def _extract(self) -> None:
        from libreseed.adapters.packing.archive import extract_archive

        try:
            root = self._staging.enter_context(staging_directory(self._parent))
            with self._file:
                report = extract_archive(self._file, self._minimal, root, progress=self._advance)
            if self._file.sha256() == self._minimal.infohash:  # not the disk's, which may have been others meanwhile
                self._extracted = Extracted(root, report)
        except (LibreSeedError, OSError, Stopped):
            pass  # what it was shows when the whole is judged
        finally:
            if self._extracted is None:
                self.clear()

    def _advance(self, count: int) -> None:
        trio.from_thread.check_cancelled()
        self._count += count
        if self._shown:
            self._progress.update(self._count)


def _require_untouched(tree: Extracted) -> None:
    from libreseed.adapters.packing.tree_stamps import require_untouched

    require_untouched(tree.root, tree.report.stamps)
