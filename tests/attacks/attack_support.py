"""What the attacks share: a DHT that says what it likes, and a resolve that got as far as an archive made by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.resolving.store import Store
from libreseed.dht.items import SignedItem
from libreseed.ids import PackageName, PublicKey, ReleaseId, Sha256Digest
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.plan import Verified
from libreseed.resolve.engine import FoundRecord, Resolution
from libreseed.resolve.floors import Floor
from libreseed.resolve.policy import Policy
from libreseed.resolve.receipt import Receipt
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis
from services.resolver.flow import Options, resolve
from services.resolver.install import install
from services.resolver.job import Job
from services.resolver.outcome import Outcome, Steps
from tests.archive_forge import KEY, Forge
from tests.repair_support import Package, make_package

RELEASE = ReleaseId.parse("pkg@1.0.0")


@dataclass
class LyingDht:
    """Answers every get with ``item`` and every search by name with ``named``, whatever was asked for."""

    item: SignedItem | None = None
    named: Sequence[SignedItem] = ()
    asked: list[bytes] = field(default_factory=list)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def get_item(self, pubkey: PublicKey, salt: bytes) -> SignedItem | None:
        self.asked.append(salt)
        return self.item

    async def find_records(self, name: PackageName) -> Sequence[SignedItem]:
        return self.named

    async def iter_peers(self, info_hash: bytes) -> AsyncIterator[tuple[str, int]]:
        for nobody in ():
            yield nobody


async def ask(dht: LyingDht, store: Path, publisher: PublicKey | None, *, out: Path | None = None) -> Outcome:
    """Resolve ``pkg@1.0.0`` with nothing but ``dht`` to go by."""
    options = Options(
        request=Request(RELEASE, publisher=publisher, without_silexium=True),
        policy=Policy(patience_s=1),
        store=store,
        out=out,
        timeout=20.0,
        make_dht=lambda *_: dht,
    )
    with Progress(quiet=True) as progress:
        return await resolve(options, progress)


@dataclass
class Arrived:
    """A .tgz that came through steps 1 to 6: its publisher, who is trusted, signed all that leads to it."""

    package: Package
    minimal: MinimalManifest
    store: Store
    final: Path

    @property
    def resolution(self) -> Resolution:
        chunk_map = self.package.chunk_map
        machine = Resolution(Request(RELEASE, without_silexium=True), Policy())
        machine.begin(TrustBasis((KEY.public,), "pin"), self.store.floors(RELEASE, (KEY.public,)))
        machine.record(FoundRecord(KEY.public, self.minimal.data, self.minimal.timestamp, "test"))
        machine.minimal_manifest(self.minimal.timestamp)
        machine.chunk_map(chunk_map.data, chunk_map.m)
        verified = Verified(chunk_map.grid, chunk_map.m, b"\1" * chunk_map.grid.n)
        machine.content(verified)
        machine.repaired(verified)
        return machine

    async def install(self, *, present: bool = False) -> Receipt:
        """Steps 7 to 11, as the resolver takes them; ``present`` if the tree is there."""
        with Progress(quiet=True) as progress:
            space = self.store.workspace(RELEASE, self.minimal.torrent)
            job = Job(self.resolution, self.store, space, Steps(), progress)
            now = partial(int, self.minimal.timestamp)
            take = partial(install, job, self.package.tgz, self.digest, self.final, now, present=present)
            return await trio.to_thread.run_sync(take)

    @property
    def digest(self) -> Sha256Digest:
        return self.package.chunk_map.tgz_sha256

    @property
    def floor(self) -> Floor | None:
        return self.store.floors(RELEASE, (KEY.public,)).get(KEY.public)


def arrive(root: Path, tgz: bytes, forge: Forge) -> Arrived:
    """Sign ``tgz`` as the forge's publisher would, with a true chunk map, and lay it where the download would be."""
    (root / "download").mkdir(parents=True, exist_ok=True)
    package = make_package(root / "download", tgz)
    minimal = forge.minimal(tgz, chunks=package.chunk_map.digest, torrent=package.made.metainfo.v2)
    store = Store(root / "store")
    store.open()
    return Arrived(package, minimal, store, store.packages / str(RELEASE))
