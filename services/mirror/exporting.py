"""Exports a store, release by release: verified, written, and only then listed.

Order of writes: a release's files (each folder by one rename), then the lists that name it; when something is removed,
the lists first. So a server may show DIR at any moment. A release that is refused does not keep the others out; the
result names it. Everything blocks. docs/specification/mirror.md, 6.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write, remove_leftovers, staging_directory
from libreseed.adapters.files.watcher import Watcher
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.dht.records import parse_index
from libreseed.errors import ContentRejected, LibreSeedError, LocalFault, NotFound
from libreseed.ids import PackageName

from .copies import Copy, read_note
from .files import ExportOptions, export_copy, is_exported
from .judging import Rules, judge, recall
from .library import STATE_FOLDER, release_folders
from .listings import describe_releases, integrity_of
from .openapi import openapi_document

__all__ = ["ExportResult", "Exporter"]


@dataclass(slots=True)
class ExportResult:
    """What an export did, by ``name@version``; ``refused`` says why. ``size`` is of what was added, in bytes."""

    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    size: int = 0
    fault: LibreSeedError | None = None  # the first refusal

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "added": self.added,
            "bytes": self.size,
            "kept": self.kept,
            "refused": self.refused,
            "removed": self.removed,
        }


class Exporter:
    """Exports what ``rules`` allow of ``store`` into ``root``."""

    def __init__(self, store: Path, root: Path, rules: Rules, options: ExportOptions) -> None:
        self._store = store
        self._root = root
        self._rules = rules
        self._options = options

    def run(self, now_ms: int, cancelled: threading.Event, watcher: Watcher, *, delete: bool = False) -> ExportResult:
        """Write everything; raises LibreSeedError for faults of this machine only."""
        if not self._store.is_dir():
            raise NotFound("notfound.file", f"the store {self._store} is not a folder")
        self._root.mkdir(parents=True, exist_ok=True)
        if self._root.resolve().is_relative_to(self._store.resolve()):
            raise LocalFault("storage.exists", f"{self._root} lies in the store {self._store}: choose another place")
        if self._store.resolve().is_relative_to(self._root.resolve()):
            raise LocalFault("storage.exists", f"{self._root} holds the store {self._store}, which would be published")
        if delete and not any(release_folders(self._store)) and any(_exported(self._root)):
            raise NotFound("notfound.file", f"the store {self._store} has no release: all of {self._root} would go")
        for folder in ("packages", "seed"):
            remove_leftovers(self._root / folder)
        result = ExportResult()
        copies: list[Copy] = []
        for name, release in release_folders(self._store).items():
            watcher.phase(f"exporting {name}")
            try:
                copy = self._copy(ReleaseFiles.of_release(self._store / name, release), now_ms, cancelled)
                self._export(name, copy, result)
            except LocalFault as error:
                if error.reason != "storage.quota":
                    raise
                _refuse(result, name, error)
            except LibreSeedError as error:
                _refuse(result, name, error)
            else:
                copies.append(copy)
        gone = sorted(set(_exported(self._root)) - set(release_folders(self._store))) if delete else []
        self._write_lists(copies)
        for name in gone:
            _remove(self._root, name)
        result.removed = gone
        return result

    def _copy(self, files: ReleaseFiles, now_ms: int, cancelled: threading.Event) -> Copy:
        note = read_note(self._store / STATE_FOLDER / f"{files.stem}.note.json")
        copy = recall(files, note, self._rules, now_ms)
        if copy is None or not copy.whole:
            copy = judge(files, note, self._rules, now_ms, cancelled)
        if not copy.whole:
            raise ContentRejected("repair.beyond", f"{files.stem} is damaged, coherence {copy.coherence}")
        return copy

    def _export(self, name: str, copy: Copy, result: ExportResult) -> None:
        if is_exported(self._root, copy, self._options):
            result.kept.append(name)
            return
        result.size += export_copy(self._root, copy, self._options)
        result.added.append(name)

    def _write_lists(self, copies: list[Copy]) -> None:
        (self._root / "indexes").mkdir(exist_ok=True)
        for name in {copy.minimal.name for copy in copies}:
            if (data := self._index(name, copies)) is not None:
                durable_write(self._root / "indexes" / str(name), data)
        durable_write(self._root / "openapi.json", openapi_document())
        durable_write(self._root / "integrity-manifest.json", integrity_of(copies))
        durable_write(self._root / "releases.json", describe_releases(copies))

    def _index(self, name: PackageName, copies: list[Copy]) -> bytes | None:
        """The index of a name if a publisher of it signed it."""
        try:
            data = read_bounded(self._store / f"{name}.index.dht.json", limits.INDEX_RECORD_BYTES)
        except NotFound:
            return None
        for publisher in {copy.minimal.pubkey for copy in copies if copy.minimal.name == name}:
            try:
                parse_index(data, publisher)
            except LibreSeedError:
                continue
            return data
        return None


def _refuse(result: ExportResult, name: str, error: LibreSeedError) -> None:
    result.refused[name] = f"{error.message} [{error.reason}]"
    result.fault = result.fault or error


def _exported(root: Path) -> Iterator[str]:
    for folder in ("packages", "seed"):
        place = root / folder
        if place.is_dir():
            yield from release_folders(place)


def _remove(root: Path, name: str) -> None:
    for folder in ("packages", "seed"):
        place = root / folder / name
        if place.is_dir():
            with staging_directory(root / folder) as grave:
                place.rename(grave / name)
                shutil.rmtree(grave / name)
