"""Small documents from several mirrors: the first good one, or all of them; and which mirror gave none, and why.

The caller's ``read`` decides what is good: nothing is believed here. A mirror that fails or dawdles costs
``_HEDGE_S`` before the next is asked beside it. Bounded by bytes and a deadline per document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from libreseed.adapters.mirrors.ranges import Ranges
from libreseed.errors import LibreSeedError, TransportFault

__all__ = ["Answers", "Document", "all_good", "first_good"]

T = TypeVar("T")
_HEDGE_S = 1.0
_LEAST_RATE = 16 * 2**10  # bytes per second that a document must come with, beside the patience


@dataclass(frozen=True, slots=True)
class Document(Generic[T]):
    """What is asked for: at most so many bytes, within ``patience_s``; ``read`` returns it or raises what is wrong."""

    most: int
    patience_s: float
    read: Callable[[bytes], T]


@dataclass(slots=True)
class Answers(Generic[T]):
    """``good`` by URL, in the order of their arrival; ``faults`` by URL; ``received`` bytes of all."""

    good: dict[str, T] = field(default_factory=dict)
    faults: dict[str, LibreSeedError] = field(default_factory=dict)
    received: int = 0


async def first_good(ranges: Ranges, urls: Sequence[str], document: Document[T]) -> Answers[T]:
    """Ask one after another until one document is good; at most one is in ``good``."""
    answers = Answers[T]()
    async with trio.open_nursery() as nursery:

        async def ask(url: str, done: trio.Event) -> None:
            await _ask(ranges, url, document, answers)
            done.set()
            if answers.good:
                nursery.cancel_scope.cancel()

        for url in urls:
            done = trio.Event()
            nursery.start_soon(ask, url, done)
            with trio.move_on_after(_HEDGE_S):
                await done.wait()
    return answers


async def all_good(ranges: Ranges, urls: Sequence[str], document: Document[T]) -> Answers[T]:
    """Ask all at once and wait for every answer, as long as the document's patience lasts."""
    answers = Answers[T]()
    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(_ask, ranges, url, document, answers)
    return answers


async def _ask(ranges: Ranges, url: str, document: Document[T], answers: Answers[T]) -> None:
    try:
        with trio.move_on_after(document.patience_s + document.most / _LEAST_RATE) as bound:
            data = await ranges.get(url, most=document.most)
            answers.received += len(data)
            answers.good[url] = document.read(data)
        if bound.cancelled_caught:
            raise TransportFault("http.timeout", f"{url} dawdles over a small document")
    except LibreSeedError as error:
        answers.faults[url] = error
