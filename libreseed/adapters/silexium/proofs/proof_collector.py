"""Gets a release proven: asks sources in order for its bundle, and takes checks 10.1 to 10.11.

Who takes long is not waited for: the next one is asked beside him, and the first bundle that holds is taken. A source
that has nothing, does not answer, takes too long or lies is named and passed over. What is proven against the *log* (a
fork, a second entry for one version) is written down as evidence, and no other source can talk it away: after a fork
only another log's word counts, and all else ends it at once, as does a clock or a memory of this machine that does not
hold. What was learned of the log is on the disk before anything is returned. Every verdict is
:class:`ReleaseVerification`'s. Specification: ``resolver.md``, 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from libreseed import limits
from libreseed.adapters.silexium.proofs.growth_proof import NoSuchTile, consistency_from
from libreseed.adapters.silexium.proofs.proof_source import BundleFile, ProofSource, bundle_places
from libreseed.adapters.silexium.proofs.trust_memory import Remembered, TrustMemory
from libreseed.errors import LibreSeedError, LocalFault, ProofRejected, TransportFault
from libreseed.ids import ReleaseId
from libreseed.resolve.proofs import check_rows, required_growth
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.bundle import Bundle, parse_bundle
from libreseed.silexium.bundle_check import verify_documents
from libreseed.silexium.instants import format_instant
from libreseed.silexium.log_memory import ConsistencyProof, HeadConflict
from libreseed.silexium.trust_policy import SilexiumPolicy
from libreseed.silexium.verification import ReleaseVerification, TrustedRelease

__all__ = ["ProofCollector", "Proven"]

# Not the fault of whoever was asked: another answer would not change it.
_FINAL = ("silexium.second-entry", "silexium.clock", "silexium.memory")


@dataclass(frozen=True, slots=True)
class Proven:
    """A release with checks 10.1 to 10.11 passed, by the ``bundle`` that ``source`` gave; ``passed_over`` says whom
    else was asked before, and why that was not enough."""

    verification: ReleaseVerification
    source: str
    bundle: bytes
    passed_over: tuple[str, ...] = ()


@dataclass(slots=True)
class ProofCollector:
    """For one release and one task. ``now`` in Unix seconds; Once the proofs hold, ``told`` hears of each
    source that was passed over; a refusal carries the same lines as its details.
    """

    policy: SilexiumPolicy
    release: ReleaseId
    memory: TrustMemory
    now: int
    chains: Sequence[HeaderSource] = ()
    told: Callable[[str], None] = field(default=lambda _: None)

    async def collect(self, sources: Sequence[ProofSource]) -> Proven:
        """Ask ``sources`` in order until one's bundle holds; a slow one is not waited for, the next is asked beside it.

        Raises :class:`ProofRejected` (exit 40) with the reason of a fork, or of the first that was refused;
        ``silexium.unlogged`` when all who answered have nothing; ``silexium.unreachable`` (11) when nobody answered.
        """
        async with trio.open_nursery() as nursery:
            asked = _Round(self.release, nursery.cancel_scope)
            for source in sources:
                finished = trio.Event()
                nursery.start_soon(self._ask, source, sources, asked, finished)
                with trio.move_on_after(limits.PROOF_HEDGE_SECONDS):
                    await finished.wait()
        proven = asked.verdict()
        for line in proven.passed_over:
            self.told(line)
        return proven

    async def _ask(
        self, source: ProofSource, sources: Sequence[ProofSource], asked: _Round, finished: trio.Event
    ) -> None:
        asked.open.append(source.name)
        try:
            with _in_time(source):
                data = await self._bundle(source)
                asked.answered = True
                if data is None:
                    asked.pass_over(source, f"has no proofs of {self.release}")
                else:
                    asked.accept(Proven(await self._prove(source, data, sources), source.name, data))
        except TransportFault as error:
            asked.pass_over(source, f"{error.message} [{error.reason}]")
        except ProofRejected as error:
            asked.refuse(source, error)
        except LibreSeedError as error:  # this machine's fault
            asked.end(error)
        finally:
            finished.set()

    async def _bundle(self, source: ProofSource) -> bytes | None:
        for place in bundle_places(self.release):
            if (data := await source.get(place, limits.BUNDLE_BYTES)) is not None:
                return data
        return None

    async def _prove(self, source: ProofSource, data: bytes, sources: Sequence[ProofSource]) -> ReleaseVerification:
        bundle = parse_bundle(data)
        for _ in range(limits.PROOF_ATTEMPTS):
            verification = ReleaseVerification(self.policy, self.release, now=self.now)
            trusted = await trio.to_thread.run_sync(self._documents, verification, bundle)
            if trusted.log is None or trusted.entry is None:
                raise AssertionError("10.8 and 10.9 have passed")
            known = await trio.to_thread.run_sync(self.memory.recall, trusted.log.identity, self.release)
            await self._history(verification, known, source, sources, bundle)
            memory = verification.trusted.memory
            if memory is None:
                raise AssertionError("10.11 has passed")
            keep = partial(self.memory.keep, known, memory, self.release, trusted.entry.digest)
            if await trio.to_thread.run_sync(keep):
                return verification
        raise LocalFault("storage.locked", f"other processes keep changing what is remembered below {self.memory.root}")

    def _documents(self, verification: ReleaseVerification, bundle: Bundle) -> TrustedRelease:
        """10.1 to 10.10; a refusal carries the checks that came before it, for the report."""
        try:
            return verify_documents(verification, bundle, self.chains)
        except ProofRejected as error:
            error.evidence = {**error.evidence, "checks": check_rows(verification.checks)}
            raise

    async def _history(
        self,
        verification: ReleaseVerification,
        known: Remembered,
        source: ProofSource,
        sources: Sequence[ProofSource],
        bundle: Bundle,
    ) -> None:
        """10.11, with the proof of growth that it needs; a proven fork or second entry is written down."""
        proof = await self._growth(verification, known, source, sources)
        try:
            verification.history(known.memory, proof, known.entry)
        except ProofRejected as error:
            error.evidence = {**error.evidence, "checks": check_rows(verification.checks)}
            told = {"noticed": format_instant(self.now), "release": str(self.release), "source": source.name}
            conflict = error.evidence.get("conflict")
            if isinstance(conflict, HeadConflict):
                keep = partial(self.memory.keep_conflict, known.log, conflict, told)
            elif error.reason == "silexium.second-entry":
                entries = {"known": str(known.entry), "second": bundle.entry.decode(), "sth": bundle.sth}
                told |= entries | {"inclusion": bundle.inclusion.members()}
                keep = partial(self.memory.keep_second_entry, known.log, told)
            else:
                raise
            path = await trio.to_thread.run_sync(keep)
            error.details = (*error.details, f"the evidence is in {path}")
            raise

    # --- proof of growth, out of tiles -------------------------------------------------------------------------------
    async def _growth(
        self, verification: ReleaseVerification, known: Remembered, source: ProofSource, sources: Sequence[ProofSource]
    ) -> ConsistencyProof | None:
        """The consistency proof that 10.11 needs; None where it needs none or nobody has it (then 10.11 decides)."""
        trusted = verification.trusted
        if trusted.log is None or trusted.checkpoint is None:
            raise AssertionError("10.9 has passed")
        sizes = required_growth(known.memory, trusted.checkpoint.sth)
        if sizes is None:
            return None
        needless = trusted.log.witnesses.threshold > 0 and trusted.checkpoint.sth.size == sizes[0]
        keepers = [other for other in sources if other is not source] if isinstance(source, BundleFile) else [source]
        for keeper in keepers:
            try:
                return await consistency_from(keeper, *sizes)
            except NoSuchTile:
                continue
            except (ProofRejected, TransportFault) as error:
                if needless:
                    continue
                error.evidence = {**error.evidence, "check": "10.11", "source": keeper.name}
                raise
        return None


@dataclass(slots=True)
class _Round:
    """What came of asking: the first proof that held, or why none did. Owned by the tasks of one nursery."""

    release: ReleaseId
    scope: trio.CancelScope  # cancelled once nobody need be asked or waited for any more
    proven: Proven | None = None
    fault: LibreSeedError | None = None  # no other answer changes it
    answered: bool = False
    refused: list[ProofRejected] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def accept(self, proven: Proven) -> None:
        if self.proven is None:
            self.proven = proven
            self.scope.cancel()

    def refuse(self, source: ProofSource, error: ProofRejected) -> None:
        if error.reason in _FINAL or "memory" in error.evidence:
            self.end(error)
            return
        error.evidence = {**error.evidence, "source": source.name}
        self.refused.append(error)
        self.pass_over(source, f"{error.message} [{error.reason}]")

    def pass_over(self, source: ProofSource, why: str) -> None:
        self.open.remove(source.name)
        self.passed.append(f"{source.name}: {why}")

    def end(self, error: LibreSeedError) -> None:
        self.fault = self.fault or error
        self.scope.cancel()

    def verdict(self) -> Proven:
        """The proof, or the refusal."""
        if self.fault is not None:
            raise self.fault
        if self.proven is not None:
            slow = [f"{name}: had not answered yet" for name in self.open if name != self.proven.source]
            return replace(self.proven, passed_over=(*self.passed, *slow))
        if self.refused:  # a fork says more than any liar's fault
            error = next((error for error in self.refused if error.reason == "silexium.fork"), self.refused[0])
            error.details = (*error.details, *self.passed)
            raise error
        if self.answered:
            message = f"nobody who was asked has Silexium proofs of {self.release}"
            raise ProofRejected("silexium.unlogged", message, details=self.passed)
        message = f"no source of Silexium proofs answers for {self.release}"
        raise TransportFault("silexium.unreachable", message, details=self.passed)


@contextmanager
def _in_time(source: ProofSource) -> Iterator[None]:
    """One source cannot hold up the others for ever, however it drips."""
    try:
        with trio.fail_after(limits.PROOF_SOURCE_SECONDS):
            yield
    except trio.TooSlowError as error:
        message = f"{source.name} takes longer than {limits.PROOF_SOURCE_SECONDS} s"
        raise TransportFault("http.timeout", message) from error
