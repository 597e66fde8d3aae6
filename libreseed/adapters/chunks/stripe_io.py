"""Positioned IO for stripes: a row of neighbouring stripes by one scattering read, groups of stripes among threads.

Reads and writes carry their offset, so threads share a descriptor without a lock. Everything here blocks; trio code
calls it in a worker thread. ``OSError`` passes through. Which bytes are right is decided by the callers.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from libreseed.repair.encoder import StripeWindow

__all__ = ["Progress", "each_group", "read_row", "write_at"]

Progress = Callable[[int], None]  # called in the caller's thread with the number of stripes done; may raise to stop


def read_row(descriptor: int, window: StripeWindow, row: int) -> list[memoryview]:
    """Fill one row of the window's group from the .tgz; returns the places that were filled whole, in order.

    Fewer than ``window.places(row)`` means that the file ends early: what stands in the other places is left over.
    """
    places = window.places(row)
    if not places:
        return []
    offset = window.grid.chunk(window.chunks(row).start)[0]
    got = os.preadv(descriptor, places, offset)
    wanted = sum(map(len, places))
    while got < wanted:  # an interrupted read; or the end of the file, where the next one gives nothing
        whole, got_before = 0, got
        while got_before >= len(places[whole]):
            got_before -= len(places[whole])
            whole += 1
        more = os.preadv(descriptor, [places[whole][got_before:], *places[whole + 1 :]], offset + got)
        if not more:
            return places[:whole]
        got += more
    return places


def write_at(descriptor: int, data: Buffer, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def each_group(
    groups: Iterable[int],
    make_worker: Callable[[], Callable[[int], int]],
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> None:
    """Call a worker for every group; each of ``threads`` threads, the caller's among them, makes a worker of its own.

    A worker returns how many stripes it has done. The first exception stops all threads after their present group and
    is raised here; so is one that ``progress`` raises.
    """
    pile = _Pile(groups)
    if threads <= 1:
        pile.work(make_worker, progress)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(pile.work, make_worker, None) for _ in range(threads - 1)]
        pile.work(make_worker, progress)
        for other in others:
            other.result()


class _Pile:
    """Groups that wait for a thread; ``_lock`` guards all its state."""

    def __init__(self, groups: Iterable[int]) -> None:
        self._lock = threading.Lock()
        self._waiting = iter(groups)
        self._stopped = False
        self._done = 0

    def work(self, make_worker: Callable[[], Callable[[int], int]], progress: Progress | None) -> None:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._stop)
            worker = make_worker()
            while (group := self._next()) is not None:
                done = self._count(worker(group))
                if progress is not None:
                    progress(done)
            on_failure.pop_all()

    def _next(self) -> int | None:
        with self._lock:
            return None if self._stopped else next(self._waiting, None)

    def _count(self, stripes: int) -> int:
        with self._lock:
            self._done += stripes
            return self._done

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
