"""What whoever copies or reads a log asks its source for, and the first things that are verified of it.

A source is a :data:`Fetch`: nothing that it gives is believed because it gives it. Partial files that are gone already,
because the log has grown, are cut from the full ones. Every function blocks. Specification: ``silexium-log.md``, 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from libreseed import limits
from libreseed.errors import NotFound, ProofRejected
from libreseed.silexium.log_memory import ConsistencyProof, HeadConflict, LogMemory
from libreseed.silexium.log_path import BodyBundle
from libreseed.silexium.log_proofs import prefix_root
from libreseed.silexium.tile_check import LogWalk
from libreseed.silexium.tiles import HASH_BYTES, Tile
from libreseed.silexium.tree_head import Checkpoint, SignedTreeHead, parse_checkpoint
from libreseed.silexium.trust_policy import TrustedLog

__all__ = [
    "BUNDLES_AT_ONCE",
    "Fetch",
    "fetch_bodies",
    "fetch_file",
    "fetch_tile",
    "forked",
    "proof_of_growth",
    "verified_checkpoint",
]

BUNDLES_AT_ONCE = 8  # asked for together

# The files at some paths (None for one that is not there), each of at most so many bytes.
Fetch = Callable[[Sequence[str], int], list[bytes | None]]


def verified_checkpoint(data: bytes, log: TrustedLog, now: int) -> Checkpoint:
    """The checkpoint, with the witnesses and the age that ``log`` demands at ``now`` (Unix seconds)."""
    checkpoint = parse_checkpoint(data, log.identity, log.witnesses.witnesses())
    log.witnesses.require({cosignature.signer.key for cosignature in checkpoint.cosignatures})
    age = now - checkpoint.sth.timestamp
    if log.max_head_age is not None and age > log.max_head_age:
        message = f"the head is {age} seconds old, more than the {log.max_head_age} that the policy allows"
        raise ProofRejected("silexium.stale", message, evidence={"sth": checkpoint.sth.members()})
    return checkpoint


def proof_of_growth(memory: LogMemory | None, sth: SignedTreeHead, walk: LogWalk) -> ConsistencyProof | None:
    """The proof that ``sth`` extends what is remembered; raises ``silexium.fork`` when its own tiles prove the
    opposite, ``silexium.tile`` when they prove nothing."""
    if memory is None or memory.conflict is not None or not 0 < memory.head.size < sth.size:
        return None
    nodes = walk.prefix()
    try:
        root = prefix_root(walk.old, sth.size, sth.root.raw, nodes)
    except ProofRejected as error:
        message = f"the tiles between {walk.old} and {sth.size} entries do not lead to the signed root"
        raise ProofRejected("silexium.tile", message, evidence=error.evidence) from error
    if root != memory.head.root.raw:
        raise forked(HeadConflict(memory.head, sth, nodes))
    hashes = nodes[1:] if walk.old & (walk.old - 1) == 0 else nodes
    return ConsistencyProof(walk.old, sth.size, hashes)


def forked(conflict: HeadConflict) -> ProofRejected:
    """``silexium.fork`` with its evidence."""
    message = f"{conflict.first.head.origin} has signed two logs: heads of {conflict.first.size} and "
    message += f"{conflict.second.size} entries do not fit"
    return ProofRejected("silexium.fork", message, evidence={"conflict": conflict, **conflict.members()})


def fetch_bodies(fetch: Fetch, places: Sequence[BodyBundle]) -> list[bytes]:
    """The bundles of entries at ``places``; raises NotFound for one that is not there."""
    if not places:
        return []
    found = fetch([place.path for place in places], limits.LOG_FILE_BYTES)
    return [_cut(fetch, place) if data is None else data for place, data in zip(places, found, strict=True)]


def fetch_tile(fetch: Fetch, tile: Tile) -> bytes:
    """A tile, or where a partial one is gone already, the front of the full one."""
    (data,) = fetch([tile.path], HASH_BYTES * limits.TILE_WIDTH)
    if data is None and not tile.full:
        return fetch_file(fetch, Tile(tile.level, tile.index).path, HASH_BYTES * limits.TILE_WIDTH)[
            : HASH_BYTES * tile.width
        ]
    return _there(data, tile.path)


def _cut(fetch: Fetch, place: BodyBundle) -> bytes:
    """The front of a full bundle in the place of a partial one that is gone already."""
    if place.width == limits.TILE_WIDTH:
        raise _missing(place.path)
    data = fetch_file(fetch, BodyBundle(place.index).path, limits.LOG_FILE_BYTES)
    at = 0
    for _ in range(place.width):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    return data[:at]


def fetch_file(fetch: Fetch, path: str, most: int) -> bytes:
    """One file; raises NotFound."""
    return _there(fetch([path], most)[0], path)


def _there(data: bytes | None, path: str) -> bytes:
    if data is None:
        raise _missing(path)
    return data


def _missing(path: str) -> NotFound:
    return NotFound("notfound.log", f"the source has no {path}, which every copy of a log that shows it has")
