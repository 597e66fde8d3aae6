"""One stamp on its way: an attestation, one authority or calendar, and what is to be done about it next, and when.

    wanted --token------------------> done          (authority)
    wanted --promise--> pending --proof--> done     (calendar)
                        pending --proof whose block is not at hand--> anchored --headers--> done

A refused answer changes nothing but the time of the next attempt: the wait doubles from try to try, with a share that
differs from job to job so that they do not all come at once. A promise is asked about at growing intervals, and given
up for a new one after :attr:`Pace.promise_lasts`. An anchored proof whose block turns out not to be in the chain (a
reorganisation, or a forgery) falls back to its promise. ``_LEGAL`` is the only place that says what may follow what.

No clock and no transport: ``now`` is in Unix seconds. Specification: ``silexium-time.md``, 4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from libreseed import limits

__all__ = ["JobState", "Pace", "StampJob", "StampKind"]


class StampKind(StrEnum):
    """What is asked for."""

    TSA = "tsa"
    OTS = "ots"


class JobState(StrEnum):
    """Where a job stands; only ``DONE`` is a proof."""

    WANTED = "wanted"
    PENDING = "pending"
    ANCHORED = "anchored"
    DONE = "done"


_LEGAL = {
    JobState.WANTED: {JobState.WANTED, JobState.PENDING, JobState.ANCHORED, JobState.DONE},
    JobState.PENDING: {JobState.PENDING, JobState.ANCHORED, JobState.DONE, JobState.WANTED},
    JobState.ANCHORED: {JobState.ANCHORED, JobState.DONE, JobState.PENDING, JobState.WANTED},
    JobState.DONE: frozenset[JobState](),
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait, in seconds: after failures, between questions about a promise, and for a promise at all.

    The first question is asked ``poll_first`` after the promise; 0 is for a calendar that keeps it at once.
    """

    retry_first: int = 10
    retry_most: int = 3600
    poll_first: int = 60
    poll_most: int = 1200
    promise_lasts: int = limits.OTS_PROMISE_SECONDS

    def after_failures(self, count: int) -> int:
        """The wait before the next attempt after ``count`` failures in a row, at least one."""
        return int(min(self.retry_first << min(count - 1, 30), self.retry_most))

    def after_questions(self, count: int) -> int:
        """The wait before the next question about a promise, after ``count`` of them."""
        return int(min(max(self.poll_first, 1) << min(count, 30), self.poll_most))


@dataclass(frozen=True, slots=True)
class StampJob:
    """``message`` is the BLAKE3 of the attestation, ``service`` the name of the authority or calendar.

    ``promise`` and ``proof`` are the stamp's bytes as far as they are there; ``since`` is when the promise was made.
    ``failures`` counts refused answers in a row, ``questions`` those asked about the promise; ``reason`` and ``detail``
    tell the last refusal.
    """

    message: bytes
    kind: StampKind
    service: str
    due: int
    state: JobState = JobState.WANTED
    failures: int = 0
    questions: int = 0
    since: int = 0
    promise: bytes | None = None
    proof: bytes | None = None
    reason: str | None = None
    detail: str | None = None

    def promised(self, promise: bytes, now: int, pace: Pace) -> StampJob:
        """A calendar has promised."""
        return self._to(JobState.PENDING, promise=promise, since=now, due=now + pace.poll_first)

    def unchanged(self, now: int, pace: Pace) -> StampJob:
        """The calendar has not kept its promise yet, and says so; in the end another promise is wanted."""
        if now - self.since > pace.promise_lasts:
            return self._to(JobState.WANTED, promise=None, proof=None, questions=0, since=0, due=now)
        due = now + pace.after_questions(self.questions)
        return self._to(JobState.PENDING, proof=None, questions=self.questions + 1, due=due)

    def anchored(self, proof: bytes, now: int, pace: Pace) -> StampJob:
        """There is a proof, but its block is not among the headers, or not buried yet; nor can it be that forever."""
        since = self.since or now
        if now - since > pace.promise_lasts:
            return self._to(JobState.WANTED, promise=None, proof=None, questions=0, since=0, due=now)
        return self._to(JobState.ANCHORED, proof=proof, since=since, due=now + pace.poll_most)

    def done(self, proof: bytes) -> StampJob:
        """The stamp is there, and verified."""
        return self._to(JobState.DONE, proof=proof, promise=None, due=0)

    def refused(self, reason: str, detail: str, now: int, pace: Pace) -> StampJob:
        """An answer did not hold, or none came: the same again later. A proof that fails is dropped."""
        state = self.state
        if state is JobState.ANCHORED:
            state = JobState.WANTED if self.promise is None else JobState.PENDING
        failures = self.failures + 1
        due = now + self._spread(pace.after_failures(failures), failures)
        detail = detail[: limits.REPORT_CHARS]
        return self._to(state, proof=None, failures=failures, due=due, reason=reason, detail=detail)

    def _spread(self, wait: int, failures: int) -> int:
        """``wait`` and up to a quarter of it more, the same for the same job and attempt."""
        what = self.message + self.kind.encode() + self.service.encode() + bytes([failures & 255])
        return wait + wait * hashlib.sha256(what).digest()[0] // 1024

    def _to(self, state: JobState, **fields: object) -> StampJob:
        if state not in _LEGAL[self.state]:
            raise AssertionError(f"a stamp that is {self.state} cannot become {state}")
        told = {"state": state, "failures": 0, "reason": None, "detail": None}
        return replace(self, **{**told, **fields})  # type: ignore[arg-type]  # fields by name
