"""How a command's result gets its place: parents made and removed again, faults named, signals held back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libreseed.adapters.files.durable import remove_leftovers
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LocalFault

__all__ = ["existing", "too_late_to_interrupt", "writing"]


@contextmanager
def too_late_to_interrupt() -> Iterator[None]:
    """Hold signals back while the release gets its name: one that comes now finds it published, and is dropped."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
        while signal.sigtimedwait(held, 0) is not None:
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def writing(final: Path) -> Iterator[None]:
    """Say where it was when the system names no file, as for a full disk."""
    try:
        yield
    except OSError as error:
        raise from_oserror(error, f"writing {final}") from error


@contextmanager
def existing(out: Path, *, keep: bool) -> Iterator[None]:
    """Make OUT and its parents as needed; after a failure (or a dry run) those made here are removed again."""
    made: list[Path] = []
    published = False
    try:
        for folder in reversed([out, *out.parents]):
            if folder.exists() and not folder.is_dir():
                raise LocalFault("storage.exists", f"{folder} is not a directory")
            if not folder.exists():
                made.append(folder)  # before it is made: an interruption can come at any moment
                folder.mkdir()
        remove_leftovers(out)
        yield
        published = keep
    finally:
        if not published:
            for folder in reversed(made):
                _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):  # somebody else may have put something there meanwhile
        folder.rmdir()
