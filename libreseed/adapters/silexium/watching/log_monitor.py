"""Reads what is new in a log and tells which entries somebody watches for; keeps one small file, no copy of the log.

One update: the checkpoint is verified and must extend what is remembered; each bundle of new entries is believed from
the signed root down, as a mirror does it; what is found in it is durable before it is told, and noted as told after.
So no entry is skipped, whenever the process dies; one that may have been told already is told again as such, and that
can only happen to those of one batch. A fork of the log ends in the file: every later head is refused.

Refusals, as a mirror's, leave the file as it was, but for ``silexium.fork``. Every method blocks. Specification:
``silexium-log.md``, 9.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from libreseed import limits, wire
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.resolving.store import ReleaseLock
from libreseed.adapters.silexium.proofs.proof_source import bundle_places
from libreseed.adapters.silexium.watching.log_fetch import (
    BUNDLES_AT_ONCE,
    Fetch,
    fetch_bodies,
    fetch_file,
    fetch_tile,
    proof_of_growth,
    verified_checkpoint,
)
from libreseed.errors import LibreSeedError, LocalFault, NotFound, ProofRejected
from libreseed.ids import PublicKey
from libreseed.silexium.entry_watch import Finding, Watch, WatchMemory, author_of, parse_watch_memory
from libreseed.silexium.log_entry import LogEntry
from libreseed.silexium.log_memory import HeadConflict, LogMemory, receive_head, require_clock
from libreseed.silexium.log_path import CHECKPOINT_PATH
from libreseed.silexium.tile_check import LogWalk
from libreseed.silexium.tree_head import Checkpoint
from libreseed.silexium.trust_policy import TrustedLog

__all__ = ["LogMonitor", "Monitored", "Tell"]

# What was found; True if it may have been told before, by a process that died.
Tell = Callable[[Finding, bool], None]


@dataclass(frozen=True, slots=True)
class Monitored:
    """An update: the log has ``size`` entries, ``read`` of them were read now; ``told`` is what was found."""

    size: int
    read: int
    told: tuple[Finding, ...]

    @property
    def unexpected(self) -> tuple[Finding, ...]:
        """What should not be in the log."""
        return tuple(finding for finding in self.told if finding.unexpected)


class LogMonitor:
    """Watches ``log`` for ``watch``; remembers in the file ``path``, one process at a time."""

    def __init__(self, path: Path, log: TrustedLog, watch: Watch) -> None:
        self.path = path
        self.log = log
        self.watch = watch

    def update(self, fetch: Fetch, now: int, tell: Tell) -> Monitored:
        """Read what ``fetch`` has to offer at ``now`` (Unix seconds), and tell what is found, in the log's order."""
        with self._locked():
            known = self._read()
            told = () if known is None else self._tell(known, tell, again=True)
            state, walk = self._receive(fetch, now, known)
            start, size = state.start(self.watch), state.log.head.size
            for end in self._walk(fetch, walk, state, start):
                state.advance(self.watch, end)
                self._write(state)
                told += self._tell(state, tell)
            return Monitored(size, max(0, size - start), told)

    def _receive(self, fetch: Fetch, now: int, known: WatchMemory | None) -> tuple[WatchMemory, LogWalk]:
        """What is remembered once the head that the source shows fits it, and the walk over what that head has more."""
        before = None if known is None else known.log
        require_clock(before, now)
        checkpoint = verified_checkpoint(fetch_file(fetch, CHECKPOINT_PATH, limits.NOTE_BYTES), self.log, now)
        walk = LogWalk(
            lambda tile: fetch_tile(fetch, tile), 0 if before is None else before.head.size, checkpoint.sth.head
        )
        try:
            learned = _learn(before, checkpoint, walk, now)
        except ProofRejected as error:
            conflict = error.evidence.get("conflict")
            if known is not None and known.log.conflict is None and isinstance(conflict, HeadConflict):
                known.log = replace(known.log, conflict=conflict)
                self._write(known)
                error.details = (*error.details, f"the evidence is in {self.path}")
            raise
        state = WatchMemory(learned) if known is None else known
        state.log = learned
        self._write(state)
        return state, walk

    def _walk(self, fetch: Fetch, grown: LogWalk, state: WatchMemory, start: int) -> Iterator[int]:
        """Judge everything from entry ``start`` on; yields after each batch how far it has come."""
        head = state.log.head.head
        if start >= head.size:
            return
        walk = (
            grown
            if (start, head.size) == (grown.old, grown.head.size)
            else LogWalk(lambda tile: fetch_tile(fetch, tile), start, head)
        )
        walk.edge()
        for _ in walk.tiles():
            pass  # each is verified against the one above it, down to those that vouch for the entries
        places = iter(walk.bundles())
        while batch := list(itertools.islice(places, BUNDLES_AT_ONCE)):
            for place, data in zip(batch, fetch_bodies(fetch, batch), strict=True):
                for index, entry in enumerate(walk.entries(place, data).entries, place.start):
                    self._judge(fetch, state, index, entry)
            yield batch[-1].start + batch[-1].width

    def _judge(self, fetch: Fetch, state: WatchMemory, index: int, data: bytes) -> None:
        entry = state.candidate(self.watch, index, data)
        if entry is not None:
            author = self._author(fetch, entry) if self.watch.authors else ""
            state.judge(self.watch, index, entry, author)

    def _author(self, fetch: Fetch, entry: LogEntry) -> PublicKey | str:
        """The watched key of the entry's author, or why none can be shown. Whoever hides a bundle shows none."""
        why = "its bundle is not there"
        for place in bundle_places(entry.release):
            try:
                (data,) = fetch([place], limits.BUNDLE_BYTES)
                if data is not None:
                    return author_of(entry, data, self.watch.authors)
            except LibreSeedError as error:
                why = f"{error.message:.{limits.REPORT_CHARS}} [{error.reason}]"
        return why

    def _tell(self, state: WatchMemory, tell: Tell, *, again: bool = False) -> tuple[Finding, ...]:
        told = tuple(state.untold)
        for finding in told:
            tell(finding, again)
        if told:
            state.untold.clear()
            self._write(state)
        return told

    def _read(self) -> WatchMemory | None:
        try:
            data = read_bounded(self.path, limits.WATCH_BYTES)
        except NotFound:
            return None
        try:
            return parse_watch_memory(data, self.log.identity)
        except ProofRejected as error:
            error.details = (*error.details, f"what is remembered of {self.log.identity.name} is in {self.path}")
            raise

    def _write(self, state: WatchMemory) -> None:
        durable_write(self.path, wire.canonical(state.members(self.log.identity)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with closing(ReleaseLock(self.path.with_name(self.path.name + ".lock"))) as lock:
            if not lock.acquire(wait=False):
                raise LocalFault("storage.folder-busy", f"another process watches with {self.path}")
            yield


def _learn(before: LogMemory | None, checkpoint: Checkpoint, walk: LogWalk, now: int) -> LogMemory:
    """The memory with the new head; an old one, although it was once seen, shows nothing new and may hide much."""
    sth = checkpoint.sth
    if sth.size > walk.old:
        walk.edge()
    learned = receive_head(before, sth, now=now, proof=proof_of_growth(before, sth, walk))
    if sth.size < walk.old:
        message = f"the log shows {sth.size} entries, an old head: {walk.old} were seen"
        evidence = {"small": sth.members(), "large": learned.head.members()}
        raise ProofRejected("silexium.rollback", message, evidence=evidence)
    return learned
