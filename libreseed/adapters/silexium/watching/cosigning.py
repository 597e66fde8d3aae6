"""The log's side of witnessing: asks each witness for its cosignature of a head, and keeps what verifies.

A witness that says it has cosigned more than this log has, or another history, is asked for the log's own signed head
that it keeps. That head, not the witness's word, decides whether the database is behind what its log has shown
(``silexium.shrunk``): then the log stands still. Specification: ``silexium-log.md``, 8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from libreseed import limits
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.errors import LibreSeedError, NotFound, ProofRejected
from libreseed.silexium.tree_head import Checkpoint, NamedKey, SignedTreeHead, parse_checkpoint, parse_cosignatures
from libreseed.silexium.witness_wire import SIZE_MEDIA_TYPE, AddCheckpoint, origin_id, parse_size

if TYPE_CHECKING:
    from libreseed.adapters.http.client import HttpAnswer, HttpClient

__all__ = ["CosignOutcome", "Witness", "collect_cosignatures", "compare_heads"]

_ATTEMPTS = 3  # at one head: the witness may learn of it from another process meanwhile


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness that this log asks, at ``url``."""

    identity: NamedKey
    url: str


@dataclass(frozen=True, slots=True)
class CosignOutcome:
    """What one witness did about the head of ``size`` entries: ``error`` is None when it has cosigned it."""

    witness: Witness
    size: int
    error: LibreSeedError | None


async def collect_cosignatures(
    store: LogStore, witnesses: Sequence[Witness], client: HttpClient
) -> tuple[CosignOutcome, ...]:
    """Ask every witness that has not cosigned the newest head yet, all at once.

    What a witness does wrong is in its outcome; ``silexium.shrunk`` is raised, once the others have been asked.
    """
    checkpoint = await store.database.run(store.checkpoint)
    if checkpoint is None:
        return ()
    done = {cosignature.signer.key for cosignature in checkpoint.cosignatures}
    asked = [witness for witness in witnesses if witness.identity.key not in done]
    return await _ask_all(
        asked, checkpoint.sth.size, lambda witness: _Request(store, witness, client, checkpoint.sth).make()
    )


async def compare_heads(store: LogStore, witnesses: Sequence[Witness], client: HttpClient) -> tuple[CosignOutcome, ...]:
    """Ask every witness for the head of this log that it keeps, and compare: raises ``silexium.shrunk``.

    An outcome with an error is of a witness that could not be asked.
    """
    size = await store.database.run(lambda: store.size)
    return await _ask_all(witnesses, size, lambda witness: _compare(store, witness, client))


async def _ask_all(
    witnesses: Sequence[Witness], size: int, ask: Callable[[Witness], Awaitable[None]]
) -> tuple[CosignOutcome, ...]:
    outcomes: list[CosignOutcome] = []

    async def one(witness: Witness) -> None:
        error: LibreSeedError | None = None
        try:
            await ask(witness)
        except LibreSeedError as fault:
            error = fault
        outcomes.append(CosignOutcome(witness, size, error))

    async with trio.open_nursery() as nursery:
        for witness in witnesses:
            nursery.start_soon(one, witness)
    for outcome in outcomes:
        if outcome.error is not None and outcome.error.reason == "silexium.shrunk":
            raise outcome.error
    return tuple(outcomes)


async def _compare(store: LogStore, witness: Witness, client: HttpClient) -> None:
    """Look at the head of this log that the witness keeps; raises ``silexium.shrunk``."""
    url = f"{witness.url.rstrip('/')}/{origin_id(store.identity.name)}/checkpoint"
    try:
        answer = (await client.get(url, most=limits.NOTE_BYTES)).require(200)
    except NotFound:
        return
    shown = parse_checkpoint(answer.body, store.identity).sth
    await store.database.run(partial(store.note_shown, shown))


@dataclass(frozen=True, slots=True)
class _Request:
    """One head, one witness."""

    store: LogStore
    witness: Witness
    client: HttpClient
    sth: SignedTreeHead

    async def make(self) -> None:
        old = await self.store.database.run(self.store.cosigned_size, self.witness.identity.key)
        for _ in range(_ATTEMPTS):
            answer = await self._post(old)
            if answer.status == 200:
                await self._keep(answer.body)
                return
            if answer.status == 409 and answer.headers.get("content-type") == SIZE_MEDIA_TYPE:
                old = parse_size(answer.body)
                if old <= self.sth.size:
                    continue
            break
        await _compare(self.store, self.witness, self.client)
        text = answer.body[: limits.REPORT_CHARS].decode("utf-8", "replace").strip()
        message = f"{self.witness.identity.name} answers {answer.status}: {text}"
        raise ProofRejected("silexium.witness-refused", message, evidence={"status": answer.status})

    async def _post(self, old: int) -> HttpAnswer:
        hashes: tuple[bytes, ...] = ()
        if 0 < old < self.sth.size:
            hashes = (await self.store.database.run(self.store.consistency, old, self.sth.size)).hashes
        body = AddCheckpoint(old, hashes, Checkpoint(self.sth).data).data
        url = f"{self.witness.url.rstrip('/')}/add-checkpoint"
        return await self.client.post(url, body, "text/plain; charset=utf-8", most=limits.NOTE_BYTES)

    async def _keep(self, body: bytes) -> None:
        lines = body.decode("utf-8", "replace").split("\n")
        if lines.pop():
            raise ProofRejected("silexium.witness", f"{self.witness.identity.name} answers with no cosignature")
        found = parse_cosignatures(lines, self.sth.head, [self.witness.identity])
        if len(found) != 1:
            raise ProofRejected("silexium.witness", f"{self.witness.identity.name} answers with no cosignature")
        await self.store.database.run(self.store.add_cosignature, found[0])
