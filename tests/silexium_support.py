"""A Silexium world in memory: keys, authorities, a regtest chain, a log, and releases that can be wrong in one way.

Whatever a test changes, everything that follows from it is made anew, so that exactly the changed thing is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from blake3 import blake3

from libreseed.ids import Blake3Digest, PackageName, ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.src_index import SrcLine, build_src
from libreseed.silexium.attestation import Attestation, AuthorClaim, Claim, ServerClaim, SuiteClaim
from libreseed.silexium.bitcoin_headers import REGTEST, HeaderChain, mine_header
from libreseed.silexium.bundle import Bundle, HeaderRun, InclusionProof, Stamps
from libreseed.silexium.keyring import ROLES, Keyring, Role, TrustedKey
from libreseed.silexium.log_entry import LogEntry, ProofHashes
from libreseed.silexium.log_memory import ConsistencyProof
from libreseed.silexium.log_proofs import consistency_proof, inclusion_proof
from libreseed.silexium.merkle import CompactRange, tree_root
from libreseed.silexium.ots import BitcoinAttestation, Step, write_ots
from libreseed.silexium.quorum import Quorum
from libreseed.silexium.release_manifest import Artifact, ReleaseManifest, SrcIndex
from libreseed.silexium.rfc3161 import TrustedTsa
from libreseed.silexium.stamps import TimePolicy
from libreseed.silexium.tree_head import Cosignature, NamedKey, SignedTreeHead, TreeHead
from libreseed.silexium.trust_policy import SilexiumPolicy, TrustedLog
from tests.tsa_support import Authority, Certified, certify, root_authority

CREATED = 1_790_000_000
STAMPED = CREATED + 60
BLOCK_TIME = CREATED + 3600
LOGGED = CREATED + 7200
NOW = CREATED + 10_000

RELEASE = ReleaseId.parse("hello@1.0.0")
TGZ = b"the .tgz of hello@1.0.0"
FILES = {"README": b"hello\n", "src/main.py": b"print('hello')\n"}
SIZES = {path: len(data) for path, data in FILES.items()}
DIGESTS = {path: Blake3Digest(blake3(data).digest()) for path, data in FILES.items()}
SRC = build_src(SrcLine(path, SIZES[path], DIGESTS[path]) for path in FILES)


def digest(data: bytes) -> Blake3Digest:
    return Blake3Digest(blake3(data).digest())


def private(number: int) -> PrivateKey:
    return PrivateKey(bytes([number]) * 32)


KEYS = {Role.AUTHOR: private(1), Role.TESTS: private(2), Role.SERVER: private(3)}
LOG_KEY = private(4)
LOG = NamedKey("log.example/silexium-b3", LOG_KEY.public)
WITNESS_KEYS = {f"witness{n}.example": private(10 + n) for n in range(3)}
WITNESSES = tuple(NamedKey(name, key.public) for name, key in WITNESS_KEYS.items())


@cache
def roots() -> tuple[Certified, ...]:
    return tuple(root_authority(f"root{n}") for n in range(3))


@cache
def authorities() -> tuple[Authority, ...]:
    return tuple(Authority(certify(f"tsa{n}", root)) for n, root in enumerate(roots()))


_STAMPS: dict[tuple[bytes, int | None, bytes, int], bytes] = {}


def stamp_of(authority: Authority, data: bytes, at: int) -> bytes:
    """A token; each is made once, because building ASN.1 in Python takes some 25 ms."""
    what = (authority.leaf.der, authority.accuracy, data, at)
    if what not in _STAMPS:
        _STAMPS[what] = authority.stamp(data, at)
    return _STAMPS[what]


def trusted_tsas(count: int = 1) -> tuple[TrustedTsa, ...]:
    return tuple(TrustedTsa(f"tsa{n}", root.der) for n, root in enumerate(roots()[:count]))


def keyring(**changes: object) -> Keyring:
    """The three keys; ``author={...}`` changes what the policy says about that one."""
    return Keyring(
        replace(TrustedKey(key.public, frozenset({role})), **changes.get(str(role), {}))  # type: ignore[arg-type]  # fields
        for role, key in KEYS.items()
    )


def policy(**changes: object) -> SilexiumPolicy:
    base = SilexiumPolicy(keyring(), (TrustedLog(LOG),), TimePolicy(trusted_tsas(), network=REGTEST))
    return replace(base, **changes)  # type: ignore[arg-type]  # fields by name


def time_policy(**changes: object) -> TimePolicy:
    return replace(TimePolicy(trusted_tsas(), network=REGTEST), **changes)  # type: ignore[arg-type]  # fields by name


def quorum(threshold: int) -> Quorum:
    return Quorum(threshold, WITNESSES)


class MemoryLog:
    """A log in memory with other releases' entries around ours."""

    def __init__(self, before: int = 10) -> None:
        self.hashes = [hashlib.sha256(b"entry %d" % n).digest() for n in range(before)]

    def append(self, *entry_hashes: bytes) -> None:
        self.hashes += entry_hashes

    def _read(self) -> Callable[[int, int], bytes]:
        nodes: dict[tuple[int, int], bytes] = {}
        CompactRange().extend(self.hashes, lambda level, index, node: nodes.__setitem__((level, index), node))
        return lambda level, index: nodes[level, index]

    def head(self, size: int | None = None, *, at: int = LOGGED, key: PrivateKey = LOG_KEY) -> SignedTreeHead:
        size = len(self.hashes) if size is None else size
        return SignedTreeHead.sign(TreeHead(LOG.name, size, Blake3Digest(tree_root(self.hashes[:size]))), at, key)

    def inclusion(self, index: int, size: int) -> InclusionProof:
        return InclusionProof(index, size, tuple(inclusion_proof(self._read(), index, size)))

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        return ConsistencyProof(old, new, tuple(consistency_proof(self._read(), old, new)))


def manifest(
    release: ReleaseId = RELEASE,
    *,
    channel: str = "stable",
    artifacts: Sequence[Artifact] = (),
    src: bytes = SRC,
    tgz: bytes = TGZ,
) -> ReleaseManifest:
    source = Artifact("source", len(tgz), digest(tgz), f"libreseed:{release}")
    return ReleaseManifest.build(
        release,
        channel=channel,
        license_text="MIT",
        created_at=CREATED,
        artifacts=[source, *artifacts],
        src_index=SrcIndex(len(src), digest(src)),
    )


@dataclass
class Draft:
    """A release in the making: replace a field to break one thing, then call :meth:`bundle`."""

    manifest: ReleaseManifest = field(default_factory=manifest)
    claims: dict[Role, Callable[[Claim], Claim]] = field(default_factory=dict)
    keys: dict[Role, PrivateKey] = field(default_factory=lambda: dict(KEYS))
    created: dict[Role, int] = field(default_factory=dict)
    attested: dict[Role, Callable[[bytes], bytes]] = field(default_factory=dict)
    stampers: Sequence[Authority] = field(default_factory=lambda: authorities()[:1])
    stamped: int = STAMPED
    tokens: Callable[[Role, list[bytes]], list[bytes]] = lambda _, tokens: tokens
    block_time: int = BLOCK_TIME
    proofs: Callable[[Role, list[bytes]], list[bytes]] = lambda _, proofs: proofs
    entry: Callable[[LogEntry], LogEntry] = lambda entry: entry
    log: MemoryLog = field(default_factory=MemoryLog)
    logged: int = LOGGED
    witnesses: int = 0
    chain: HeaderChain = field(init=False)
    index: int = field(init=False)
    logged_entry: LogEntry = field(init=False)

    def attestations(self) -> list[bytes]:
        """The three, each about those before it."""
        author = AuthorClaim(
            self.manifest.digest,
            self.manifest.src_index.blake3,
            self.manifest.source.blake3,
            self.manifest.package,
            self.manifest.version,
            self.manifest.license,
        )
        first = self._sign(Role.AUTHOR, author)
        second = self._sign(Role.TESTS, SuiteClaim(digest(first), self.manifest.digest, "suite", True))
        artifacts = tuple(artifact.blake3 for artifact in self.manifest.artifacts)
        third = ServerClaim(digest(first), digest(second), self.manifest.digest, artifacts)
        return [first, second, self._sign(Role.SERVER, third)]

    def bundle(self) -> Bundle:
        attestations = self.attestations()
        stamps = self._stamps(attestations)
        hashes = tuple(
            ProofHashes(
                role, tuple(map(digest, stamp.tsa)) or (digest(b""),), tuple(map(digest, stamp.ots)) or (digest(b""),)
            )
            for role, stamp in zip(ROLES, stamps, strict=True)
        )
        digests = tuple(map(digest, attestations))
        self.logged_entry = self.entry(LogEntry.build(self.manifest.release, self.manifest.digest, digests, hashes))
        self.index = len(self.log.hashes)
        self.log.append(self.logged_entry.digest.raw, *(hashlib.sha256(b"later %d" % n).digest() for n in range(5)))
        head = self.log.head(at=self.logged)
        cosigned = [
            str(Cosignature.sign(head.head, name, self.logged + 5, key).line)
            for name, key in list(WITNESS_KEYS.items())[: self.witnesses]
        ]
        return Bundle(
            self.manifest.data,
            tuple(attestations),
            tuple(stamps),
            self.logged_entry.data,
            self.log.inclusion(self.index, head.size),
            head.members(),
            tuple(cosigned),
            HeaderRun(0, self.chain.data),
        )

    def _sign(self, role: Role, claim: Claim) -> bytes:
        claim = self.claims.get(role, lambda claim: claim)(claim)
        data = Attestation.build(claim, self.created.get(role, CREATED), self.keys[role]).data
        return self.attested.get(role, lambda data: data)(data)

    def _stamps(self, attestations: list[bytes]) -> list[Stamps]:
        proofs = self._anchor(attestations)
        stamps = []
        for role, data, proof in zip(ROLES, attestations, proofs, strict=True):
            tokens = [stamp_of(authority, data, self.stamped) for authority in self.stampers]
            stamps.append(Stamps(tuple(self.tokens(role, tokens)), tuple(self.proofs(role, [proof]))))
        return stamps

    def _anchor(self, attestations: list[bytes]) -> list[bytes]:
        """One regtest block over all three attestations, and each one's way to its root."""
        a, b, c = (hashlib.sha256(data).digest() for data in attestations)
        ab = hashlib.sha256(a + b).digest()
        root = hashlib.sha256(ab + c).digest()
        self.chain = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=NOW)
        self.chain.extend(mine_header(self.chain, root, self.block_time), now=self.block_time)
        hash_step: Step = ("sha256", b"")
        end = BitcoinAttestation(root, 1)
        return [
            write_ots(a, [("append", b), hash_step, ("append", c), hash_step], end),
            write_ots(b, [("prepend", a), hash_step, ("append", c), hash_step], end),
            write_ots(c, [("prepend", ab), hash_step], end),
        ]


OTHER_PACKAGE = PackageName("other")
