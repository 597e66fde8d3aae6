"""The eleven steps of a resolve as one trusted state machine (DESIGN 4; ``docs/specification/resolver.md``).

Every byte that the resolver believes went through one method of :class:`Resolution`, in this order and no other:

==== ===================== ==========================================================================================
step method                afterwards trusted
==== ===================== ==========================================================================================
1    ``begin``             request, policy, whom to believe for the name, the floors
2    ``record``            bytes found under a believed publisher's key (nothing about their content)
3    ``minimal_manifest``  the minimal manifest: canonical, both signatures, this release and publisher, no rollback
4    ``chunk_map``         the hash of every 5120-byte chunk
5    ``content``           enough verified chunks of every stripe to have or decode all of them
6    ``repaired``          every data chunk
7    ``archive``           the .tgz: size and SHA-256
8    ``full_manifest``     the full manifest, equal to the minimal one where both speak
9    ``tree``              every extracted file, and that there are no others
10   ``silexium_step``     the Silexium proofs, or that the user waived them aloud
11   ``installed``         the receipt and the new floor, to be kept with the rename
==== ===================== ==========================================================================================

A step verifies and then changes the state, or raises with its number and leaves the state as it was. ``_FOLLOWS`` is
the only place that decides which step may come next. There is no IO, clock or network in here.

``attested`` is no step of its own: between steps 1 and 2 it takes the part of step 10 that is about documents alone
(checks 10.1 to 10.11), so that what they refuse is never downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from libreseed.errors import ContentRejected, LibreSeedError, ProofRejected, RecordRejected, UsageFault
from libreseed.ids import Blake3Digest, PublicKey, Sha256Digest
from libreseed.package.minimal import MinimalManifest, check_not_ahead, parse_minimal
from libreseed.repair.chunkmap import ChunkMap, parse_chunk_map
from libreseed.repair.plan import Verified, plan_repair
from libreseed.resolve.floors import Floor, check_floor, raise_floor
from libreseed.resolve.policy import Policy
from libreseed.resolve.proofs import (
    DOCUMENT_CHECKS,
    NOT_CHECKED,
    PROVEN,
    check_rows,
    proven_author,
    proven_facts,
    require_age,
    require_choice,
    unavailable,
)
from libreseed.resolve.receipt import Receipt
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis

if TYPE_CHECKING:
    from libreseed.package.manifest import FullManifest
    from libreseed.silexium.verification import ReleaseVerification

__all__ = ["ExtractedSource", "FoundRecord", "Resolution", "Trusted"]

# step -> the step that must have been completed last. Nothing else decides legality.
_FOLLOWS: Final[Mapping[int, int]] = {step: step - 1 for step in range(1, 12)}

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """What a lookup gave for a publisher: the bytes of the minimal manifest and the DHT item's sequence number.

    ``seq`` is None where the record did not come from a DHT item (the store's own copy). ``source`` is for the report.
    """

    publisher: PublicKey
    data: bytes
    seq: int | None
    source: str


@dataclass(frozen=True, slots=True)
class ExtractedSource:
    """What step 10 is told of the package itself: the .tgz (bytes, BLAKE3), SRC, every file's size and BLAKE3."""

    size: int
    blake3: Blake3Digest
    src: bytes
    sizes: Mapping[str, int]
    digests: Mapping[str, Blake3Digest]


@dataclass(frozen=True, slots=True)
class Trusted:
    """What has been verified so far; a field is None until its step is done."""

    basis: TrustBasis | None = None
    floors: Mapping[PublicKey, Floor] = field(default_factory=dict)
    proofs: ReleaseVerification | None = None  # checks 10.1 to 10.11 passed; None when they are waived
    found: FoundRecord | None = None
    minimal: MinimalManifest | None = None
    chunk_map: ChunkMap | None = None
    lacking: tuple[int, ...] = ()  # stripes that step 6 must decode
    manifest: FullManifest | None = None
    silexium: str = ""
    receipt: Receipt | None = None
    floor: Floor | None = None


def _step(
    number: int,
) -> Callable[[Callable[Concatenate[Resolution, P], Trusted]], Callable[Concatenate[Resolution, P], Trusted]]:
    """Make a method step ``number``: legal only in its turn, all or nothing, its errors marked with the number."""

    def wrap(method: Callable[Concatenate[Resolution, P], Trusted]) -> Callable[Concatenate[Resolution, P], Trusted]:
        @functools.wraps(method)
        def run(self: Resolution, /, *args: P.args, **kwargs: P.kwargs) -> Trusted:
            if self.completed != _FOLLOWS[number]:
                raise AssertionError(f"step {number} may not follow step {self.completed}")
            try:
                trusted = method(self, *args, **kwargs)
            except LibreSeedError as error:
                error.at_step(number)
                raise
            self._trusted, self._completed = trusted, number
            return trusted

        return run

    return wrap


class Resolution:
    """One resolve of ``request`` under ``policy``; call the steps in order."""

    def __init__(self, request: Request, policy: Policy) -> None:
        self.request = request
        self.policy = policy
        self._trusted = Trusted()
        self._completed = 0

    @property
    def completed(self) -> int:
        """The last completed step, 0 before the first."""
        return self._completed

    @property
    def trusted(self) -> Trusted:
        """What has been verified so far."""
        return self._trusted

    @property
    def minimal(self) -> MinimalManifest:
        """The minimal manifest; only after step 3."""
        return _known(self._trusted.minimal)

    @property
    def map(self) -> ChunkMap:
        """The chunk map; only after step 4."""
        return _known(self._trusted.chunk_map)

    @_step(1)
    def begin(self, basis: TrustBasis | None, floors: Mapping[PublicKey, Floor]) -> Trusted:
        """Note whom to believe for the name (None: nobody yet) and the floors of this release.

        Refuses at once what could only fail at the end: Silexium neither possible nor waived.
        """
        require_choice(self.request, self.policy)
        return replace(self._trusted, basis=basis, floors=dict(floors))

    def attested(self, proofs: ReleaseVerification, floors: Mapping[PublicKey, Floor]) -> Trusted:
        """After step 1, note that checks 10.1 to 10.11 have passed for this release, and that it is old enough.

        Where nobody else was to be believed for the name, the proven author now is (DESIGN 5, third rule); ``floors``
        are those of that key.
        """
        if self.completed != 1 or proofs.release != self.request.release or proofs.completed != DOCUMENT_CHECKS:
            raise AssertionError("proofs are taken after step 1, for this release, with checks 10.1 to 10.11 passed")
        require_age(proofs, self.policy)
        trusted = replace(self._trusted, proofs=proofs)
        if trusted.basis is None:
            author = proven_author(proofs, self.policy)
            mine = {author: floors[author]} if author in floors else {}
            trusted = replace(trusted, basis=TrustBasis((author,), "silexium"), floors=mine)
        self._trusted = trusted
        return trusted

    @_step(2)
    def record(self, found: FoundRecord) -> Trusted:
        """Accept a record only under a key that is believed for the name; says nothing about its content."""
        self._require_proofs_or_waiver()
        basis = self._trusted.basis
        if basis is None or found.publisher not in basis.keys:
            message = f"the record found is by {found.publisher}, who is not trusted for {self.request.release.name}"
            raise UsageFault("trust.other-publisher", message, evidence={"publisher": str(found.publisher)})
        return replace(self._trusted, found=found)

    @_step(3)
    def minimal_manifest(self, now_ms: int) -> Trusted:
        """Canonical bytes and both signatures; then this release, this publisher, this item; the clock; the floor."""
        found = _known(self._trusted.found)
        minimal = parse_minimal(found.data)
        if minimal.release != self.request.release:
            message = f"the record is of {minimal.release}, not of {self.request.release}"
            raise RecordRejected("minimal.other-release", message)
        if minimal.pubkey != found.publisher:
            message = f"the record names {minimal.pubkey}, but was found under {found.publisher}"
            raise RecordRejected("minimal.other-key", message)
        if found.seq is not None and found.seq != minimal.timestamp:
            message = f"the DHT item has seq {found.seq}, its manifest the timestamp {minimal.timestamp}"
            raise RecordRejected("minimal.other-seq", message)
        check_not_ahead(minimal, now_ms)
        check_floor(self._trusted.floors.get(minimal.pubkey), minimal.timestamp, found.data)
        if minimal.size > self.policy.max_package_bytes:
            message = f"the package has {minimal.size} bytes, the policy allows {self.policy.max_package_bytes}"
            raise RecordRejected("minimal.policy", message)
        return replace(self._trusted, minimal=minimal)

    @_step(4)
    def chunk_map(self, data: bytes, rows: int) -> Trusted:
        """The exact bytes that the manifest's ``chunks`` names, consistent with its size and its infohash.

        ``rows`` is the torrent's number of parity rows; the map must have as many.
        """
        minimal = self.minimal
        max_size = self.policy.max_package_bytes
        chunk_map = parse_chunk_map(data, expected=minimal.chunks, size=minimal.size, max_size=max_size)
        if chunk_map.tgz_sha256 != minimal.infohash:
            message = "the chunk map speaks of another .tgz than the minimal manifest"
            raise ContentRejected("chunkmap.infohash", message, evidence={"infohash": str(chunk_map.tgz_sha256)})
        if chunk_map.m != rows:
            raise ContentRejected("chunkmap.shape", f"{chunk_map.m} parity rows where the torrent has {rows}")
        return replace(self._trusted, chunk_map=chunk_map)

    @_step(5)
    def content(self, verified: Verified) -> Trusted:
        """Every stripe has enough verified parts; raises ``repair.beyond`` (31) naming those that have not."""
        self._check_shape(verified)
        plan = plan_repair(verified)
        plan.require_repairable()
        return replace(self._trusted, lacking=plan.decodable)

    @_step(6)
    def repaired(self, verified: Verified) -> Trusted:
        """Every data chunk is verified, those that were decoded included."""
        self._check_shape(verified)
        if not verified.complete:
            plan_repair(verified).require_repairable()
            message = f"{len(verified.missing_data())} chunks are not verified after the repair"
            raise ContentRejected("repair.beyond", message, evidence={"chunks": verified.missing_data()[:100]})
        return replace(self._trusted, lacking=())

    @_step(7)
    def archive(self, size: int, sha256: Sha256Digest) -> Trusted:
        """The .tgz as a whole is the one that the publisher signed."""
        minimal = self.minimal
        if size != minimal.size:
            raise ContentRejected("archive.size", f"the .tgz has {size} bytes, the manifest says {minimal.size}")
        if sha256 != minimal.infohash:
            evidence = {"expected": str(minimal.infohash), "actual": str(sha256)}
            raise ContentRejected("archive.infohash", "the .tgz is not the one that was signed", evidence=evidence)
        return self._trusted

    @_step(8)
    def full_manifest(self, manifest: FullManifest) -> Trusted:
        """The archive's manifest (a :class:`FullManifest` is verified by being one) agrees with the minimal one."""
        from libreseed.package.archive_check import check_same_release  # the archive's code is needed from here on

        check_same_release(manifest, self.minimal)
        return replace(self._trusted, manifest=manifest)

    @_step(9)
    def tree(self, files: int, size: int) -> Trusted:
        """The extraction judged every file; its tally (manifest.json included) must be the manifest's, too."""
        manifest = _known(self._trusted.manifest)
        expected = len(manifest.files) + 1, sum(manifest.sizes.values()) + len(manifest.data)
        if (files, size) != expected:
            message = f"{files} files of {size} bytes were extracted, the manifest says {expected[0]} of {expected[1]}"
            raise ContentRejected("archive.listing", message)
        return self._trusted

    @_step(10)
    def silexium_step(self, source: ExtractedSource | None = None) -> Trusted:
        """10.12 and 10.13, artifact and SRC; the rest has passed since ``attested``. Or the user's explicit waiver,
        which the result repeats aloud: then ``source`` is not looked at.
        """
        proofs = self._trusted.proofs
        if proofs is None:
            self._require_proofs_or_waiver()
            return replace(self._trusted, silexium=NOT_CHECKED)
        source = _known(source)
        try:
            proofs.artifact(source.size, source.blake3)
            proofs.src(source.src, source.sizes, source.digests)
        except ProofRejected as error:
            error.evidence = {**error.evidence, "checks": check_rows(proofs.checks)}
            raise
        return replace(self._trusted, silexium=PROVEN)

    @_step(11)
    def installed(self, path: str, now_ms: int) -> Trusted:
        """What to keep with the rename to ``path``: the receipt and the raised floor."""
        found, minimal, basis = _known(self._trusted.found), self.minimal, _known(self._trusted.basis)
        floor = raise_floor(
            self._trusted.floors.get(minimal.pubkey), minimal.release, minimal.pubkey, minimal.timestamp, found.data
        )
        proofs = self._trusted.proofs
        facts = {} if proofs is None else proven_facts(proofs)
        tree = _known(self._trusted.manifest).digest
        receipt = Receipt(minimal, path, now_ms, basis.why, self._trusted.silexium, facts, tree)
        return replace(self._trusted, receipt=receipt, floor=floor)

    def _require_proofs_or_waiver(self) -> None:
        require_choice(self.request, self.policy)
        if self._trusted.proofs is None and not self.request.without_silexium:
            raise unavailable("Silexium proofs are required, and there are none")

    def _check_shape(self, verified: Verified) -> None:
        if verified.grid != self.map.grid or verified.m != self.map.m:
            raise AssertionError("the flags belong to another chunk map")


def _known(value: T | None) -> T:
    if value is None:
        raise AssertionError("used before its step")
    return value
