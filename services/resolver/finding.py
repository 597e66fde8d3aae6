"""Step 2 from every place at once: the DHT and the mirrors; the newest record by a believed key is taken.

Whoever is first gets company for ``_GRACE_S``: a mirror that keeps an old record, or a DHT that is dead, shall neither
freeze nor delay a resolve. The judgement is step 3's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from libreseed.errors import LibreSeedError
from libreseed.ids import PublicKey
from libreseed.resolve.engine import FoundRecord
from libreseed.resolve.mirror_records import MirrorRecords
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis, untrusted

from .mirrors import MirrorAccess
from .network import Network

__all__ = ["find_anywhere"]

T = TypeVar("T")
_GRACE_S = 1.0


class _LookUp(Generic[T]):
    """One way to look, its result or its error."""

    def __init__(self) -> None:
        self.result: T | None = None
        self.error: LibreSeedError | None = None
        self.done = False

    async def run(self, look: Callable[[], Awaitable[T]], news: trio.Event) -> None:
        try:
            self.result = await look()
        except LibreSeedError as error:
            self.error = error
        except (
            BaseExceptionGroup
        ) as group:  # the DHT node has a nursery of its own: one that cannot start raises a group
            self.error = _only(group)
            if self.error is None:
                raise
        self.done = True
        news.set()


def _only(group: BaseExceptionGroup[BaseException]) -> LibreSeedError | None:
    """The declared error that the group holds, if it holds nothing else."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, LibreSeedError) else None


async def find_anywhere(
    network: Network | None, mirrors: MirrorAccess, request: Request, basis: TrustBasis | None
) -> FoundRecord:
    """The record to judge; raises as :func:`libreseed.adapters.dht.finder.find_record`, or what mirrors did wrong."""
    keys = basis.keys if basis is not None else ()
    dht, own = _LookUp[FoundRecord](), _LookUp[MirrorRecords]()
    dht.done = network is None
    news = [trio.Event(), trio.Event()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(own.run, lambda: mirrors.records(keys), news[0])
        if network is not None:
            nursery.start_soon(dht.run, lambda: network.find(request, basis), news[1])
        await _enough(dht, own, news)
        nursery.cancel_scope.cancel()
    found = [record for record in (dht.result, own.result.best if own.result else None) if record is not None]
    if not found:
        raise _why_none(dht, own, mirrors, request, basis)
    return min(found, key=lambda record: (keys.index(record.publisher), -_time_of(record, own)))


async def _enough(dht: _LookUp[FoundRecord], own: _LookUp[MirrorRecords], news: list[trio.Event]) -> None:
    """Return once both have an answer, or one has a record and the other had its time."""
    waiting = [event for event, done in zip(news, (own.done, dht.done), strict=True) if not done]
    async with trio.open_nursery() as nursery:

        async def watch(event: trio.Event) -> None:
            await event.wait()
            if dht.result is not None or (own.result is not None and own.result.best is not None):
                nursery.cancel_scope.deadline = min(nursery.cancel_scope.deadline, trio.current_time() + _GRACE_S)

        for event in waiting:
            nursery.start_soon(watch, event)


def _time_of(record: FoundRecord, own: _LookUp[MirrorRecords]) -> int:
    if record.seq is not None:
        return record.seq
    return own.result.timestamp if own.result is not None else 0


def _why_none(
    dht: _LookUp[FoundRecord],
    own: _LookUp[MirrorRecords],
    mirrors: MirrorAccess,
    request: Request,
    basis: TrustBasis | None,
) -> LibreSeedError:
    claims = list(own.result.claims) if own.result is not None else []
    if dht.error is not None and dht.error.reason == "trust.unknown-publisher":
        named = dht.error.evidence["publishers"]
        claims += [PublicKey.parse(str(key)) for key in named] if isinstance(named, list) else []
    if claims and basis is None:
        return untrusted(request, list(dict.fromkeys(claims)))
    if dht.error is None or dht.error.reason == "source.no-bootstrap":
        return mirrors.no_record()
    return dht.error
