"""Getting stamps: whatever is due is asked for, verified, and only then stored.

:meth:`Stamping.advance` does what is due and says when to come again. Each service has one task of its own, so a
slow or lying one holds up nobody else; a service that cannot be reached is left alone for a while with all its jobs.
Every refusal is recorded with its reason and the job tried again later; nothing is ever given up, and nothing
unverified counts. A token must also be of about now: one that is far off would prove what its authority chooses.

Time is an argument. Specification: ``silexium-time.md``, 4.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from libreseed import limits
from libreseed.adapters.silexium.database import Database
from libreseed.adapters.silexium.stamps.calendar_client import CalendarService
from libreseed.adapters.silexium.stamps.stamp_queue import StampQueue, StampStatus
from libreseed.adapters.silexium.stamps.tsa_client import TimeStampService
from libreseed.errors import LibreSeedError, LocalFault, ProofRejected, UsageFault
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.ots import parse_ots
from libreseed.silexium.ots_promise import confirmed, join, open_promise, promised, submission
from libreseed.silexium.stamp_job import JobState, Pace, StampJob, StampKind
from libreseed.silexium.time_stamp_request import TimeStampRequest

__all__ = ["Advance", "StampRefusal", "Stamping"]

_T = TypeVar("_T")
_UNSEEN = ("silexium.header-missing", "silexium.header-confirmations")  # time alone may heal these
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class StampRefusal:
    """An answer that did not hold, or a service that gave none."""

    job: StampJob
    error: LibreSeedError


@dataclass(slots=True)
class Advance:
    """What one call did: jobs that are done now, answers refused; and when the next job is due (None: none is)."""

    done: list[StampJob] = field(default_factory=list)
    refused: list[StampRefusal] = field(default_factory=list)
    next_due: int | None = None


class Stamping:
    """Stamps by ``authorities`` and ``calendars`` for whatever is in the queue.

    ``headers`` gives the block headers that confirm proofs; it is called for every proof, so that a store that grows
    is seen growing.
    """

    def __init__(
        self,
        database: Database,
        authorities: Sequence[TimeStampService],
        calendars: Sequence[CalendarService],
        headers: Callable[[], HeaderSource],
        *,
        pace: Pace | None = None,
    ) -> None:
        self._authorities = {service.trusted.name: service for service in authorities}
        self._calendars = {service.name: service for service in calendars}
        self._headers = headers
        self._pace = pace or Pace()
        self._begun = False
        names = [(StampKind.TSA, service.trusted.name) for service in authorities]
        names += [(StampKind.OTS, service.name) for service in calendars]
        self.queue = StampQueue(database, names)

    async def want(self, attestations: Sequence[bytes], now: int) -> None:
        """Put attestations into the queue; those that are there stay as they are."""
        await self.queue.database.run(self.queue.want, attestations, now)

    async def status(self, attestation: bytes) -> StampStatus:
        """How far the stamps of an attestation are; raises NotFound (``silexium.not-queued``)."""
        return await self.queue.database.run(self.queue.status, attestation)

    async def obtain(
        self, attestation: bytes, *, tokens: int, proofs: int = 1, clock: Callable[[], int]
    ) -> StampStatus:
        """Want stamps of one attestation, and work on the queue until so many of each are there.

        Raises :class:`UsageFault` (``config.stamps``) when there are fewer services than stamps are wanted.
        """
        if tokens > len(self._authorities) or proofs > len(self._calendars):
            raise UsageFault("config.stamps", "there are fewer authorities or calendars than stamps are wanted")
        await self.want([attestation], clock())
        while True:
            step = await self.advance(clock())
            status = await self.status(attestation)
            if status.suffices(tokens, proofs):
                return status
            await trio.sleep(max((step.next_due or 0) - clock(), 0))

    async def headers_changed(self, now: int) -> None:
        """Look at once again at the proofs that wait for headers."""
        await self.queue.database.run(self.queue.wake_anchored, now)

    async def advance(self, now: int) -> Advance:
        """Do what is due at ``now`` (Unix seconds). Raises only for faults of this machine (``storage.*``)."""
        run = self.queue.database.run
        result = Advance()
        if not self._begun:
            await run(self.queue.want_of_new_services, now)
            self._begun = True
        jobs = await run(self.queue.due, now, max(self._pace.retry_most, self._pace.poll_most) * 2)
        async with trio.open_nursery() as nursery:
            for kind, service in dict.fromkeys((job.kind, job.service) for job in jobs):
                mine = [job for job in jobs if (job.kind, job.service) == (kind, service)]
                nursery.start_soon(self._serve, mine, now, result)
        result.next_due = await run(self.queue.next_due)
        return result

    async def _serve(self, jobs: Sequence[StampJob], now: int, result: Advance) -> None:
        """All that is due with one service, one after the other; the rest is put off when it cannot be reached."""
        for job in jobs:
            message = await self.queue.database.run(self.queue.data_of, job.message)
            if message is None:
                continue
            try:
                after = await self._step(job, message, now)
            except LocalFault:
                raise
            except LibreSeedError as error:  # whatever else is declared is the service's doing
                after = job.refused(error.reason, error.message, now, self._pace)
                result.refused.append(StampRefusal(after, error))
                if not isinstance(error, ProofRejected):
                    await self._store(job, after, result)
                    await self.queue.database.run(self.queue.postpone, job.kind, job.service, after.due)
                    return
            await self._store(job, after, result)

    async def _store(self, before: StampJob, after: StampJob, result: Advance) -> None:
        stored = await self.queue.database.run(self.queue.replace, before, after)
        if stored and after.state is JobState.DONE:
            result.done.append(after)

    async def _step(self, job: StampJob, message: bytes, now: int) -> StampJob:
        if job.kind is StampKind.TSA:
            return await self._token(job, message, now)
        if job.state is JobState.WANTED:
            return await self._submit(job, message, now)
        if job.state is JobState.PENDING:
            return await self._redeem(job, message, now)
        after = await self._confirm(job, message, now, (job.proof or b"",))
        if after.state is JobState.ANCHORED and job.promise is not None:
            return await self._redeem(job, message, now)  # the calendar may know better by now: blocks are orphaned
        return after

    async def _token(self, job: StampJob, message: bytes, now: int) -> StampJob:
        service = self._authorities[job.service]
        question = TimeStampRequest(message, secrets.randbits(62) + 1, service.trusted.policy)
        response = await service.ask(await self._work(question.encode))
        await self._work(lambda: _check_token(question, response, service, now))
        return job.done(response)

    async def _submit(self, job: StampJob, message: bytes, now: int) -> StampJob:
        service = self._calendars[job.service]
        digest, nonce = hashlib.sha256(message).digest(), secrets.token_bytes(_NONCE_BYTES)
        answer = await service.submit(submission(digest, nonce))
        proof = await self._work(lambda: open_promise(digest, nonce, answer, service.redeems))
        if parse_ots(proof, digest).bitcoin:
            return await self._confirm(job, message, now, (proof,))
        return job.promised(proof, now, self._pace)

    async def _redeem(self, job: StampJob, message: bytes, now: int) -> StampJob:
        digest, promise = hashlib.sha256(message).digest(), job.promise or b""
        where = promised(promise, digest)
        answer = await self._calendars[job.service].timestamp(where.uri, where.commitment)
        if answer is None:
            return job.unchanged(now, self._pace)
        return await self._confirm(job, message, now, await self._work(lambda: join(promise, digest, answer)))

    async def _confirm(self, job: StampJob, message: bytes, now: int, proofs: Sequence[bytes]) -> StampJob:
        """The first proof that the headers confirm; raises the last refusal when they contradict all of them."""
        digest, headers = hashlib.sha256(message).digest(), self._headers()
        refusal: ProofRejected | None = None
        for proof in proofs:
            try:
                await self._work(partial(confirmed, proof, digest, headers))
                return job.done(proof)
            except ProofRejected as error:
                if error.reason in _UNSEEN:
                    return job.anchored(proof, now, self._pace)
                refusal = error
        raise refusal or AssertionError("there is always a proof to confirm")

    async def _work(self, body: Callable[[], _T]) -> _T:
        return await self.queue.database.run(body)


def _check_token(question: TimeStampRequest, response: bytes, service: TimeStampService, now: int) -> None:
    stamp = question.accept(response, (service.trusted,), now=now)
    if abs(stamp.time - now) > limits.CLOCK_SKEW_SECONDS:  # accuracy added: a vague one would spoil the order of things
        evidence = {"stamped": stamp.time, "now": now}
        message = f"{stamp.tsa} stamps what it sees now with another time, or with no accuracy to speak of"
        raise ProofRejected("silexium.time-order", message, evidence=evidence)
