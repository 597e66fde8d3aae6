"""How work in a thread learns that nobody waits for it any more: a flag that it looks at between portions.

The thread is abandoned by its task at once and ends soon after; until then it may only write what is right in itself
(verified chunks) or what nobody sees (staging).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopped", "cancel_flag", "stop_if"]


class Stopped(Exception):
    """The work was cancelled; never seen outside the abandoned thread."""


@contextmanager
def cancel_flag() -> Iterator[threading.Event]:
    """A flag that is set when the block is left, by a cancellation above all."""
    flag = threading.Event()
    try:
        yield flag
    finally:
        flag.set()


def stop_if(flag: threading.Event) -> None:
    """End the thread's work by :class:`Stopped` if ``flag`` is set."""
    if flag.is_set():
        raise Stopped
