"""Loading what follows the lookup while something else takes its time: a cold start is mostly imports.

In threads, in the order of use: what fetches, while DHT or mirrors answer; what installs, while bytes flow.
"""

from __future__ import annotations

import gc

import trio

__all__ = ["Loading", "load_install"]

_QUICK_S = 0.05  # loading takes that long, too: an answer that comes sooner shall not have to wait for the interpreter


class Loading:
    """Lives in ``nursery``."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._hurried = trio.Event()
        self._content = trio.Event()

    def begin(self) -> None:
        """Nothing that matters more has to be loaded any longer."""
        self._nursery.start_soon(self._load)

    def hurry(self) -> None:
        """The answer is here."""
        self._hurried.set()

    async def content(self) -> None:
        """Return once what fetches is loaded."""
        self.hurry()
        await self._content.wait()

    async def _load(self) -> None:
        with trio.move_on_after(_QUICK_S):
            await self._hurried.wait()
        await trio.to_thread.run_sync(_load_content)
        self._content.set()
        await trio.to_thread.run_sync(load_install)


def _load_content() -> None:
    from . import content  # noqa: F401


def load_install() -> None:
    """The last that a resolve loads; from now on garbage is collected."""
    from . import install  # noqa: F401

    gc.freeze()  # what was imported stays; see cli.main
    gc.enable()
