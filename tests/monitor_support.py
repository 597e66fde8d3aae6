"""Logs of real entries, and who watches them: releases of packages, with the bundles that show who signed them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libreseed.adapters.silexium.log.log_export import export_log
from libreseed.adapters.silexium.watching.log_monitor import LogMonitor, Monitored
from libreseed.errors import LibreSeedError
from libreseed.ids import PackageName, PublicKey, ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.attestation import Attestation, AuthorClaim
from libreseed.silexium.bundle import Bundle, InclusionProof, Stamps
from libreseed.silexium.entry_watch import Finding, Watch
from libreseed.silexium.keyring import ROLES, Role
from libreseed.silexium.log_entry import LogEntry, ProofHashes
from libreseed.silexium.release_manifest import ReleaseManifest
from libreseed.silexium.trust_policy import TrustedLog
from tests.log_support import START, Source, open_log
from tests.silexium_support import CREATED, KEYS, LOG, LOG_KEY, digest, manifest

NOW = START + 100_000
AUTHOR = KEYS[Role.AUTHOR]
HELLO = PackageName("hello")
_SECOND = itertools.count(CREATED)


@dataclass(frozen=True)
class Logged:
    """What is logged of one release: its manifest, its entry, and the bundle that goes with it."""

    manifest: ReleaseManifest
    entry: LogEntry
    bundle: bytes


def logged(release: str, key: PrivateKey = AUTHOR, *, content: bytes = b"") -> Logged:
    """A release that ``key`` has attested as its author, at a second of its own."""
    made = manifest(ReleaseId.parse(release), tgz=content or release.encode())
    claim = AuthorClaim(
        made.digest, made.src_index.blake3, made.source.blake3, made.package, made.version, made.license
    )
    attested = Attestation.build(claim, next(_SECOND), key).data
    stamp = (digest(b"stamp"),)
    proofs = tuple(ProofHashes(role, stamp, stamp) for role in ROLES)
    entry = LogEntry.build(made.release, made.digest, (digest(attested),) * 3, proofs)
    nothing = Stamps((), ())
    bundle = Bundle(made.data, (attested,) * 3, (nothing,) * 3, entry.data, InclusionProof(0, 1, ()), {})
    return Logged(made, entry, bundle.data)


def others(count: int) -> list[bytes]:
    """Entries of other people's packages."""
    stamp, one = (digest(b"stamp"),), digest(b"one")
    proofs = tuple(ProofHashes(role, stamp, stamp) for role in ROLES)
    return [LogEntry.build(ReleaseId.parse(f"other{n}@1.0.0"), one, (one,) * 3, proofs).data for n in range(count)]


class PublicLog:
    """A log in ``root`` with its exported folder; ``bundles`` says whether its server shows those."""

    def __init__(self, root: Path, *, bundles: bool = True) -> None:
        self.folder = root / "log"
        self._database = root / "log.db"
        self._bundles = bundles

    def add(self, *items: Logged | bytes) -> PublicLog:
        """Log, sign and export."""
        with open_log(self._database) as store:
            store.append([item if isinstance(item, bytes) else item.entry.data for item in items])
            store.sign_head(LOG_KEY, START + store.size)
            export_log(store, self.folder)
        for item in items:
            if isinstance(item, Logged) and self._bundles:
                path = self.folder / "bundle" / str(item.entry.release)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(item.bundle)
        return self

    @property
    def source(self) -> Source:
        """A new way to it, which a test may make lie."""
        return Source(self.folder)


def watch(*known: Logged, authors: Sequence[PublicKey] = (), packages: Sequence[str] = ("hello",)) -> Watch:
    """Of ``hello``, with the manifests of ``known``."""
    manifests = {item.manifest.digest: item.manifest.release for item in known}
    return Watch(frozenset(map(PackageName, packages)), manifests, tuple(authors))


@dataclass
class Watcher:
    """Somebody who watches, with the file ``path``; ``told`` is all that he was ever told, and whether again."""

    path: Path
    told: list[tuple[Finding, bool]] = field(default_factory=list)

    def look(self, source: Source, what: Watch, now: int = NOW) -> Monitored:
        return LogMonitor(self.path, TrustedLog(LOG), what).update(source, now, lambda *told: self.told.append(told))

    def refused(self, source: Source, what: Watch, now: int = NOW) -> LibreSeedError:
        """The refusal, which left the file as it was and told nothing."""
        before, told = self.state(), len(self.told)
        try:
            self.look(source, what, now)
        except LibreSeedError as error:
            assert self.state() == before and len(self.told) == told
            return error
        raise AssertionError("it was not refused")

    def state(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    @property
    def indices(self) -> list[int]:
        """The entries told, those told again left out."""
        return [finding.index for finding, again in self.told if not again]
