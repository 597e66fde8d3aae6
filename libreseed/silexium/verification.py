"""The resolver's step 10 as a trusted state machine: what is believed about a release, check by check.

Every document goes through one method of :class:`ReleaseVerification`, in this order and no other (Silexium, 8):

====== ==================== ==========================================================================================
check  method               afterwards trusted
====== ==================== ==========================================================================================
10.1   ``manifest``         the form of the release manifest, and that it is of this release and an allowed channel
10.2   ``author``           the author's key, signature and claim: manifest, SRC, source artifact, name, license
10.3   ``tests``            the same of the tests, that they passed, and that they saw the author's attestation
10.4   ``server``           the same of the server, that it saw both and every artifact; three distinct keys
10.5   ``time_stamps``      RFC 3161: when authorities saw each attestation, k of n
10.6   ``bitcoin``          OpenTimestamps: which block came after each attestation
10.7   ``times``            that claims, stamps and blocks agree, and that each key was in force by proven time
10.8   ``entry``            that the log entry names exactly what was verified so far
10.9   ``head``             a tree head by a trusted log, its witnesses, its age
10.10  ``inclusion``        that the entry is in the log under that head
10.11  ``history``          that the head fits every head seen before, and that the version has one entry
10.12  ``artifact``         the .tgz: size and BLAKE3
10.13  ``src``              the package's SRC: size, BLAKE3, and every file it lists
====== ==================== ==========================================================================================

A check verifies and then changes the state, or raises (exit 40) with its number in evidence["check"] and leaves the
state as it was. ``checks`` tells what was done with which inputs, the refused one included. No IO, no clock: ``now``
is an argument. Specification: ``silexium.md``, 8.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Concatenate, Final, ParamSpec, TypeVar

from blake3 import blake3

from libreseed import limits, wire
from libreseed.errors import ContentRejected, LibreSeedError, ProofRejected
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.package.document import rejecting
from libreseed.package.src_index import check_src
from libreseed.silexium.attestation import (
    Attestation,
    SuiteClaim,
    author_claim,
    parse_attestation,
    require_claim,
    server_claim,
    unverified_key_id,
)
from libreseed.silexium.bitcoin_headers import HeaderChain, HeaderSource
from libreseed.silexium.bundle import HeaderRun, InclusionProof, Stamps
from libreseed.silexium.instants import format_instant
from libreseed.silexium.keyring import ROLES, Role, require_standing
from libreseed.silexium.log_entry import LogEntry, ProofHashes, parse_log_entry
from libreseed.silexium.log_memory import ConsistencyProof, LogMemory, receive_head
from libreseed.silexium.log_proofs import verify_inclusion
from libreseed.silexium.release_manifest import ReleaseManifest, parse_release_manifest
from libreseed.silexium.stamps import ProvenTime, anchored_at, check_order, stamped_at
from libreseed.silexium.tree_head import Checkpoint, parse_cosignatures, parse_tree_head
from libreseed.silexium.trust_policy import SilexiumPolicy, TrustedLog

__all__ = ["Check", "ReleaseVerification", "TrustedRelease"]

P = ParamSpec("P")
T = TypeVar("T")
# The order of the checks; nothing else decides which may come next.
_ORDER: Final[tuple[str, ...]] = (
    "manifest",
    "author",
    "tests",
    "server",
    "time_stamps",
    "bitcoin",
    "times",
    "entry",
    "head",
    "inclusion",
    "history",
    "artifact",
    "src",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One check as it went: ``number`` ("10.4"), what it looked at, and ``verdict`` ("passed" or a reason code)."""

    number: str
    name: str
    inputs: Mapping[str, str]
    verdict: str


@dataclass(frozen=True, slots=True)
class TrustedRelease:
    """What has been verified so far; a field is None (or empty) until its check is done.

    ``memory`` is what the store must persist about the log, ``entry.digest`` what it must remember of this release.
    """

    manifest: ReleaseManifest | None = None
    attestations: tuple[Attestation, ...] = ()
    stamps: tuple[Stamps, ...] = ()
    times: tuple[ProvenTime, ...] = ()
    entry: LogEntry | None = None
    log: TrustedLog | None = None
    checkpoint: Checkpoint | None = None
    memory: LogMemory | None = None


# What a check trusts afterwards, and its inputs as the report shows them.
_Outcome = tuple[TrustedRelease, Mapping[str, str]]


def _check(
    method: Callable[Concatenate[ReleaseVerification, P], _Outcome],
) -> Callable[Concatenate[ReleaseVerification, P], TrustedRelease]:
    """Make a method a check: legal only in its turn, all or nothing, recorded, its errors marked with its number."""
    name = method.__name__
    turn = _ORDER.index(name)
    number = f"10.{turn + 1}"

    @functools.wraps(method)
    def run(self: ReleaseVerification, /, *args: P.args, **kwargs: P.kwargs) -> TrustedRelease:
        if self.completed != turn:
            raise AssertionError(f"check {number} may not follow {self.completed} checks")
        try:
            trusted, inputs = method(self, *args, **kwargs)
        except LibreSeedError as error:
            error.evidence = {**error.evidence, "check": number}
            error.at_step(10)
            inputs = {name: str(value)[: limits.REPORT_CHARS] for name, value in error.evidence.items()}
            self.checks.append(Check(number, name, {**inputs, "refused": error.message}, error.reason))
            raise
        self._trusted, self._completed = trusted, turn + 1
        self.checks.append(Check(number, name, inputs, "passed"))
        return trusted

    return run


class ReleaseVerification:
    """The checks of one ``release`` under ``policy`` at ``now`` (Unix seconds); call the methods in order."""

    def __init__(self, policy: SilexiumPolicy, release: ReleaseId, *, now: int) -> None:
        self.policy = policy
        self.release = release
        self.now = now
        self.checks: list[Check] = []
        self._trusted = TrustedRelease()
        self._completed = 0

    @property
    def completed(self) -> int:
        """How many checks have passed."""
        return self._completed

    @property
    def trusted(self) -> TrustedRelease:
        """What has been verified so far."""
        return self._trusted

    @_check
    def manifest(self, data: bytes) -> _Outcome:
        """10.1: the release manifest's exact bytes."""
        manifest = parse_release_manifest(data)
        if manifest.release != self.release:
            raise ProofRejected("silexium.release", f"the manifest is of {manifest.release}, not of {self.release}")
        if self.policy.channels is not None and manifest.channel not in self.policy.channels:
            raise ProofRejected("silexium.channel", f"the policy does not take releases of channel {manifest.channel}")
        seen = {"release": str(manifest.release), "channel": manifest.channel, "manifest": str(manifest.digest)}
        return replace(self._trusted, manifest=manifest), seen

    @_check
    def author(self, data: bytes) -> _Outcome:
        """10.2: the author's attestation."""
        attestation = self._attestation(data, Role.AUTHOR)
        require_claim(attestation.claim, author_claim(self._manifest))
        return self._attested(attestation)

    @_check
    def tests(self, data: bytes) -> _Outcome:
        """10.3: the tests' attestation."""
        attestation = self._attestation(data, Role.TESTS)
        claim = attestation.claim
        if not isinstance(claim, SuiteClaim):
            raise AssertionError("the role decides the claim")
        (author,) = self._trusted.attestations
        require_claim(claim, replace(claim, author_attestation_hash=author.digest, manifest_hash=self._manifest.digest))
        if not claim.passed:
            raise ProofRejected("silexium.tests-failed", f"the tests {claim.test_suite_id!r:.100} have failed")
        return self._attested(attestation)

    @_check
    def server(self, data: bytes) -> _Outcome:
        """10.4: the server's attestation."""
        attestation = self._attestation(data, Role.SERVER)
        author, tests = self._trusted.attestations
        require_claim(attestation.claim, server_claim(self._manifest, author, tests))
        return self._attested(attestation)

    @_check
    def time_stamps(self, stamps: Sequence[Stamps]) -> _Outcome:
        """10.5: the RFC 3161 responses of the three attestations (their OpenTimestamps proofs are for 10.6)."""
        if len(stamps) != len(ROLES):
            raise ProofRejected("silexium.tsa-missing", f"time stamps for {len(stamps)} attestations where 3 belong")
        times, seen = [], {}
        for attestation, stamp in zip(self._trusted.attestations, stamps, strict=True):
            found = stamped_at(stamp.tsa, attestation.data, self.policy.time, now=self.now)
            times.append(ProvenTime(found[-1].time, 0, 0, found))
            authorities = ", ".join(item.tsa for item in found)
            seen[str(attestation.role)] = f"{format_instant(found[-1].time)} by {authorities}"
        return replace(self._trusted, stamps=tuple(stamps), times=tuple(times)), seen

    @_check
    def bitcoin(self, chains: Sequence[HeaderSource], run: HeaderRun | None = None) -> _Outcome:
        """10.6: the OpenTimestamps proofs, against ``chains`` of block headers and a bundle's own ``run`` of them.

        The run counts only as far as it is pinned (regtest, where everything is worthless, needs no pin); where other
        chains are at hand, one that is not pinned at all is left out.
        """
        network = self.policy.time.network
        times, seen = [], {"network": network.name if network.retargets else f"{network.name}: proves nothing"}
        chains = self._with_run(tuple(chains), run)
        trusted = self._trusted
        for attestation, stamp, time in zip(trusted.attestations, trusted.stamps, trusted.times, strict=True):
            anchored, height = anchored_at(stamp.ots, attestation.data, self.policy.time, chains)
            times.append(replace(time, anchored=anchored, height=height))
            seen[str(attestation.role)] = f"{format_instant(anchored)} by block {height}"
        return replace(trusted, times=tuple(times)), seen

    @_check
    def times(self) -> _Outcome:
        """10.7: claims, stamps and blocks against each other; each key in force when its signature existed."""
        trusted, seen = self._trusted, {}
        earliest = 0
        for attestation, time in zip(trusted.attestations, trusted.times, strict=True):
            check_order(attestation.created_at, time, self.policy.time)
            if attestation.created_at + limits.CLOCK_SKEW_SECONDS < earliest:
                message = f"the {attestation.role} attestation says that it is older than the one it is about"
                raise ProofRejected("silexium.time-order", message)
            earliest = max(earliest, attestation.created_at)
            key = self.policy.keys.find(attestation.key_id)
            require_standing(key, created_at=attestation.created_at, stamped_at=time.stamped, anchored_at=time.anchored)
            seen[str(attestation.role)] = f"key {attestation.key_id} in force at {format_instant(time.stamped)}"
        return trusted, seen

    @_check
    def entry(self, data: bytes) -> _Outcome:
        """10.8: the log entry names this release, these attestations and these proofs, and nothing else."""
        entry, trusted = parse_log_entry(data), self._trusted
        with rejecting(ProofRejected, "silexium", "entry"):
            proofs = tuple(
                ProofHashes(role, tuple(map(_blake3, stamps.tsa)), tuple(map(_blake3, stamps.ots)))
                for role, stamps in zip(ROLES, trusted.stamps, strict=True)
            )
        digests = tuple(attestation.digest for attestation in trusted.attestations)
        expected = LogEntry.build(self.release, self._manifest.digest, digests, proofs)
        if entry != expected:
            evidence = {"expected": str(expected.digest), "actual": str(entry.digest)}
            message = "the log entry is about other documents than those that were verified"
            raise ProofRejected("silexium.entry-mismatch", message, evidence=evidence)
        return replace(trusted, entry=entry), {"entry": str(entry.digest)}

    @_check
    def head(self, sth: wire.JsonValue, cosignatures: Sequence[str]) -> _Outcome:
        """10.9: a head by a trusted log, cosigned by a quorum of its witnesses, and not too old."""
        log = self.policy.find_log(sth.get("origin") if isinstance(sth, dict) else None)
        head = parse_tree_head(sth, log.identity)
        found = parse_cosignatures(cosignatures, head.head, log.witnesses.witnesses())
        log.witnesses.require({cosignature.signer.key for cosignature in found})
        if any(cosignature.time > self.now + limits.CLOCK_SKEW_SECONDS for cosignature in found):
            raise ProofRejected("silexium.future", "a witness cosigned the head in the future")
        if log.max_head_age is not None and self.now - head.timestamp > log.max_head_age:
            message = f"the log's head is of {format_instant(head.timestamp)}: older than the policy allows"
            raise ProofRejected("silexium.stale", message)
        latest = max(max(time.stamped, time.anchored) for time in self._trusted.times)
        if head.timestamp + limits.BLOCK_TIME_SKEW_SECONDS < latest:
            message = "the log's head is older than the stamps that its entry names"
            raise ProofRejected("silexium.time-order", message)
        seen = {
            "log": log.identity.name,
            "tree_size": str(head.size),
            "root_hash": str(head.root),
            "time": format_instant(head.timestamp),
            "witnesses": ", ".join(cosignature.signer.name for cosignature in found) or "none",
        }
        return replace(self._trusted, log=log, checkpoint=Checkpoint(head, found)), seen

    @_check
    def inclusion(self, proof: InclusionProof) -> _Outcome:
        """10.10: the entry is in the log under the head."""
        checkpoint, entry = _known(self._trusted.checkpoint), _known(self._trusted.entry)
        if proof.size != checkpoint.sth.size:
            message = f"the inclusion proof is for {proof.size} entries, the head for {checkpoint.sth.size}"
            raise ProofRejected("silexium.inclusion", message)
        verify_inclusion(proof.index, proof.size, entry.digest.raw, proof.hashes, checkpoint.sth.root.raw)
        return self._trusted, {"leaf_index": str(proof.index), "tree_size": str(proof.size)}

    @_check
    def history(
        self,
        memory: LogMemory | None,
        proof: ConsistencyProof | None = None,
        known_entry: Blake3Digest | None = None,
    ) -> _Outcome:
        """10.11: the head fits what is remembered of the log; ``known_entry`` is the entry seen for this release."""
        log, entry = _known(self._trusted.log), _known(self._trusted.entry)
        head = _known(self._trusted.checkpoint).sth
        if known_entry is not None and known_entry != entry.digest:
            evidence = {"known": str(known_entry), "now": str(entry.digest), "release": str(self.release)}
            message = f"the log has a second entry for {self.release}"
            raise ProofRejected("silexium.second-entry", message, evidence=evidence)
        witnessed = log.witnesses.threshold > 0
        after = receive_head(memory, head, now=self.now, proof=proof, witnessed=witnessed)
        known = "none" if memory is None else f"{memory.head.size} entries, {memory.head.root}"
        return replace(self._trusted, memory=after), {"remembered": known}

    @_check
    def artifact(self, size: int, digest: Blake3Digest) -> _Outcome:
        """10.12: the .tgz that was fetched is the source artifact."""
        source = self._manifest.source
        if (size, digest) != (source.size, source.blake3):
            evidence = {"expected": f"{source.size} {source.blake3}", "actual": f"{size} {digest}"}
            raise ProofRejected(
                "silexium.artifact", "the .tgz is not the artifact that was attested", evidence=evidence
            )
        return self._trusted, {"size": str(size), "blake3": str(digest)}

    @_check
    def src(self, data: bytes, sizes: Mapping[str, int], digests: Mapping[str, Blake3Digest]) -> _Outcome:
        """10.13: SRC as it lies in the extracted tree, and that it lists the tree's files (path -> bytes, BLAKE3)."""
        index = self._manifest.src_index
        if (len(data), _blake3(data)) != (index.size, index.blake3):
            evidence = {"expected": f"{index.size} {index.blake3}", "actual": f"{len(data)} {_blake3(data)}"}
            raise ProofRejected("silexium.src", "SRC is not the one that was attested", evidence=evidence)
        try:
            check_src(data, sizes, digests)
        except ContentRejected as error:
            raise ProofRejected("silexium.src", error.message, evidence=error.evidence) from error
        return self._trusted, {"size": str(index.size), "blake3": str(index.blake3)}

    def _with_run(self, chains: tuple[HeaderSource, ...], run: HeaderRun | None) -> tuple[HeaderSource, ...]:
        if run is None:
            return chains
        time = self.policy.time
        try:
            own = HeaderChain(time.network, run.base, time.pins, pinned_only=time.network.retargets)
            own.extend(run.data, now=self.now)
        except ProofRejected:
            if chains:
                return chains
            raise
        return (*chains, own)

    @property
    def _manifest(self) -> ReleaseManifest:
        return _known(self._trusted.manifest)

    def _attestation(self, data: bytes, role: Role) -> Attestation:
        """An attestation under a key that the policy trusts in ``role`` and that has not signed in another one."""
        key = self.policy.keys.find(unverified_key_id(data))
        attestation = parse_attestation(data, key.public)
        if attestation.role is not role:
            message = f"an attestation of the {attestation.role} where that of the {role} belongs"
            raise ProofRejected("silexium.attestation", message)
        key.require_role(role, self.release.name)
        if any(attestation.key == other.key for other in self._trusted.attestations):
            message = f"the key {attestation.key_id} has signed in two roles"
            raise ProofRejected("silexium.key-reused", message, evidence={"key_id": str(attestation.key_id)})
        return attestation

    def _attested(self, attestation: Attestation) -> _Outcome:
        seen = {"key_id": str(attestation.key_id), "attestation": str(attestation.digest)}
        return replace(self._trusted, attestations=(*self._trusted.attestations, attestation)), seen


def _blake3(data: bytes) -> Blake3Digest:
    return Blake3Digest(blake3(data).digest())


def _known(value: T | None) -> T:
    if value is None:
        raise AssertionError("used before its check")
    return value
