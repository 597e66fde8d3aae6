"""Writes a log to a folder of static files: what is new since the folder's own checkpoint, the checkpoint last.

The folder remembers what was shown: where its checkpoint is ahead of the database, or of another history, the log is
behind what it has shown, and nothing is written (``silexium.shrunk``). Specification: ``silexium-log.md``, 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libreseed import limits
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.errors import NotFound
from libreseed.silexium.log_path import EntryBundle, bundles_of_growth
from libreseed.silexium.tiles import tiles_of_growth
from libreseed.silexium.tree_head import Checkpoint, parse_checkpoint

__all__ = ["Exported", "export_log"]

_COMMITTED_BUNDLES = 256  # written between two syncs of a large export


@dataclass(frozen=True, slots=True)
class Exported:
    """An export: the folder had ``old`` entries and has those of ``checkpoint`` now."""

    old: int
    checkpoint: Checkpoint


def export_log(store: LogStore, root: Path, *, cosigned: int = 0) -> Exported:
    """Bring the folder ``root`` up to the newest head that ``cosigned`` witnesses have signed.

    Raises ``notfound.log`` when there is no such head, ``silexium.shrunk`` when the folder is ahead of the database,
    and the reasons of heads for a folder of another log.
    """
    folder = LogFolder(root)
    with folder.locked():
        old = 0
        if (data := folder.checkpoint()) is not None:
            shown = parse_checkpoint(data, store.identity).sth
            store.note_shown(shown)
            old = shown.size
        checkpoint = store.checkpoint(cosigned)
        if checkpoint is None:
            signed = f"that {cosigned} witnesses have signed" if cosigned else "at all"
            raise NotFound("notfound.log", f"the log has no head yet {signed}")
        if checkpoint.sth.size < old:  # that many witnesses have not signed yet what the folder shows already
            return Exported(old, parse_checkpoint(data or b"", store.identity))
        _write_growth(store, folder, old, checkpoint.sth.size)
        folder.publish(checkpoint.data, old, checkpoint.sth.size)
        return Exported(old, checkpoint)


def _write_growth(store: LogStore, folder: LogFolder, old: int, new: int) -> None:
    for tile in tiles_of_growth(old, new):
        folder.write_tile(tile, store.read_path(tile))
    for number, (index, width) in enumerate(bundles_of_growth(old, new), 1):
        start = index * limits.TILE_WIDTH
        found = list(store.entries(start, start + width))
        hashes, entries = [digest for _, digest, _ in found], [body for _, _, body in found]
        folder.write_entries(EntryBundle(index, width), hashes, entries, first=old)
        if number % _COMMITTED_BUNDLES == 0:
            folder.commit()
