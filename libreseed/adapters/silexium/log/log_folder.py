"""A log as a folder of static files, which any web server can serve: an export of a log, or a mirror of one.

The paths are those of :mod:`libreseed.silexium.log_path`. Invariants: what ``checkpoint`` covers was on the disk before
it; full tiles, bundles and entries never change; of the partial ones only those of the current and the last checkpoint
are kept, and who misses one takes the full file in its place. ``.silexium/`` holds what is not for the public: a lock,
and what a mirror remembers. Nothing is verified here. Specification: ``silexium-log.md``, 4.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import DurableBatch, durable_write
from libreseed.errors import LocalFault, NotFound
from libreseed.silexium.log_path import CHECKPOINT_PATH, BodyBundle, EntryBundle, EntryFile, write_bodies
from libreseed.silexium.tiles import Tile, tiles_of_log, write_entries

__all__ = ["STATE_FOLDER", "LogFolder"]

STATE_FOLDER = ".silexium"


class LogFolder:
    """The folder ``root``; one process at a time writes, under :meth:`locked`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._batch = DurableBatch(root)

    @property
    def state(self) -> Path:
        """The folder for what is not served."""
        return self.root / STATE_FOLDER

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be, and be the only one to write to it; else ``storage.folder-busy``."""
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o755)  # as everything public in it, whatever the umask
        self.state.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LocalFault("storage.folder-busy", f"another process writes to {self.root}") from error
            yield
        finally:
            os.close(descriptor)

    def checkpoint(self) -> bytes | None:
        """The checkpoint's bytes, None before the first one."""
        try:
            return read_bounded(self.root / CHECKPOINT_PATH, limits.NOTE_BYTES)
        except NotFound:
            return None

    def read(self, path: str) -> bytes:
        """The file at ``path``, as :mod:`~libreseed.silexium.log_path` spells it; raises NotFound."""
        return read_bounded(self.root / path, limits.LOG_FILE_BYTES)

    def read_tile(self, tile: Tile) -> bytes:
        """A tile, or where a partial one is gone already, the full one in its place; raises NotFound."""
        try:
            return self.read(tile.path)
        except NotFound:
            if tile.full:
                raise
            return self.read(Tile(tile.level, tile.index).path)

    def write_tile(self, tile: Tile, hashes: bytes) -> None:
        """Write a tile of the tree."""
        self._batch.write(tile.path, hashes)

    def write_entries(self, bundle: EntryBundle, hashes: list[bytes], entries: list[bytes], *, first: int) -> None:
        """Write a bundle of entries: their hashes, their bytes, and each from number ``first`` on by itself."""
        self._batch.write(bundle.path, write_entries(hashes))
        self._batch.write(BodyBundle(bundle.index, bundle.width).path, write_bodies(entries))
        for index, entry in enumerate(entries, bundle.start):
            if index >= first:
                self._batch.write(EntryFile(index).path, entry)

    def commit(self) -> None:
        """What was written is on the disk on return."""
        self._batch.commit()

    def publish(self, checkpoint: bytes, old: int, new: int) -> None:
        """Commit, then replace the checkpoint of ``old`` entries by one of ``new``, then drop superseded partials."""
        self.commit()
        durable_write(self.root / CHECKPOINT_PATH, checkpoint)
        kept = {tile.path for size in (old, new) for tile in tiles_of_log(size) if not tile.full}
        for tile in tiles_of_log(old):
            if not tile.full:
                self._drop_partials(tile.path, kept)
        if old % limits.TILE_WIDTH:
            bundles = [(size // limits.TILE_WIDTH, size % limits.TILE_WIDTH) for size in (old, new)]
            for kind in (EntryBundle, BodyBundle):
                kept = {kind(index, width).path for index, width in bundles if width}
                self._drop_partials(kind(*bundles[0]).path, kept)

    def _drop_partials(self, path: str, kept: set[str]) -> None:
        folder = (self.root / path).parent
        if (folder.with_name(folder.name.removesuffix(".p"))).is_file():
            shutil.rmtree(folder, ignore_errors=True)  # whatever is left of it harms nobody
            return
        for file in folder.iterdir() if folder.is_dir() else ():
            if str(file.relative_to(self.root)) not in kept:
                file.unlink(missing_ok=True)
