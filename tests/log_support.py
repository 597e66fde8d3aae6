"""Logs on disk for tests: a store with its key, folders that it is exported to, and what a mirror fetches from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.log.log_export import export_log
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA, LogStore
from libreseed.adapters.silexium.watching.log_mirror import LogMirror
from libreseed.errors import NotFound
from libreseed.silexium.quorum import NO_QUORUM, Quorum
from libreseed.silexium.tree_head import Checkpoint, SignedTreeHead
from libreseed.silexium.trust_policy import TrustedLog
from tests.silexium_support import LOG, LOG_KEY

START = 1_790_000_000


def entry(number: int, branch: str = "") -> bytes:
    return f'{{"entry":{number},"branch":"{branch}"}}'.encode()


@contextmanager
def open_log(path: Path) -> Iterator[LogStore]:
    with open_database(path, (LOG_SCHEMA,)) as database:
        yield LogStore(database, LOG)


def grow(store: LogStore, to: int, now: int | None = None, branch: str = "") -> SignedTreeHead:
    """Entries up to ``to``, and a signed head at START + ``to`` unless told otherwise."""
    store.append([entry(number, branch) for number in range(store.size, to)])
    return store.sign_head(LOG_KEY, START + to if now is None else now)


def exported(folder: Path, sizes: Sequence[int], branch: str = "", shared: int = 0) -> Path:
    """A folder that shows a log of ``sizes[-1]`` entries; those from ``shared`` on are of ``branch``."""
    with open_log(folder.with_name(folder.name + ".db")) as store:
        for size in sizes:
            grow(store, min(size, shared))
            grow(store, size, branch=branch)
            export_log(store, folder)
    return folder


class Source:
    """What a mirror fetches from: a folder, with ``lies`` in place of some files; ``asked`` are the paths."""

    def __init__(self, root: Path) -> None:
        self.folder = LogFolder(root)
        self.lies: dict[str, bytes | None] = {}
        self.asked: list[str] = []

    def __call__(self, paths: Sequence[str], most: int) -> list[bytes | None]:
        self.asked += paths
        return [self._read(path)[: most + 1] if self._there(path) else None for path in paths]

    def _there(self, path: str) -> bool:
        try:
            return self.lies[path] is not None if path in self.lies else bool(self.folder.read(path) is not None)
        except NotFound:
            return False

    def _read(self, path: str) -> bytes:
        lie = self.lies.get(path)
        return self.folder.read(path) if lie is None else lie


def mirror_of(root: Path, witnesses: Quorum = NO_QUORUM, max_head_age: int | None = None) -> LogMirror:
    return LogMirror(LogFolder(root), TrustedLog(LOG, witnesses, max_head_age))


def files(root: Path, *, public: bool = True) -> dict[str, bytes]:
    """Every file below ``root`` but the lock; only what is served when ``public``."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    found.pop(".silexium/lock", None)
    return {name: data for name, data in found.items() if not (public and name.startswith(".silexium/"))}


def checkpoint_of(sth: SignedTreeHead) -> bytes:
    return Checkpoint(sth).data
