"""Brings a database that is behind its log up to a copy of it: an export folder, or a mirror's.

Only what this log's own signature vouches for is taken, from the signed root down, and the database must be the
beginning of it. All is appended in one transaction: either the whole of it is there, or nothing. Nothing is signed.
Specification: ``silexium-log.md``, 3.
"""

from __future__ import annotations

from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.errors import NotFound
from libreseed.silexium.log_path import CHECKPOINT_PATH, EntryFile
from libreseed.silexium.tile_check import LogWalk
from libreseed.silexium.tiles import HASH_BYTES, Tile
from libreseed.silexium.tree_head import SignedTreeHead, parse_checkpoint

__all__ = ["recover_log"]


def recover_log(store: LogStore, folder: LogFolder) -> int:
    """Append what ``folder`` has and the database lacks; returns the log's size.

    Raises ``silexium.consistency`` when the database is not the beginning of the folder's log, the reasons of a mirror
    for what is forged or cut, NotFound for a folder that is none.
    """
    note = folder.checkpoint()
    if note is None:
        raise NotFound("notfound.file", f"{folder.root} has no {CHECKPOINT_PATH}")
    sth = parse_checkpoint(note, store.identity).sth
    old = store.size
    if sth.size > old:
        store.recover(_entries(folder, sth, old), sth)
    store.note_shown(sth)
    return store.size


def _entries(folder: LogFolder, sth: SignedTreeHead, old: int) -> list[bytes]:
    """The entries from number ``old`` on; the root that they lead to is judged when they are appended."""

    def read(tile: Tile) -> bytes:
        return folder.read_tile(tile)[: HASH_BYTES * tile.width]

    walk = LogWalk(read, old, sth.head)
    walk.edge()
    return [folder.read(EntryFile(index).path) for index in range(old, sth.size)]
