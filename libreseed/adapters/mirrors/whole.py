"""A part of a small file that a server without byte ranges has sent whole: from memory, in a link's place.

Verifies nothing: :mod:`.pump` judges it chunk by chunk like any other body. ``docs/specification/resolver.md``,
"Mirrors".
"""

from __future__ import annotations

from libreseed.errors import TransportFault

__all__ = ["WholeBody"]


class WholeBody:
    """The bytes ``data`` of what ``name`` sent; ``fetched`` were received for it now (0: it was here already)."""

    def __init__(self, name: str, data: memoryview, fetched: int) -> None:
        self.name = name
        self.fetched = fetched
        self._rest = data

    def receive_now(self, view: memoryview) -> int:
        """Fill the start of ``view``; raises ``http.cut-off`` when nothing is left."""
        count = min(len(view), len(self._rest))
        if not count:
            raise TransportFault("http.cut-off", f"{self.name} ends before the bytes asked for do")
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def wait(self, seconds: float) -> bool:
        """All of it is here."""
        return True

    def interrupt(self) -> None:
        """Nothing more will come."""
        self._rest = memoryview(b"")
