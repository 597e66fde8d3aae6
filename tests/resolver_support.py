"""A release, a DHT and a swarm on loopback for the resolver's tests; every part is the real one."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from blake3 import blake3

from libreseed.adapters.chunks.repair_files import hash_pieces, make_repair_files
from libreseed.adapters.command.console import Progress
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.adapters.files.watcher import Nobody
from libreseed.adapters.release.release_build import ReleasePlan, build_release, collect_tree
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.dht.items import SignedItem
from libreseed.dht.records import build_dht_record, parse_dht_record
from libreseed.errors import LibreSeedError, TransportFault
from libreseed.ids import Blake3Digest, ReleaseId, Sha256Digest
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.minimal import MinimalManifest, parse_minimal
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.torrent.bitfield import pack_bitfield
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import Metainfo, build_metainfo, parse_metainfo
from services.resolver.flow import Options, resolve
from services.resolver.outcome import Outcome

RELEASE = ReleaseId.parse("sample@1.0.0")
KEY = PrivateKey(b"\x07" * 32)
_HOSTS = itertools.count(1)


@dataclass(frozen=True)
class Sample:
    """A built release with the tree that it was made from."""

    tree: Path
    files: ReleaseFiles
    minimal: MinimalManifest
    metainfo: Metainfo

    @property
    def layout(self) -> TorrentLayout:
        return self.metainfo.layout

    @property
    def item(self) -> SignedItem:
        return parse_dht_record(self.files.path(".dht.json").read_bytes(), self.minimal)


def own_address() -> str:
    """Another 127.0.x.y for every node of this test process."""
    high, low = divmod(next(_HOSTS), 250)
    return f"127.0.{high}.{2 + low}"


def make_tree(root: Path, size: int, seed: int = 1) -> Path:
    """Random bytes in a few files and folders; one of them executable."""
    draw = random.Random(seed)
    (root / "bin").mkdir(parents=True)
    (root / "data" / "deep").mkdir(parents=True)
    (root / "bin" / "run").write_bytes(b"#!/bin/sh\nexit 0\n")
    (root / "bin" / "run").chmod(0o755)
    (root / "data" / "empty").write_bytes(b"")
    for number in range(4):
        (root / "data" / "deep" / f"file-{number}").write_bytes(draw.randbytes(size // 4))
    return root


def make_sample(parent: Path, size: int = 600_000, *, release: ReleaseId = RELEASE, timestamp: int = 1000) -> Sample:
    """Build ``release`` of about ``size`` bytes below ``parent``."""
    tree = make_tree(parent / "tree", size)
    folder = parent / "out" / str(release)
    folder.mkdir(parents=True)
    build_release(collect_tree(tree, Nobody()), ReleasePlan(release, timestamp), KEY, folder, Nobody())
    files = ReleaseFiles.of_release(folder, release)
    minimal = parse_minimal(files.path(".minimal.json").read_bytes())
    return Sample(tree, files, minimal, parse_metainfo(files.path(".torrent").read_bytes(), release, minimal))


def forge_sample(
    folder: Path,
    tgz: bytes,
    *,
    key: PrivateKey = KEY,
    release: ReleaseId = RELEASE,
    timestamp: int = 1000,
    sha256: Sha256Digest | None = None,
    **lies: object,
) -> Sample:
    """A release around any .tgz: chunk map, parity and torrent are made for it, and ``key`` signs whatever it is told.

    ``sha256`` is what the chunk map and the manifest claim of the .tgz; ``lies`` replace members of the manifest alone.
    """
    folder.mkdir(parents=True)
    files = ReleaseFiles.of_release(folder, release)
    files.tgz.write_bytes(tgz)
    made = make_repair_files(release, files.tgz)
    chunk_map = made.chunk_map
    if sha256 is not None:
        files.path(".chunks").write_bytes(chunk_map.data[:32] + sha256.raw + chunk_map.data[64:])
    chunks = files.path(".chunks").read_bytes()
    pieces = [
        hash_pieces(files.path(suffix), made.metainfo.layout.piece_bytes) for suffix in (".chunks", ".parity", ".tgz")
    ]
    metainfo = build_metainfo(made.metainfo.layout, *pieces)
    facts: dict[str, object] = {
        "infohash": sha256 or chunk_map.tgz_sha256,
        "size": len(tgz),
        "chunks": Blake3Digest(blake3(chunks).digest()),
        "torrent": metainfo.v2,
        "timestamp": timestamp,
    }
    minimal = MinimalManifest.build(name=release.name, version=release.version, key=key, **(facts | lies))  # type: ignore[arg-type]
    files.path(".torrent").write_bytes(metainfo.data)
    files.path(".minimal.json").write_bytes(minimal.data)
    files.path(".dht.json").write_bytes(build_dht_record(minimal, key))
    return Sample(folder, files, minimal, metainfo)


def assert_installed(sample: Sample, path: str | Path) -> None:
    """The tree at ``path`` is the sample's, byte for byte and mode for mode, plus manifest.json and SRC."""
    installed = {str(file.relative_to(path)): file for file in Path(path).rglob("*") if file.is_file()}
    source = {str(file.relative_to(sample.tree)): file for file in sample.tree.rglob("*") if file.is_file()}
    assert installed.keys() == source.keys() | {"manifest.json", "SRC"}
    for name, file in source.items():
        assert installed[name].read_bytes() == file.read_bytes()
        assert installed[name].stat().st_mode & 0o777 == (0o755 if os.access(file, os.X_OK) else 0o644)


def leftovers(store: Path) -> list[str]:
    """Everything in the store that an unsuccessful resolve must not leave: trees, staging, floors, receipts."""
    return [
        str(path.relative_to(store))
        for name in ("packages", "staging", "floors", "receipts")
        for path in (store / name).rglob("*")
    ]


@dataclass
class Seeder:
    """One seeding session."""

    session: TorrentSession
    torrent: Torrent
    folder: Path
    host: str

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.session.port)


@dataclass
class Scene:
    """A DHT node and seeders that live in one nursery."""

    sample: Sample
    base: Path
    nursery: trio.Nursery
    hub: DhtNode
    seeders: list[Seeder] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.base / "store"

    @property
    def bootstrap(self) -> tuple[Endpoint, ...]:
        return (Endpoint(*self.hub.addresses[0][:2]),)

    async def publish(self) -> None:
        """Put the record into the DHT."""
        with contextlib.suppress(TransportFault):  # no other node is there to take it; the hub holds it itself
            await self.hub.put_item(self.sample.item)

    async def seed(
        self,
        *,
        pieces: Iterable[int] | None = None,
        damage: Callable[[Path], None] | None = None,
        announce: bool = False,
    ) -> Seeder:
        """Start a seeder with a copy of the files; with only ``pieces``, or with files damaged behind its back."""
        host = own_address()
        folder = self.base / f"seed-{host}"
        shutil.copytree(self.sample.files.folder, folder)
        if damage is not None:
            damage(folder / f"{self.sample.minimal.release}.tgz")
        session = TorrentSession(SessionOptions(listen=((host, 0),)))
        await self.nursery.start(session.run)
        have = None
        if pieces is not None:
            chosen = set(pieces)
            have = pack_bitfield(piece in chosen for piece in range(self.sample.layout.piece_count))
        torrent = session.seed(self.sample.metainfo.data, folder, have)
        seeder = Seeder(session, torrent, folder, host)
        self.seeders.append(seeder)
        if announce:
            node = DhtNode(
                DhtOptions(listen=((host, 0),), bootstrap=((self.bootstrap[0].host, self.bootstrap[0].port),))
            )
            await self.nursery.start(node.run)
            await node.announce_peer(self.sample.minimal.torrent.truncated, session.port)
        return seeder

    def options(self, **changes: object) -> Options:
        """Options of a resolve that trusts the sample's publisher and knows all seeders directly."""
        release, publisher = self.sample.minimal.release, self.sample.minimal.pubkey
        request = Request(release, publisher=publisher, without_silexium="proofs" not in changes)
        values: dict[str, object] = {
            "request": request,
            "policy": HASTY,
            "store": self.store,
            "bootstrap": self.bootstrap,
            "peers": tuple(seeder.endpoint for seeder in self.seeders),
            "listen": (Endpoint(own_address(), 0),),
            "timeout": 60.0,
        }
        return Options(**(values | changes))

    async def resolve(self, **changes: object) -> Outcome:
        with Progress(quiet=True) as progress:
            return await resolve(self.options(**changes), progress)


HASTY = Policy(patience_s=2, peer_silence_s=2)  # for what fails at once, or is at hand
PATIENT = Policy(patience_s=15, peer_silence_s=4)  # for what a busy machine may need several attempts for


@asynccontextmanager
async def scene(tmp_path: Path, sample: Sample, *, publish: bool = True) -> AsyncIterator[Scene]:
    """A scene with a DHT of one node that holds the sample's record."""
    host = own_address()
    hub = DhtNode(DhtOptions(listen=((host, 0),)))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        it = Scene(sample, tmp_path, nursery, hub)
        if publish:
            await it.publish()
        yield it
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def rejects(reason: str, *, step: int | None = None) -> Iterator[list[LibreSeedError]]:
    """The block must fail with exactly this reason (and step), however many nurseries wrap it."""
    caught: list[LibreSeedError] = []
    try:
        yield caught
    except BaseException as error:  # noqa: BLE001  # undeclared ones are raised again
        caught += _declared(error)
    assert [error.reason for error in caught] == [reason], caught
    assert step is None or caught[0].step == step


def _declared(error: BaseException) -> list[LibreSeedError]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _declared(inner)]
    if not isinstance(error, LibreSeedError):
        raise error
    return [error]
