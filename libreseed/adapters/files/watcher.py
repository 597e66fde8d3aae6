"""Who hears how far long work is: a small interface that a console's progress, a daemon or nobody implements."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Nobody", "Tally", "Watcher"]


class Watcher(Protocol):
    """Hears of phases and of bytes done in the present one; may raise to stop the work. ``Progress`` is one."""

    def phase(self, title: str, total: int | None = None) -> None:
        """A phase of ``total`` bytes (None: not known) begins."""

    def update(self, done: int) -> None:
        """``done`` bytes of it are done."""


class Nobody:
    """A watcher that does not care."""

    def phase(self, title: str, total: int | None = None) -> None:
        """See :class:`Watcher`."""

    def update(self, done: int) -> None:
        """See :class:`Watcher`."""


class Tally:
    """Adds up what is done piece by piece and tells a watcher the sum; owned by one thread."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._done = 0

    def add(self, count: int) -> None:
        """``count`` more bytes are done."""
        self._done += count
        self._watcher.update(self._done)
