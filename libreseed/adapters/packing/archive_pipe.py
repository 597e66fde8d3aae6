"""The reading half of an archive's verification: a thread that reads, inflates and parses ahead of the caller.

It hands over batches of events, at most ``_AHEAD`` pieces of uncompressed data at a time; leaving the context stops the
thread wherever it is. Nothing is judged here but the forms of gzip and tar. Specification: ``archive.md``, 4.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from libreseed.adapters.files.growing_file import GrowingFile
from libreseed.adapters.packing.gzip_stream import GzipReader
from libreseed.package.archive_reader import ArchiveEvent, TarReader

__all__ = ["ArchivePipe", "Source"]

Source = Path | BinaryIO | GrowingFile
_READ_BYTES = 64 * 2**10
_AHEAD = 16  # pieces of at most gzip_stream.OUTPUT_BYTES


class ArchivePipe:
    """Iterate over it once for the batches of events; raises what the reading thread met, where it met it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Condition()  # guards all below
        self._batches: deque[list[ArchiveEvent]] = deque()
        self._error: BaseException | None = None
        self._done = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if isinstance(self._source, GrowingFile):
            self._source.stop()  # or the thread waits for bytes that nobody wants any more
        self._thread.join()

    def __iter__(self) -> Iterator[list[ArchiveEvent]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batches or self._done)
                if not self._batches:
                    break
                batch = self._batches.popleft()
                self._changed.notify_all()
            yield batch
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001  carried to the consumer's thread and raised there
            self._error = error
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _read(self) -> None:
        gzip, tar = GzipReader(), TarReader()
        opened = self._source.open("rb") if isinstance(self._source, Path) else nullcontext(self._source)
        with opened as file:
            while data := file.read(_READ_BYTES):
                for piece in gzip.feed(data):
                    batch: list[ArchiveEvent] = []
                    try:
                        for event in tar.feed(piece):
                            batch.append(event)
                    finally:  # what came before a fault is judged before it, wherever the pieces were cut
                        going_on = self._put(batch)
                    if not going_on:
                        return
        gzip.finish()
        tar.finish()

    def _put(self, batch: list[ArchiveEvent]) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._batches) < _AHEAD or self._stopped)
            self._batches.append(batch)
            self._changed.notify_all()
            return not self._stopped
