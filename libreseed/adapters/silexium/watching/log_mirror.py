"""Copies a log into a folder, believing nothing but the log's signature: the same layout comes out that went in.

One update: the checkpoint is verified and compared with what the mirror remembers; tiles and entries are believed from
the signed root down (:mod:`libreseed.silexium.tile_check`); files, then memory, then the checkpoint become durable. So
a mirror never shows a head whose entries it does not have, or that does not extend what it has shown. Bundles that an
interrupted run has left are verified and kept.

Refusals, after which the folder shows what it showed before: ``silexium.entry`` (forged entry), ``.tile`` (truncated or
forged tile), ``.rollback`` (old head), ``.fork`` (another history; the evidence is written, and every later head of the
log refused), ``.stale``, ``.future``, ``.clock``, ``.witness-quorum`` and those of heads. Every method blocks.
Specification: ``silexium-log.md``, 7.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blake3 import blake3

from libreseed import limits, wire
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.watching.log_fetch import (
    BUNDLES_AT_ONCE,
    Fetch,
    fetch_bodies,
    fetch_file,
    fetch_tile,
    forked,
    proof_of_growth,
    verified_checkpoint,
)
from libreseed.errors import NotFound, ProofRejected
from libreseed.silexium.instants import format_instant
from libreseed.silexium.log_memory import (
    HeadConflict,
    LogMemory,
    parse_memory,
    receive_head,
    require_clock,
)
from libreseed.silexium.log_path import CHECKPOINT_PATH, BodyBundle, EntryBundle
from libreseed.silexium.log_proofs import prefix_proof
from libreseed.silexium.merkle import CompactRange
from libreseed.silexium.tile_check import LogWalk, VerifiedBundle
from libreseed.silexium.tiles import Tile, TileNodes
from libreseed.silexium.tree_head import Checkpoint, SignedTreeHead, parse_checkpoint
from libreseed.silexium.trust_policy import TrustedLog

__all__ = ["LogMirror", "Mirrored"]

_MEMORY = "memory.json"
_EVIDENCE = "evidence"
_COMMITTED = 256  # bundles between two syncs


@dataclass(frozen=True, slots=True)
class Mirrored:
    """An update: the folder had ``old`` entries and has those of ``checkpoint`` now; ``kept`` bundles were there."""

    old: int
    checkpoint: Checkpoint
    kept: int = 0


class LogMirror:
    """The mirror of ``log`` in ``folder``; one process at a time."""

    def __init__(self, folder: LogFolder, log: TrustedLog) -> None:
        self.folder = folder
        self.log = log

    def update(self, fetch: Fetch, now: int, *, source: str = "") -> Mirrored:
        """Bring the folder up to what ``fetch`` offers at ``now`` (Unix seconds); ``source`` is named in evidence."""
        with self.folder.locked():
            memory = self.memory()
            require_clock(memory, now)
            data = fetch_file(fetch, CHECKPOINT_PATH, limits.NOTE_BYTES)
            checkpoint = verified_checkpoint(data, self.log, now)
            try:
                return self._update(fetch, now, memory, checkpoint, data)
            except ProofRejected as error:
                conflict = error.evidence.get("conflict")
                if isinstance(conflict, HeadConflict):
                    path = self._keep_conflict(memory, conflict, now, source)
                    error.details = (*error.details, f"the evidence is in {path}")
                raise

    def memory(self) -> LogMemory | None:
        """What the mirror remembers of the log, None before the first update; raises ``silexium.memory``."""
        try:
            data = read_bounded(self.folder.state / _MEMORY, limits.LOG_MEMORY_BYTES)
        except NotFound:
            return None
        return parse_memory(data, self.log.identity)

    def _update(
        self, fetch: Fetch, now: int, memory: LogMemory | None, checkpoint: Checkpoint, data: bytes
    ) -> Mirrored:
        sth, old = checkpoint.sth, 0 if memory is None else memory.head.size
        if memory is not None and memory.conflict is None and sth.size < old:
            raise self._older(memory, sth)
        walk = LogWalk(lambda tile: fetch_tile(fetch, tile), old, sth.head)
        if sth.size > old:
            walk.edge()
        learned = receive_head(memory, sth, now=now, proof=proof_of_growth(memory, sth, walk))
        kept = self._take(fetch, walk) if sth.size > old else 0
        if memory is not None and learned.head.timestamp > sth.timestamp:
            return Mirrored(old, Checkpoint(learned.head))  # an older signature of the same tree: ours stays
        self.folder.commit()
        durable_write(self.folder.state / _MEMORY, wire.canonical(learned.members()))
        self.folder.publish(data, self._published(), sth.size)
        return Mirrored(old, checkpoint, kept)

    def _take(self, fetch: Fetch, walk: LogWalk) -> int:
        """Write all that is new; returns how many bundles were there already."""
        for tile, hashes in walk.tiles():
            self.folder.write_tile(tile, hashes)
        kept = 0
        for number, (bundle, here) in enumerate(self._bundles(fetch, walk), 1):
            place = bundle.place
            kept += here
            self.folder.write_tile(Tile(0, place.index, place.width), bundle.leaves)
            self.folder.write_entries(
                EntryBundle(place.index, place.width), bundle.hashes, bundle.entries, first=walk.old
            )
            if number % _COMMITTED == 0:
                self.folder.commit()
        return kept

    def _bundles(self, fetch: Fetch, walk: LogWalk) -> Iterator[tuple[VerifiedBundle, bool]]:
        """Every new bundle, verified, and whether an earlier run had left it."""
        places = iter(walk.bundles())
        while batch := list(itertools.islice(places, BUNDLES_AT_ONCE)):
            found = {place: self._left(walk, place) for place in batch}
            missing = [place for place, bundle in found.items() if bundle is None]
            fetched = dict(zip(missing, fetch_bodies(fetch, missing), strict=True))
            for place in batch:
                here = found[place]
                yield (walk.entries(place, fetched[place]), False) if here is None else (here, True)

    def _left(self, walk: LogWalk, place: BodyBundle) -> VerifiedBundle | None:
        """A bundle of an interrupted run, if it is whole and true."""
        try:
            return walk.entries(place, self.folder.read(place.path))
        except (NotFound, ProofRejected):
            return None

    def _older(self, memory: LogMemory, sth: SignedTreeHead) -> ProofRejected:
        """A head smaller than the one remembered: the beginning of what is here, or proof of a fork."""
        head = memory.head
        nodes = TileNodes(lambda tile: self._own_tile(tile, head.size), head.size)
        if sth.size and CompactRange.from_nodes(nodes.node, sth.size).root != sth.root.raw:
            return forked(HeadConflict(sth, head, tuple(prefix_proof(nodes.node, sth.size, head.size))))
        message = f"the log shows {sth.size} entries, an old head: this mirror has {head.size}"
        evidence = {"small": sth.members(), "large": head.members()}
        return ProofRejected("silexium.rollback", message, evidence=evidence)

    def _own_tile(self, tile: Tile, size: int) -> bytes:
        """A tile of this mirror, as it is in its log of ``size`` entries."""
        width = min(limits.TILE_WIDTH, (size >> 8 * tile.level) - tile.index * limits.TILE_WIDTH)
        return self.folder.read(Tile(tile.level, tile.index, width).path)

    def _published(self) -> int:
        data = self.folder.checkpoint()
        return 0 if data is None else parse_checkpoint(data, self.log.identity).sth.size

    def _keep_conflict(self, memory: LogMemory | None, conflict: HeadConflict, now: int, source: str) -> str:
        told = {"what": "silexium.fork", "log": self.log.identity.name, "key": str(self.log.identity.key)}
        data = (json.dumps({**told, **conflict.members()}, indent=2) + "\n").encode()
        path = self.folder.state / _EVIDENCE / f"fork.{blake3(data).hexdigest()[:16]}.json"
        if not path.exists():
            told |= {"noticed": format_instant(now), "source": source}
            path.parent.mkdir(exist_ok=True)
            durable_write(path, (json.dumps({**told, **conflict.members()}, indent=2) + "\n").encode())
        known = LogMemory(conflict.first) if memory is None else memory
        if known.conflict is None:
            members = replace(known, conflict=conflict).members()
            durable_write(self.folder.state / _MEMORY, wire.canonical(members))
        return str(path)
