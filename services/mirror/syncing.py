"""Brings releases from other mirrors and from the swarm into a store: each verified whole before it is visible.

What is wanted is named, or is everything that the mirrors list by publishers that are mirrored here. A release is
pulled into ``STORE/.libreseed-mirror/sync/``, completed there (parity and torrent are made anew), judged like any other
copy, and appears in the store by one rename. One that is held and whole is left alone; one that is damaged is replaced.
A release that fails does not keep the others out. docs/specification/mirror.md, 7.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.files.durable import remove_leftovers, replace_directory
from libreseed.adapters.files.stopping import cancel_flag
from libreseed.adapters.files.watcher import Watcher
from libreseed.adapters.mirrors.documents import Document, all_good
from libreseed.adapters.release.release_folder import SUFFIXES, ReleaseFiles
from libreseed.adapters.resolving.store import Workspace
from libreseed.dht.items import SignedItem
from libreseed.dht.records import minimal_from_item, parse_dht_record
from libreseed.errors import ContentRejected, LibreSeedError, Malformed, NotFound, RecordRejected, TransportFault
from libreseed.ids import ReleaseId
from libreseed.package.minimal import MinimalManifest
from libreseed.reasons import Exit
from libreseed.resolve.mirror_records import read_record
from libreseed.silexium.bundle import parse_bundle

from .copies import read_note, write_note
from .judging import Rules, judge, read_chunk_map, read_minimal, recall
from .library import STATE_FOLDER
from .pulling import Sources, pull_content, small_document, trusted_resolution
from .swarm import record_file

__all__ = ["SyncResult", "Syncer"]

SHOWN = frozenset({*SUFFIXES, ".silexium.json"})


@dataclass(slots=True)
class SyncResult:
    """What a sync did, by ``name@version``; ``failed`` says why."""

    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    fault: LibreSeedError | None = None  # the first one

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {"added": self.added, "failed": self.failed, "kept": self.kept}


class Syncer:
    """Pulls into ``store`` what ``rules`` allow."""

    def __init__(self, store: Path, rules: Rules, sources: Sources, watcher: Watcher) -> None:
        self._store = store
        self._rules = rules
        self._sources = sources
        self._watcher = watcher
        self._sync = store / STATE_FOLDER / "sync"

    async def run(self, wanted: Sequence[ReleaseId]) -> SyncResult:
        """Pull ``wanted``, or everything that is listed; raises LibreSeedError for faults of this machine only."""
        await trio.to_thread.run_sync(partial(self._sync.mkdir, mode=0o700, parents=True, exist_ok=True))
        await trio.to_thread.run_sync(remove_leftovers, self._store)
        result = SyncResult()
        for release in wanted or await self._listed():
            self._watcher.phase(f"looking at {release}")
            try:
                added = await self._one(release)
            except (LibreSeedError, ExceptionGroup) as error:
                fault = _fault(error)
                if fault.exit_code == Exit.STORAGE and fault.reason != "storage.quota":
                    raise
                result.failed[str(release)] = f"{fault.message} [{fault.reason}]"
                result.fault = result.fault or fault
            else:
                (result.added if added else result.kept).append(str(release))
        return result

    # --- what there is -----------------------------------------------------------------------------------------------

    async def _listed(self) -> list[ReleaseId]:
        """All releases that any mirror lists; raises what was wrong if none has a list."""
        urls = [f"{site.base}/releases.json" for site in self._sources.sites]
        document = Document(limits.MIRROR_LIST_BYTES, self._sources.silence_s, _read_list)
        answers = await all_good(self._sources.ranges, urls, document)
        if not answers.good:
            raise next(iter(answers.faults.values()))
        found = {str(release): release for releases in answers.good.values() for release in releases}
        return [found[name] for name in sorted(found)]

    async def _record(self, release: ReleaseId) -> tuple[MinimalManifest, SignedItem | None]:
        """The newest sound record by a publisher that is mirrored here, from anywhere."""
        urls = [site.document(release, "minimal.json") for site in self._sources.sites]
        document = Document(limits.MINIMAL_BYTES, self._sources.silence_s, partial(read_record, release=release))
        answers = await all_good(self._sources.ranges, urls, document)
        found: list[tuple[MinimalManifest, SignedItem | None]] = [(one, None) for one in answers.good.values()]
        if self._sources.swarm is not None:
            item = await self._sources.swarm.record(release, sorted(self._rules.publishers, key=str))
            if item is not None:
                found.append((minimal_from_item(item), item))
        allowed = [pair for pair in found if not self._rules.publishers or pair[0].pubkey in self._rules.publishers]
        if allowed:
            return max(allowed, key=lambda pair: pair[0].timestamp)
        if found:
            raise RecordRejected("mirror.publisher", f"{release} is {found[0][0].pubkey}'s, who is not mirrored here")
        if rejected := [fault for fault in answers.faults.values() if not isinstance(fault, TransportFault)]:
            raise rejected[0]
        raise next(iter(answers.faults.values()), NotFound("notfound.record", f"nobody who was asked has {release}"))

    # --- one release -------------------------------------------------------------------------------------------------

    async def _one(self, release: ReleaseId) -> bool:
        """Whether it was pulled; False where a whole copy of the same content is here."""
        minimal, item = await self._record(release)
        now_ms = time.time_ns() // 10**6
        if await trio.to_thread.run_sync(self._is_here, minimal, now_ms):
            await trio.to_thread.run_sync(partial(shutil.rmtree, self._place(minimal), ignore_errors=True))
            return False
        silence_s = self._sources.silence_s
        resolution = trusted_resolution(minimal, self._rules.max_package_bytes, now_ms, silence_s)
        space = await trio.to_thread.run_sync(self._workspace, minimal)
        self._watcher.phase(f"fetching {release}", minimal.size)
        shown = partial(_show, self._watcher, minimal.size)
        await pull_content(resolution, space, self._sources, shown)
        files = ReleaseFiles(space.swarm, str(release))
        await self._add_documents(files, minimal, item)
        self._watcher.phase(f"verifying {release}")
        with cancel_flag() as cancelled:
            finish = partial(self._publish, files, minimal, now_ms, cancelled)
            await trio.to_thread.run_sync(finish, abandon_on_cancel=True)
        await trio.to_thread.run_sync(shutil.rmtree, space.root)
        return True

    def _is_here(self, minimal: MinimalManifest, now_ms: int) -> bool:
        """Raises ``mirror.other-release`` where another publisher's release of that name and version is held."""
        files = ReleaseFiles.of_release(self._store / str(minimal.release), minimal.release)
        if not files.folder.exists():
            return False
        rules = Rules()  # it is here already, whoever's releases are pulled today
        try:
            held = read_minimal(files, rules, now_ms)
        except LibreSeedError:
            return False  # it is nobody's
        if held.data != minimal.data:  # whatever became of its content
            if held.pubkey != minimal.pubkey or held.timestamp >= minimal.timestamp:
                raise RecordRejected("mirror.other-release", f"another {minimal.release} is held here")
            return False
        with contextlib.suppress(LibreSeedError):  # nobody is shown it
            note = read_note(self._note(minimal.release))
            return (recall(files, note, rules, now_ms) or judge(files, note, rules, now_ms, threading.Event())).whole
        return False

    def _workspace(self, minimal: MinimalManifest) -> Workspace:
        space = Workspace(self._place(minimal))
        if self._sources.swarm is not None and space.root.exists():
            shutil.rmtree(space.root)
        space.swarm.mkdir(parents=True, exist_ok=True)
        return space

    def _place(self, minimal: MinimalManifest) -> Path:
        """Where it is pulled to; a run that was cut off after it had published leaves there what it replaced."""
        return self._sync / f"{minimal.release}.{minimal.torrent.hex[:16]}"

    async def _add_documents(self, files: ReleaseFiles, minimal: MinimalManifest, item: SignedItem | None) -> None:
        """The small files beside the content: what a mirror gives is kept if it holds, and missed if nobody has it."""
        silence = self._sources.silence_s
        record = record_file(item) if item is not None else None
        if record is None:
            read = Document(limits.DHT_RECORD_BYTES, silence, partial(_checked_record, minimal=minimal))
            record = await small_document(self._sources, minimal, "dht.json", read)
        bundle = await small_document(
            self._sources, minimal, "silexium.json", Document(limits.BUNDLE_BYTES, silence, _checked_bundle)
        )
        for suffix, data in ((".minimal.json", minimal.data), (".dht.json", record), (".silexium.json", bundle)):
            if data is not None:
                await trio.to_thread.run_sync(files.path(suffix).write_bytes, data)

    def _publish(self, files: ReleaseFiles, minimal: MinimalManifest, now_ms: int, cancelled: threading.Event) -> None:
        """Complete, judge and show the release; a copy that was here under its name goes."""
        chunk_map = read_chunk_map(files, minimal)
        ChunkStore(chunk_map, files.tgz, files.path(".parity")).repair(heal_parity=True, threads=2)
        copy = judge(files, None, self._rules, now_ms, cancelled)
        if not copy.whole:
            raise ContentRejected("repair.beyond", f"{minimal.release} changed on the disk while it was pulled")
        for path in files.folder.iterdir():
            if path.name.removeprefix(files.stem) not in SHOWN:
                path.unlink()  # a session's own
            else:
                path.chmod(0o644)
        final = self._store / str(minimal.release)
        replace_directory(files.folder, final)
        shown = ReleaseFiles.of_release(final, minimal.release)
        known = recall(shown, copy.note, self._rules, now_ms)  # renaming a folder leaves its files' stamps alone
        if known is not None:
            write_note(self._note(minimal.release), known.note)

    def _note(self, release: ReleaseId) -> Path:
        return self._store / STATE_FOLDER / f"{release}.note.json"


def _fault(error: BaseException) -> LibreSeedError:
    """The declared fault among what a nursery's tasks raised together; raises anything that is none."""
    while isinstance(error, ExceptionGroup):
        error = next((one for one in error.exceptions if not isinstance(one, LibreSeedError)), error.exceptions[0])
    if not isinstance(error, LibreSeedError):
        raise error
    return error


def _read_list(data: bytes) -> list[ReleaseId]:
    """The releases that a mirror lists; what it says of them is not believed."""
    try:
        listed = json.loads(data)["releases"]
        return [ReleaseId.parse(one["release"]) for one in _bounded(listed)]
    except (ValueError, KeyError, TypeError, RecursionError, Malformed) as error:
        raise TransportFault("http.protocol", f"a mirror's list is none: {error}") from error


def _bounded(listed: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    found = list(listed)
    if len(found) > limits.MIRROR_RELEASES:
        raise ValueError(f"{len(found)} releases")
    return found


def _checked_record(data: bytes, minimal: MinimalManifest) -> bytes:
    parse_dht_record(data, minimal)
    return data


def _checked_bundle(data: bytes) -> bytes:
    parse_bundle(data)
    return data


def _show(watcher: Watcher, size: int, chunks: int, peers: int) -> None:
    watcher.update(min(chunks * limits.CHUNK_BYTES, size))
