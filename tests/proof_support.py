"""A release whose content is complete in a store, so that nothing but its Silexium proofs decides whether it installs.

The resolver runs as it is, offline: what an earlier run fetched is judged anew, proofs come from a bundle file or from
folders in the static layout of a log. ``Draft`` (tests/silexium_support) makes proofs that are wrong in one way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from libreseed.adapters.command.console import Progress
from libreseed.adapters.packing.archive_peek import peek_manifest, peek_src
from libreseed.adapters.resolving.installed import uninstall
from libreseed.adapters.resolving.store import Store
from libreseed.adapters.silexium.proofs.trust_memory import Remembered, TrustMemory
from libreseed.ids import ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.silexium.bundle import Bundle
from libreseed.silexium.keyring import Role
from libreseed.silexium.log_memory import LogMemory
from libreseed.silexium.release_manifest import ReleaseManifest
from libreseed.silexium.tiles import tiles_of_log
from libreseed.silexium.tree_head import Checkpoint
from libreseed.silexium.trust_policy import SilexiumPolicy
from services.resolver.flow import Options, resolve
from services.resolver.outcome import Outcome
from services.resolver.proofs import ProofOptions
from tests.resolver_support import KEY, Sample
from tests.silexium_support import KEYS, LOG, LOGGED, NOW, Draft, MemoryLog, digest, manifest, policy, roots

AUTHOR_IS_PACKAGER = {**KEYS, Role.AUTHOR: KEY}


def release_manifest(sample: Sample, **changes: object) -> ReleaseManifest:
    """The Silexium manifest of a real release."""
    tgz = sample.files.tgz
    facts: dict[str, object] = {"tgz": tgz.read_bytes()}
    if "src" not in changes:
        facts["src"] = peek_src(tgz, peek_manifest(tgz))
    return manifest(sample.minimal.release, **(facts | changes))  # type: ignore[arg-type]  # fields by name


def draft(sample: Sample, **changes: object) -> Draft:
    """Good proofs of ``sample`` in a log of 16 entries; ``changes`` are fields of :class:`Draft`."""
    facts: dict[str, object] = {"manifest": release_manifest(sample)}
    return Draft(**(facts | changes))  # type: ignore[arg-type]  # fields by name


def put_content(sample: Sample, store: Path) -> None:
    """Leave in ``store`` what a run leaves that fetched everything and was stopped before step 7."""
    opened = Store(store)
    opened.open()
    space = opened.workspace(sample.minimal.release, sample.minimal.torrent)
    space.record.write_bytes(sample.minimal.data)
    space.info.write_bytes(sample.metainfo.info)
    for suffix in (".tgz", ".chunks", ".parity"):
        shutil.copyfile(sample.files.path(suffix), space.swarm / f"{sample.minimal.release}{suffix}")


def export(log: MemoryLog, folder: Path, bundle: Bundle | None = None, *, size: int | None = None) -> Path:
    """``log`` (its first ``size`` entries) as static files, and a bundle beside it."""
    size = len(log.hashes) if size is None else size
    nodes = log._read()
    for tile in tiles_of_log(size):
        path = folder / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        start = tile.index * 256
        path.write_bytes(b"".join(nodes(8 * tile.level, start + n) for n in range(tile.width)))
    (folder / "checkpoint").write_bytes(Checkpoint(log.head(size)).data)
    if bundle is not None:
        put_bundle(bundle, folder)
    return folder


def put_bundle(bundle: Bundle, folder: Path, release: str = "sample@1.0.0") -> Path:
    """A source that has nothing but this bundle."""
    path = folder / "bundle" / release
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bundle.data)
    return folder


LONG_AGO = 1_700_000_000  # for commands, which have this machine's clock


def settled_draft(sample: Sample, **changes: object) -> Draft:
    """Proofs that were good years ago and still are."""
    times: dict[str, object] = {
        "created": dict.fromkeys(Role, LONG_AGO),
        "stamped": LONG_AGO + 60,
        "block_time": LONG_AGO + 3600,
        "logged": LONG_AGO + 7200,
    }
    return draft(sample, **(times | changes))


def write_policy(path: Path, *, author: PrivateKey = KEYS[Role.AUTHOR], **more: object) -> Path:
    """The policy of ``silexium_support`` as a file; ``more`` are members of its ``[silexium]`` table."""
    keys = {**KEYS, Role.AUTHOR: author}
    table: dict[str, object] = {
        "keys": [{"key": str(key.public), "roles": [str(role)]} for role, key in keys.items()],
        "logs": [{"origin": LOG.name, "key": str(LOG.key)}],
        "time": {"network": "regtest", "tsas": [{"name": "tsa0", "root": roots()[0].pem.decode()}]},
    }
    path.write_text(json.dumps({"patience-seconds": 2, "silexium": table | more}))
    return path


@dataclass
class Desk:
    """A store with the content of ``sample``, a policy, and resolves that only the proofs can stop."""

    sample: Sample
    base: Path
    policy: SilexiumPolicy = field(default_factory=policy)
    now: int = NOW

    def __post_init__(self) -> None:
        self.store.mkdir(parents=True, exist_ok=True)
        put_content(self.sample, self.store)

    @property
    def store(self) -> Path:
        return self.base / "store"

    @property
    def memory(self) -> TrustMemory:
        return TrustMemory(self.store)

    def recall(self) -> Remembered:
        return self.memory.recall(LOG, self.sample.minimal.release)

    def remember(self, log: MemoryLog, size: int | None = None, *, at: int = LOGGED) -> None:
        """As if this head had been accepted before, with another release."""
        other = ReleaseId.parse("other@1.0.0")
        known = self.memory.recall(LOG, other)
        assert self.memory.keep(known, LogMemory(log.head(size, at=at)), other, digest(b"other"))

    async def resolve(
        self,
        bundle: Bundle | bytes | None = None,
        sources: Iterable[Path | str] = (),
        *,
        pinned: bool = True,
        **changes: object,
    ) -> Outcome:
        """Resolve offline with these proofs; ``changes`` are fields of :class:`Options` or of :class:`Request`."""
        path = None
        if bundle is not None:
            path = self.base / "given.silexium.json"
            path.write_bytes(bundle if isinstance(bundle, bytes) else bundle.data)
        request = Request(
            self.sample.minimal.release, publisher=self.sample.minimal.pubkey if pinned else None, offline=True
        )
        options = Options(
            request=request,
            policy=Policy(silexium=self.policy),
            store=self.store,
            timeout=60.0,
            proofs=ProofOptions(path, tuple(map(str, sources)), now=lambda: self.now),
        )
        with Progress(quiet=True) as progress:
            return await resolve(replace(options, **changes), progress)  # type: ignore[arg-type]  # fields by name

    def uninstall(self, outcome: Outcome) -> None:
        """Remove the release, as ``libreseed uninstall`` does, and fetch its content anew."""
        uninstall(Store(self.store), outcome.minimal.release)
        put_content(self.sample, self.store)

    def installed(self) -> list[str]:
        """What a refused release must not leave: trees, hidden leftovers of one, receipts."""
        return [str(path) for name in ("packages", "receipts") for path in (self.store / name).rglob("*")]
