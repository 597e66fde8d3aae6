"""Cosigns the head that a folder shows (an export, a mirror), once everything new in it was verified.

More than the wire protocol demands: a witness that has the files looks at them. Tiles and entries are believed from the
signed root down, as a mirror does, so that a head over a forged or truncated copy gets no cosignature from here.
Specification: ``silexium-log.md``, 8.
"""

from __future__ import annotations

from collections.abc import Sequence

from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.watching.witness_store import WitnessStore
from libreseed.errors import NotFound, ProofRejected
from libreseed.silexium.log_memory import LogMemory
from libreseed.silexium.log_path import CHECKPOINT_PATH
from libreseed.silexium.log_proofs import prefix_root
from libreseed.silexium.tile_check import LogWalk
from libreseed.silexium.tiles import HASH_BYTES, Tile
from libreseed.silexium.tree_head import Cosignature, NamedKey, SignedTreeHead, parse_checkpoint
from libreseed.silexium.witness_wire import AddCheckpoint

__all__ = ["cosign_folder"]


def cosign_folder(store: WitnessStore, folder: LogFolder, logs: Sequence[NamedKey], now: int) -> Cosignature:
    """Cosign the folder's head at ``now`` (Unix seconds).

    Raises ``silexium.rollback`` (an old head), ``.entry``, ``.tile``, ``.fork``, those of heads, and NotFound.
    """
    note = folder.checkpoint()
    if note is None:
        raise NotFound("notfound.file", f"{folder.root} has no {CHECKPOINT_PATH}")
    sth = _head(note, logs)
    memory = store.cosigned(sth.head.origin)
    old = 0 if memory is None else memory.head.size
    if sth.size < old:
        message = f"the folder shows {sth.size} entries, an old head: this witness has cosigned {old}"
        raise ProofRejected("silexium.rollback", message, evidence={"small": sth.members()})
    hashes = _verified_growth(folder, memory, sth) if sth.size > old else ()
    return store.add_checkpoint(AddCheckpoint(old, hashes, note), now)


def _head(note: bytes, logs: Sequence[NamedKey]) -> SignedTreeHead:
    for log in logs:
        if note.startswith(f"{log.name}\n".encode()):
            return parse_checkpoint(note, log).sth
    raise ProofRejected("silexium.head-log", "the checkpoint is of no log that this witness knows")


def _verified_growth(folder: LogFolder, memory: LogMemory | None, sth: SignedTreeHead) -> tuple[bytes, ...]:
    """The consistency proof out of the folder's tiles, once every new tile and entry was verified."""

    def read(tile: Tile) -> bytes:
        return folder.read_tile(tile)[: HASH_BYTES * tile.width]

    old = 0 if memory is None else memory.head.size
    walk = LogWalk(read, old, sth.head)
    walk.edge()
    for _ in walk.tiles():
        pass
    for place in walk.bundles():
        walk.entries(place, folder.read(place.path))
    if memory is None or old == 0:
        return ()
    nodes = walk.prefix()
    forked = prefix_root(old, sth.size, sth.root.raw, nodes) != memory.head.root.raw
    # What shows another root is the proof of a fork, whole; a proof of growth leaves out a root that it starts from.
    return nodes if forked or old & (old - 1) else nodes[1:]
