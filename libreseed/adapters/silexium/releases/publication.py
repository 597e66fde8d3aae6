"""The way of releases into the log: stamps are asked for, collected, verified, and the entry appended and signed for.

:meth:`Publication.advance` does what can be done now and says when to come again; each step is one durable transaction,
so that a crash between any two loses nothing and does nothing twice:

1. staged -> pending, together with the wish for stamps of the three attestations;
2. stamps, one by one (:mod:`libreseed.adapters.silexium.stamps.stamping`);
3. pending -> complete: the stamps verify with the resolver's own checks 10.1 to 10.8, and are frozen with the entry;
   a release that they refuse is marked so and never logged;
4. complete -> logged: the entry is appended to the log and the release gets its index, unless the log has an entry for
   the version already (recovered, or appended by hand), because no version gets a second one;
5. the head over all entries is signed; also when the last one is older than ``head_seconds``.

Several servers over one database do no harm: each step is taken once. Time is an argument. Specification:
``silexium-api.md``, 3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from libreseed import limits
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.releases.catalogue import Catalogue, Progress, ReleaseState
from libreseed.adapters.silexium.releases.foreign_entries import foreign_index, note_entries
from libreseed.adapters.silexium.stamps.stamp_queue import StampStatus, forget_stamps, want_stamps
from libreseed.adapters.silexium.stamps.stamping import Stamping, StampRefusal
from libreseed.errors import NotFound, ProofRejected
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.bundle import Stamps
from libreseed.silexium.keyring import ROLES
from libreseed.silexium.log_entry import LogEntry, ProofHashes
from libreseed.silexium.trust_policy import SilexiumPolicy
from libreseed.silexium.verification import ReleaseVerification

__all__ = ["Advanced", "Publication"]

# What only time, or headers that are not here yet, can heal: the release waits.
_WAITS = frozenset({"silexium.header-missing", "silexium.header-confirmations", "silexium.future"})


@dataclass(slots=True)
class Advanced:
    """What one call did. ``next_due`` (Unix seconds) is when something is to be done again."""

    logged: list[ReleaseId] = field(default_factory=list)
    refused: list[tuple[ReleaseId, ProofRejected]] = field(default_factory=list)
    stamp_refusals: list[StampRefusal] = field(default_factory=list)
    signed: bool = False
    next_due: int = 0


class Publication:
    """``policy`` and ``headers`` are called anew for every step, so that revocations and new blocks count at once.

    ``patience`` is how long (seconds) a release waits for more stamps than the policy's threshold demands.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        log: LogStore,
        log_key: PrivateKey,
        stamping: Stamping,
        *,
        policy: Callable[[], SilexiumPolicy],
        headers: Callable[[], HeaderSource],
        head_seconds: int = 3600,
        patience: int = 3600,
    ) -> None:
        self._catalogue = catalogue
        self._log = log
        self._log_key = log_key
        self._stamping = stamping
        self._policy = policy
        self._headers = headers
        self._head_seconds = head_seconds
        self._patience = patience

    async def advance(self, now: int) -> Advanced:
        """Do what is due at ``now`` (Unix seconds); raises only for faults of this machine or of its configuration."""
        run = self._catalogue.database.run
        done, waits = Advanced(), [now + self._head_seconds]
        await run(self._request_stamps, now)
        await run(self._settle, now, done, waits)  # what is ready need not wait for slow services
        stamped = await self._stamping.advance(now)
        done.stamp_refusals = stamped.refused
        if stamped.next_due is not None:
            waits.append(stamped.next_due)
        await run(self._settle, now, done, waits)
        done.next_due = max(now, min(waits))
        return done

    def _settle(self, now: int, done: Advanced, waits: list[int]) -> None:
        """Steps 3 to 5, as far as the stamps that are there allow; first what an interrupted step left complete."""
        self._append(done)
        self._collect(now, done, waits)
        self._append(done)
        done.signed |= self.sign(now)

    def _request_stamps(self, now: int) -> None:
        while batch := self._catalogue.waiting(ReleaseState.STAGED, limits.PUBLISHED_AT_ONCE):
            for release in batch:
                with self._catalogue.database.write() as connection:
                    want_stamps(connection, release.attestations, self._stamping.queue.services, now)
                    self._catalogue.mark_pending(connection, release.number)

    def _collect(self, now: int, done: Advanced, waits: list[int]) -> None:
        """Everything pending is looked at: a release that waits for a calendar must not hide the one behind it."""
        policy, last = self._policy(), 0
        while batch := self._catalogue.waiting(ReleaseState.PENDING, limits.PUBLISHED_AT_ONCE, after=last):
            for release in batch:
                self._judge(release, policy, now, done, waits)
            last = batch[-1].number

    def _judge(self, release: Progress, policy: SilexiumPolicy, now: int, done: Advanced, waits: list[int]) -> None:
        try:
            found = [self._stamping.queue.status(data) for data in release.attestations]
        except NotFound:  # another server has logged it meanwhile
            return
        if not all(status.suffices(policy.time.tsa_threshold) for status in found):
            return
        patient_until = release.staged_at + self._patience
        if any(status.open for status in found) and now < patient_until:
            waits.append(patient_until)
            return
        try:
            stamps, entry = self._verified(release, found, policy, now)
        except ProofRejected as error:
            if error.reason in _WAITS:
                waits.append(now + self._patience)
                return
            if self._catalogue.refuse(release.number, error.reason):
                done.refused.append((release.release, error))
                for data in release.attestations:
                    self._stamping.queue.forget(data)
            return
        self._catalogue.mark_complete(release.number, stamps, entry)

    def _verified(
        self, release: Progress, found: Sequence[StampStatus], policy: SilexiumPolicy, now: int
    ) -> tuple[list[Stamps], bytes]:
        """The stamps and the log entry, judged as a resolver will judge them."""
        stamps = [Stamps(status.tokens, status.proofs) for status in found]
        checks = ReleaseVerification(policy, release.release, now=now)
        checks.manifest(release.manifest)
        author, tests, server = release.attestations
        checks.author(author)
        checks.tests(tests)
        checks.server(server)
        checks.time_stamps(stamps)
        checks.bitcoin([self._headers()])
        checks.times()
        proofs = tuple(
            ProofHashes(role, tuple(map(_digest, stamp.tsa)), tuple(map(_digest, stamp.ots)))
            for role, stamp in zip(ROLES, stamps, strict=True)
        )
        attested = tuple(map(_digest, release.attestations))
        entry = LogEntry.build(release.release, _digest(release.manifest), attested, proofs)
        checks.entry(entry.data)
        return stamps, entry.data

    def _append(self, done: Advanced) -> None:
        while self._note_entries():
            pass  # portion by portion, so that others may write in between
        while self._catalogue.any_waiting(ReleaseState.COMPLETE):
            self._append_batch(done)

    def _note_entries(self) -> bool:
        with self._catalogue.database.write() as connection:
            return note_entries(connection, limits.ENTRIES_NOTED_AT_ONCE)

    def _append_batch(self, done: Advanced) -> None:
        """The log and the catalogue move together, or not at all."""
        logged: list[ReleaseId] = []
        with self._catalogue.database.write() as connection:
            while note_entries(connection, limits.ENTRIES_NOTED_AT_ONCE):
                pass
            batch = self._catalogue.waiting_in(connection, ReleaseState.COMPLETE, limits.PUBLISHED_AT_ONCE)
            fresh = [release for release in batch if not self._is_there(connection, release, logged)]
            indices = self._log.append_in(connection, [release.entry or b"" for release in fresh])
            for release, index in zip(fresh, indices, strict=True):
                self._mark_logged(connection, release, index, logged)
        done.logged += logged

    def _is_there(self, connection: sqlite3.Connection, release: Progress, logged: list[ReleaseId]) -> bool:
        """Whether the log has an entry for this version that the catalogue did not append: it must not get a second.

        The very same entry (recovered from a mirror) makes the release logged, any other one refuses it.
        """
        index = foreign_index(connection, release.release)
        if index is None:
            return False
        if self._log.entry(index) == release.entry:
            self._mark_logged(connection, release, index, logged)
        else:
            self._catalogue.refuse_in(connection, release.number, "silexium.second-entry")
        return True

    def _mark_logged(
        self, connection: sqlite3.Connection, release: Progress, index: int, logged: list[ReleaseId]
    ) -> None:
        self._catalogue.mark_logged(connection, release.number, index)
        forget_stamps(connection, release.attestations)  # the catalogue has them now
        logged.append(release.release)

    def sign(self, now: int) -> bool:
        """Sign the head if there is something to sign for; blocks. A process that died before it had signed is why this
        asks the log itself. Raises ``silexium.shrunk`` for a database that is behind what its log has shown."""
        self._log.require_shown()
        head = self._log.head()
        if head is not None and head.size == self._log.size and now - head.timestamp < self._head_seconds:
            return False
        self._log.sign_head(self._log_key, now)
        return True


def _digest(data: bytes) -> Blake3Digest:
    return Blake3Digest(blake3(data).digest())
