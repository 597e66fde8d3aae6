"""The watch folder: a release folder that appears there (by one rename, as the packager publishes it) is added.

It is looked at every few seconds: no library for inotify is needed, and network file systems have none. What was done
with a folder is kept in ``STATE/watched.json``, so that a release that an operator removed does not come back, and a
bad one is judged once; a folder that changes is looked at anew. A bad release is moved to ``WATCH/.quarantine/`` with
the reason in a file beside it; where it cannot be moved it stays, and the reason is kept in ``STATE/quarantine/``.
The folder of a good release stays as it is: the seeder has its own copy.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from libreseed import wire
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LibreSeedError, Malformed
from libreseed.ids import ReleaseId
from libreseed.reasons import Exit

from .source import Source, locate

__all__ = ["WatchFolder", "note_quarantine"]

_LOG = logging.getLogger("libreseed.seeder")
_LEDGER_BYTES = 8 * 2**20
# Whose fault it is decides: these are the release's, everything else (a full disk, a missing file) may pass.
_RELEASE_FAULTS = frozenset({Exit.RECORD_REJECTED, Exit.ROLLBACK, Exit.CONTENT_REJECTED, Exit.BEYOND_REPAIR})


class WatchFolder:
    """Picks up release folders in ``folder`` by ``add``; ``state_dir`` keeps the ledger and the quarantine's notes."""

    def __init__(
        self, folder: Path, state_dir: Path, add: Callable[[Source], Awaitable[object]], *, interval: float
    ) -> None:
        self._folder = folder
        self._state_dir = state_dir
        self._add = add
        self._interval = interval
        self._ledger_path = state_dir / "watched.json"
        self._ledger: dict[str, str] = {}
        self._complained: dict[str, str] = {}
        self.quarantined = 0
        self.fault = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        self._ledger = await trio.to_thread.run_sync(_read_ledger, self._ledger_path)
        task_status.started()
        while True:
            try:
                await self._look()
                self.fault = ""
            except OSError as error:  # the folder is unmounted, say: it may come back
                fault = from_oserror(error, "the watch folder").message
                if fault != self.fault:
                    _LOG.warning("%s", fault)
                self.fault = fault
            await trio.sleep(self._interval)

    def report(self) -> dict[str, object]:
        """For ``status``."""
        return {"fault": self.fault, "folder": str(self._folder), "quarantined": self.quarantined}

    async def _look(self) -> None:
        found = await trio.to_thread.run_sync(_release_folders, self._folder)
        gone = self._ledger.keys() - found.keys()
        if gone:
            self._ledger = {name: mark for name, mark in self._ledger.items() if name in found}
            await self._save()
        for name, mark in found.items():
            if self._ledger.get(name) != mark:
                await self._pick_up(name, mark)

    async def _pick_up(self, name: str, mark: str) -> None:
        folder = self._folder / name
        try:
            await self._add(await trio.to_thread.run_sync(locate, folder))
        except LibreSeedError as error:
            if error.exit_code not in _RELEASE_FAULTS:
                if self._complained.get(name) != error.reason:  # once, though it is tried again
                    _LOG.warning("watch folder: %s is not added: %s [%s]", name, error.message, error.reason)
                self._complained[name] = error.reason
                return
            _LOG.warning("watch folder: %s is quarantined: %s [%s]", name, error.message, error.reason)
            self.quarantined += 1
            await trio.to_thread.run_sync(self._put_aside, folder, error)
        self._complained.pop(name, None)
        self._ledger[name] = mark
        await self._save()

    def _put_aside(self, folder: Path, error: LibreSeedError) -> None:
        place = self._folder / ".quarantine"
        target = place / f"{folder.name}.{time.time_ns()}"
        try:
            place.mkdir(mode=0o755, exist_ok=True)
            folder.rename(target)
            durable_write(target.with_name(target.name + ".reason.json"), _reason(folder, error))
        except OSError:  # not ours to move: the ledger remembers it, and the reason is kept here
            note_quarantine(self._state_dir / "quarantine", folder, error)

    async def _save(self) -> None:
        data = wire.canonical(self._ledger)
        await trio.to_thread.run_sync(durable_write, self._ledger_path, data, 0o600)


def note_quarantine(quarantine: Path, source: Path, error: LibreSeedError) -> None:
    """Keep why ``source`` was refused as a file in ``quarantine``; the last 100 such notes are kept."""
    durable_write(quarantine / f"{time.time_ns()}.reason.json", _reason(source, error), mode=0o600)
    for old in sorted(quarantine.glob("*.reason.json"))[:-100]:
        old.unlink(missing_ok=True)


def _reason(source: Path, error: LibreSeedError) -> bytes:
    document = {**error.as_json(), "source": os.fsencode(source).decode("utf-8", "backslashreplace")}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _release_folders(folder: Path) -> dict[str, str]:
    """Folders that are named like a release -> a mark that changes when anything directly in them does."""
    found: dict[str, str] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False) and _is_release(entry.name):
            status = entry.stat(follow_symlinks=False)
            marks = [f"{status.st_ino}:{status.st_mtime_ns}"]
            for file in sorted(os.scandir(entry.path), key=lambda file: file.name):
                inner = file.stat(follow_symlinks=False)
                marks.append(f"{inner.st_size}:{inner.st_mtime_ns}")
            found[entry.name] = "/".join(marks[:16])
    return found


def _is_release(name: str) -> bool:
    try:
        ReleaseId.parse(name)
    except Malformed:
        return False
    return True


def _read_ledger(path: Path) -> dict[str, str]:
    """The ledger; an absent or damaged one only means that everything is looked at again (and found known)."""
    try:
        ledger = wire.parse(path.read_bytes(), max_bytes=_LEDGER_BYTES)
    except (FileNotFoundError, Malformed):
        return {}
    return {name: mark for name, mark in ledger.items() if isinstance(mark, str)} if isinstance(ledger, dict) else {}
