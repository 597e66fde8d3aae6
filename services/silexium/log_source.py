"""Where ``mirror`` and ``monitor`` read a log from: a server's or mirror's URL, or a folder; and how they ask it.

A source that is asked too often, or is slow, is given time; nothing that it says is believed here or there.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.errors import LibreSeedError, TransportFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libreseed.adapters.silexium.proofs.proof_source import ProofSource
    from libreseed.adapters.silexium.watching.log_fetch import Fetch

__all__ = ["fetch_from", "get", "get_all", "open_source"]

_AT_ONCE = 8  # requests
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a request is made again


async def open_source(arguments: argparse.Namespace, stack: AsyncExitStack) -> ProofSource:
    """The source that the flags name, open until ``stack`` ends."""
    from libreseed.adapters.http.client import HttpClient, HttpClientOptions
    from libreseed.adapters.silexium.proofs.proof_source import FolderSource, HttpSource, is_url

    if not is_url(arguments.source):
        return FolderSource(Path(arguments.source))
    ca_file = None if arguments.ca_file is None else Path(arguments.ca_file)
    client = await stack.enter_async_context(HttpClient(HttpClientOptions(ca_file=ca_file)))
    return HttpSource(client, arguments.source)


def fetch_from(source: ProofSource) -> Fetch:
    """``source`` for a thread that trio has started: it asks the loop for files."""

    def fetch(paths: Sequence[str], most: int) -> list[bytes | None]:
        return trio.from_thread.run(get_all, source, paths, most)

    return fetch


async def get_all(source: ProofSource, paths: Sequence[str], most: int) -> list[bytes | None]:
    """The files at ``paths``, several at once; None for one that is not there."""
    if len(paths) == 1:
        return [await get(source, paths[0], most)]
    found: list[bytes | None] = [None] * len(paths)
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def get_one(number: int, path: str) -> None:
        async with limiter:
            found[number] = await get(source, path, most)

    try:
        async with trio.open_nursery() as nursery:
            for number, path in enumerate(paths):
                nursery.start_soon(get_one, number, path)
    except BaseExceptionGroup as group:
        raise _first(group) from group
    return found


async def get(source: ProofSource, path: str, most: int) -> bytes | None:
    """One file; a server that is asked too often, or is slow, is given time."""
    for pause in _PAUSES:
        try:
            return await source.get(path, most)
        except TransportFault as error:
            if error.reason != "http.timeout" and error.evidence.get("status") not in (429, 503):
                raise
        await trio.sleep(pause)
    return await source.get(path, most)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the failures of requests that were made at once: a fault if there is any, else the cancellation."""
    faults, rest = group.split(LibreSeedError)
    inner: BaseException = (faults or rest or group).exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
