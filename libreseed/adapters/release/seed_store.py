"""The seeder's state on disk: one directory per release, and the note that lets a restart trust it without hashing.

``STATE/releases/<name@version>.<32 hex of the torrent>/`` holds the six files of the release and ``seed.json``. The
state *is* this tree: a release exists once its directory has its final name (one rename), is gone once it has lost it
(one rename), and everything else there is staging that the next start clears. There is no database to fall out of step.

Invariants: one process at a time (``seeder.lock``); ``seed.json`` is only ever replaced as a whole, after the bytes it
speaks of are on the disk; what it says about a file holds only while the file's :class:`Stamp` is the same. A missing
or damaged ``seed.json`` costs a verification, never a release. Every function blocks. It verifies nothing itself.
Specification: docs/operations.md, "Where state lives".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libreseed import wire
from libreseed.adapters.files.durable import (
    STAGING_PREFIX,
    durable_write,
    publish_directory,
    remove_leftovers,
    staging_directory,
)
from libreseed.errors import LocalFault, Malformed
from libreseed.ids import ReleaseId, TorrentV2Hash

__all__ = ["NOTE_BYTES", "SeedNote", "SeedStore", "Stamp", "release_key"]

NOTE_BYTES = 2**20
_NOTE = "seed.json"
_FORMAT = "libreseed-seed-note-v1"
_STAMP = re.compile(r"[0-9]{1,20}(:[0-9]{1,20}){3}", re.ASCII)
_RUNS = 20_000  # of bad chunks that a note keeps; more make it forget what it knew, which costs a verification


def release_key(release: ReleaseId, torrent: TorrentV2Hash) -> str:
    """The name of a release's directory: for people first, and unique where two publishers use one name."""
    return f"{release}.{torrent.hex[:32]}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells an unchanged file from a changed one without reading it.

    The time of the last status change (``ctime_ns``) is in it because programs can set ``mtime_ns`` back, but not it.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """The stamp of the regular file ``path`` (no link is followed); None when there is none."""
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def __str__(self) -> str:
        return f"{self.size}:{self.mtime_ns}:{self.ctime_ns}:{self.inode}"


@dataclass(frozen=True, slots=True)
class SeedNote:
    """What is known about a stored release.

    ``stamps`` (file suffix -> stamp) are of the moment at which everything but ``bad_data`` and ``bad_parity`` (runs
    of chunk numbers) was verified. ``minimal`` and ``dht`` are second copies of two small signed files. Times are Unix
    milliseconds; ``scrubbed_ms`` is 0 before the first scrub. ``healed`` counts chunks over the release's whole life.
    """

    minimal: bytes
    dht: bytes
    added_ms: int
    stamps: Mapping[str, str] = field(default_factory=dict)
    bad_data: tuple[range, ...] = ()
    bad_parity: tuple[range, ...] = ()
    scrubbed_ms: int = 0
    healed: int = 0

    def encode(self) -> bytes:
        """The bytes of ``seed.json``."""
        forget = len(self.bad_data) + len(self.bad_parity) > _RUNS
        return wire.canonical(
            {
                "added_ms": self.added_ms,
                "bad_data": [] if forget else [[run.start, run.stop] for run in self.bad_data],
                "bad_parity": [] if forget else [[run.start, run.stop] for run in self.bad_parity],
                "dht": self.dht.decode(),
                "format": _FORMAT,
                "healed": self.healed,
                "minimal": self.minimal.decode(),
                "scrubbed_ms": self.scrubbed_ms,
                "stamps": {} if forget else dict(self.stamps),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> SeedNote:
        """Read ``seed.json``; raises :class:`Malformed`. The two signed files in it are *not* verified here."""
        names = ("added_ms", "bad_data", "bad_parity", "dht", "format", "healed", "minimal", "scrubbed_ms", "stamps")
        note = wire.require_members(wire.parse(data, max_bytes=NOTE_BYTES), names)
        if note["format"] != _FORMAT:
            raise Malformed("encoding.type", f"not a {_FORMAT} document")
        for name in ("added_ms", "healed", "scrubbed_ms"):
            if type(note[name]) is not int or note[name] < 0:
                raise Malformed("encoding.number", f"{name} is a count")
        if not isinstance(note["minimal"], str) or not isinstance(note["dht"], str):
            raise Malformed("encoding.type", "minimal and dht are texts")
        return cls(
            minimal=note["minimal"].encode(),
            dht=note["dht"].encode(),
            added_ms=note["added_ms"],
            stamps=_stamps(note["stamps"]),
            bad_data=_runs(note["bad_data"]),
            bad_parity=_runs(note["bad_parity"]),
            scrubbed_ms=note["scrubbed_ms"],
            healed=note["healed"],
        )

    def trusts(self, suffix: str, stamp: Stamp | None) -> bool:
        """Whether the file with ``suffix`` is the one that was verified."""
        return stamp is not None and self.stamps.get(suffix) == str(stamp)


class SeedStore:
    """The state directory of one running seeder; made by :meth:`open`, which holds the lock."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.releases = state_dir / "releases"
        self.indexes = state_dir / "indexes"
        self.quarantine = state_dir / "quarantine"

    @classmethod
    @contextlib.contextmanager
    def open(cls, state_dir: Path) -> Iterator[SeedStore]:
        """Make the directories (0700), take the lock, clear what a crash left; raises ``storage.locked``."""
        store = cls(state_dir)
        for folder in (state_dir, store.releases, store.indexes, store.quarantine):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except (FileNotFoundError, NotADirectoryError) as error:  # its place is at fault: it is no input file
                message = f"the state directory {state_dir} cannot be made: {error.strerror}"
                raise LocalFault("storage.permission", message) from error
        descriptor = os.open(state_dir / "seeder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
                message = f"another seeder (process {holder}) runs on {state_dir}"
                raise LocalFault("storage.locked", message) from error
            with contextlib.suppress(OSError):  # only for the message above; a full disk is no reason not to seed
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            store._clear_leftovers()
            yield store
        finally:
            os.close(descriptor)

    def _clear_leftovers(self) -> None:
        remove_leftovers(self.releases)
        for folder in (self.state_dir, self.releases, self.indexes, *self.folders()):
            for leftover in folder.glob(".*.tmp"):  # of a durable write that a crash cut off
                leftover.unlink(missing_ok=True)
            for lock in folder.glob(STAGING_PREFIX + "*.lock"):
                lock.unlink(missing_ok=True)

    def folders(self) -> list[Path]:
        """The directories of all stored releases, by name."""
        found = (path for path in self.releases.iterdir() if not path.name.startswith("."))
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())

    def staging(self) -> contextlib.AbstractContextManager[Path]:
        """A directory to prepare a release in; it vanishes unless it is published."""
        return staging_directory(self.releases)

    def publish(self, staging: Path, key: str) -> Path:
        """Make the prepared directory the release ``key``, durably; returns its final place."""
        final = self.releases / key
        publish_directory(staging, final, mode=0o700)
        return final

    def discard(self, folder: Path) -> None:
        """Remove a stored release: gone with one rename, its bytes afterwards."""
        with staging_directory(self.releases) as grave:
            folder.rename(grave / folder.name)

    def read_note(self, folder: Path) -> SeedNote:
        """What is known about the release in ``folder``; raises :class:`Malformed` or ``OSError``."""
        with (folder / _NOTE).open("rb") as file:
            return SeedNote.decode(file.read(NOTE_BYTES + 1))

    def write_note(self, folder: Path, note: SeedNote) -> None:
        """Replace what is known, durably."""
        durable_write(folder / _NOTE, note.encode(), mode=0o600)

    def used_bytes(self) -> int:
        """Bytes of all files of stored and staged releases."""
        total = 0
        for folder, _, names in os.walk(self.releases):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(Path(folder, name)).st_size
        return total


def _runs(value: wire.JsonValue) -> tuple[range, ...]:
    if not isinstance(value, list) or len(value) > _RUNS:
        raise Malformed("encoding.type", "runs are an array of pairs")
    runs: list[range] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(end) is int for end in pair):
            raise Malformed("encoding.type", "a run is a pair of integers")
        if not (runs[-1].stop if runs else 0) <= pair[0] < pair[1]:
            raise Malformed("encoding.number", "runs are rising and not empty")
        runs.append(range(pair[0], pair[1]))
    return tuple(runs)


def _stamps(value: wire.JsonValue) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 8:
        raise Malformed("encoding.type", "stamps are an object")
    for text in value.values():
        if not isinstance(text, str) or not _STAMP.fullmatch(text):
            raise Malformed("encoding.type", f"not a stamp: {text!r:.80}")
    return value
