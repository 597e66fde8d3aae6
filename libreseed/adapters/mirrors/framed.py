"""A body between bytes that are here already: the chunks at the edges of a run need not come whole.

Verifies nothing: :mod:`.pump` judges it chunk by chunk like any other body. ``docs/specification/resolver.md``,
"Mirrors".
"""

from __future__ import annotations

from libreseed.adapters.mirrors.link import Link
from libreseed.adapters.mirrors.whole import WholeBody

__all__ = ["Framed"]


class Framed:
    """``length`` bytes of ``link`` between ``head`` and ``tail``; ``added`` counts what was passed on of these two."""

    def __init__(self, link: Link | WholeBody, length: int, head: bytes, tail: bytes) -> None:
        self.name = link.name
        self.added = 0
        self._link = link
        self._left = length
        self._head = memoryview(head)
        self._tail = memoryview(tail)

    def receive_now(self, view: memoryview) -> int | None:
        """Fill the start of ``view``, as a link does."""
        if self._head:
            count, self._head = self._pass_on(self._head, view)
            return count
        if self._left:
            received = self._link.receive_now(view[: self._left])
            self._left -= received or 0
            return received
        count, self._tail = self._pass_on(self._tail, view)
        return count

    def wait(self, seconds: float) -> bool:
        """See :meth:`Link.wait`."""
        return self._link.wait(seconds)

    def interrupt(self) -> None:
        """See :meth:`Link.interrupt`."""
        self._link.interrupt()

    def _pass_on(self, own: memoryview, view: memoryview) -> tuple[int, memoryview]:
        count = min(len(own), len(view))
        view[:count] = own[:count]
        self.added += count
        return count, own[count:]
