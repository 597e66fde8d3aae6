"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when asked to be quiet.

Thread-safe: phases advance from worker threads. It never touches stdout and never fails a command: what it shows is no
result. The clock is used for the rate of display only.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from libreseed.adapters.command.terminal import harmless, human_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Progress"]

_LINE_EVERY_S = 5.0  # of plain lines within a phase


class _Display(Protocol):
    def show(self, title: str, done: int, total: int | None, detail: str, *, final: bool) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


class Progress:
    """``with Progress(quiet=...) as progress``: ``phase``, then ``advance`` or ``update``; ``note`` for a line.

    Amounts are bytes. One phase is shown at a time; starting another ends the one before.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()  # owns all that follows
        self._display: _Display = _Silent() if quiet else _Bar(self._stream) if self._is_tty() else _Lines(self._stream)
        self._title = ""
        self._done = 0
        self._total: int | None = None
        self._detail = ""

    def _is_tty(self) -> bool:
        return self._stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._lock:
            if kind is None:
                self._finish()
            self._display.close()

    def phase(self, title: str, total: int | None = None) -> None:
        """Begin the phase ``title``, of ``total`` bytes when that is known."""
        with self._lock:
            self._finish()
            self._title, self._done, self._total, self._detail = harmless(title), 0, total, ""
            self._show(final=False)

    def advance(self, count: int) -> None:
        """``count`` more bytes of this phase are done."""
        with self._lock:
            self._done += count
            self._show(final=False)

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        """Set how many bytes are done; ``detail`` is a short text behind them (peers, rate)."""
        with self._lock:
            self._done, self._detail = done, harmless(detail)
            self._total = self._total if total is None else total
            self._show(final=False)

    def note(self, text: str) -> None:
        """Show one line and keep it."""
        with self._lock:
            self._display.note(harmless(text))

    def _finish(self) -> None:
        if self._title:
            self._show(final=True)
        self._title = ""

    def _show(self, *, final: bool) -> None:
        if self._title:
            self._display.show(self._title, self._done, self._total, self._detail, final=final)


class _Silent:
    def show(self, title: str, done: int, total: int | None, detail: str, *, final: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines:
    """One line per phase when it is done, and one about every ``_LINE_EVERY_S`` seconds while it lasts."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._title = ""
        self._shown_at = 0.0

    def show(self, title: str, done: int, total: int | None, detail: str, *, final: bool) -> None:
        now = time.monotonic()
        if title != self._title:
            self._title, self._shown_at = title, now
        if not final and now - self._shown_at < _LINE_EVERY_S:
            return
        self._title, self._shown_at = ("" if final else title), now
        amount = human_bytes(max(done, total or 0)) if done else ""
        if total and done and not final:
            amount = f"{100 * done // total} % of {human_bytes(total)}"
        facts = ", ".join(fact for fact in (amount, detail, "done" if final else "") if fact)
        self.note(f"{title}: {facts}" if facts else title)

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        pass


class _Bar:
    """One bar per phase, drawn by rich; the finished ones stay above the present one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._began_at = 0.0

    def _start(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        title = TextColumn("{task.description}", markup=False)
        facts = TextColumn("{task.fields[facts]}", markup=False)
        rich = RichProgress(title, BarColumn(), facts, console=Console(file=self._stream))
        rich.start()
        return rich

    def show(self, title: str, done: int, total: int | None, detail: str, *, final: bool) -> None:
        if self._rich is None:
            self._rich = self._start()
        if self._task is None:
            self._task = self._rich.add_task(title, total=total, facts="")
            self._began_at = time.monotonic()
        if final:
            done = total = max(done, total or 1)
        facts = [self._amount(done, total), detail] if total != 1 else [detail]
        self._rich.update(self._task, completed=done, total=total, facts=", ".join(fact for fact in facts if fact))
        if final:
            self._task = None

    def _amount(self, done: int, total: int | None) -> str:
        lasted = time.monotonic() - self._began_at
        rate = f" at {human_bytes(done / lasted)}/s" if done and lasted > 0.1 else ""
        of = f" of {human_bytes(total)}" if total and done != total else ""
        return human_bytes(done) + of + rate if done else ""

    def note(self, text: str) -> None:
        if self._rich is None:
            print(text, file=self._stream, flush=True)
        else:
            self._rich.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()
