"""Which step a failure belongs to, and where on this machine it happened.

Layers that know the step say so; what they leave open belongs to the first step that was not completed. A group of
errors keeps its shape. ``docs/specification/resolver.md``, "The eleven steps".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LibreSeedError, LocalFault

__all__ = ["at_step", "directories", "marked"]


@contextmanager
def at_step(step: int) -> Iterator[None]:
    """Mark the declared errors that leave the block, grouped or not, with the step."""
    with marked(lambda: step):
        yield


@contextmanager
def marked(step: Callable[[], int], place: Callable[[], Path] | None = None) -> Iterator[None]:
    """Mark all that leaves the block without a step, an interruption too, and declare what the system refused.

    ``place`` is where this machine was writing, for a system error that names no file.
    """
    try:
        yield
    except BaseException as error:
        told = _told(error, step(), place)
        if told is error:
            raise
        raise told from error


def _told(error: BaseException, step: int, place: Callable[[], Path] | None) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        inner = [_told(one, step, place) for one in error.exceptions]
        changed = any(one is not before for one, before in zip(inner, error.exceptions, strict=True))
        return error.derive(inner) if changed else error
    if isinstance(error, LibreSeedError):
        return error.at_step(step)
    if isinstance(error, OSError) and place is not None:
        return from_oserror(error, "" if error.filename is not None else f"writing below {place()}").at_step(step)
    if isinstance(error, KeyboardInterrupt) and getattr(error, "step", None) is None:
        error.step = step  # type: ignore[attr-defined]  # read where the outcome is told
    return error


@contextmanager
def directories() -> Iterator[None]:
    """A file where the store or the target should be a directory is a fault of this machine, not a missing file."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise LocalFault("storage.occupied", f"{error.filename}: a part of this path is a file, no folder") from error
