"""The eleven steps: legal order only, each broken exactly once, its reason and number, and the state as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from libreseed.errors import LibreSeedError
from libreseed.ids import Blake3Digest, PublicKey, ReleaseId, Sha256Digest, TorrentV2Hash
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.manifest import FullManifest
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.plan import Verified
from libreseed.resolve.engine import FoundRecord, Resolution
from libreseed.resolve.floors import Floor, raise_floor
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis
from tests.repair_support import Package, content, make_package

KEY, OTHER = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
RELEASE = ReleaseId.parse("pkg@1.0.0")
NOW_MS = 10_000


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(tmp_path_factory.mktemp("package"), content("engine", 60_000))


class Story:
    """The inputs of a good resolve; each test spoils one of them."""

    def __init__(self, package: Package) -> None:
        chunk_map = package.chunk_map
        self.map_bytes = chunk_map.data
        self.rows = chunk_map.m
        self.minimal = self.signed(chunk_map.tgz_sha256, chunk_map.grid.size, chunk_map.digest)
        self.request = Request(RELEASE, without_silexium=True)
        self.policy = Policy()
        self.basis: TrustBasis | None = TrustBasis((KEY.public,), "pin")
        self.floors: dict[PublicKey, Floor] = {}
        self.found = FoundRecord(KEY.public, self.minimal.data, NOW_MS, "dht")
        self.now_ms = NOW_MS
        self.before_repair = Verified(chunk_map.grid, chunk_map.m)
        self.before_repair.data[:] = b"\1" * chunk_map.grid.n
        self.before_repair.data[3] = 0
        self.before_repair.parity[0] = 1
        self.after_repair = Verified(chunk_map.grid, chunk_map.m, b"\1" * chunk_map.grid.n)
        self.archive = (chunk_map.grid.size, chunk_map.tgz_sha256)
        self.manifest = full_manifest()
        self.tally = (len(self.manifest.files) + 1, sum(self.manifest.sizes.values()) + len(self.manifest.data))

    def signed(
        self,
        infohash: Sha256Digest,
        size: int,
        chunks: Blake3Digest,
        *,
        key: PrivateKey = KEY,
        release: ReleaseId = RELEASE,
        timestamp: int = NOW_MS,
    ) -> MinimalManifest:
        return MinimalManifest.build(
            name=release.name,
            version=release.version,
            infohash=infohash,
            size=size,
            chunks=chunks,
            torrent=TorrentV2Hash(b"\x07" * 32),
            timestamp=timestamp,
            key=key,
        )

    def resigned(self, **changes: object) -> None:
        """The publisher signs another minimal manifest."""
        known = self.minimal
        facts: dict[str, object] = {"infohash": known.infohash, "size": known.size, "chunks": known.chunks}
        made = self.signed(**(facts | changes))  # type: ignore[arg-type]  # tests name real parameters
        self.found = replace(self.found, data=made.data, seq=made.timestamp)

    def take(self, machine: Resolution, step: int) -> None:
        calls: dict[int, Callable[[], object]] = {
            1: lambda: machine.begin(self.basis, self.floors),
            2: lambda: machine.record(self.found),
            3: lambda: machine.minimal_manifest(self.now_ms),
            4: lambda: machine.chunk_map(self.map_bytes, self.rows),
            5: lambda: machine.content(self.before_repair),
            6: lambda: machine.repaired(self.after_repair),
            7: lambda: machine.archive(*self.archive),
            8: lambda: machine.full_manifest(self.manifest),
            9: lambda: machine.tree(*self.tally),
            10: machine.silexium_step,
            11: lambda: machine.installed("/store/pkg@1.0.0", NOW_MS),
        }
        calls[step]()

    def upto(self, step: int) -> Resolution:
        machine = Resolution(self.request, self.policy)
        for number in range(1, step + 1):
            self.take(machine, number)
        return machine


def full_manifest(
    *, key: PrivateKey = KEY, release: ReleaseId = RELEASE, timestamp: int = NOW_MS, more: int = 0
) -> FullManifest:
    files = {"SRC": Sha256Digest(b"\x01" * 32), "a": Sha256Digest(bytes([more]) * 32)}
    return FullManifest.build(
        name=release.name,
        version=release.version,
        files=files,
        sizes={"SRC": 10, "a": 20},
        executables=(),
        timestamp=timestamp,
        key=key,
    )


@pytest.fixture
def story(package: Package) -> Story:
    return Story(package)


def test_all_steps_in_order(story: Story) -> None:
    machine = story.upto(11)
    trusted = machine.trusted
    assert trusted.receipt is not None
    assert trusted.receipt.silexium == "not checked"
    assert trusted.receipt.trust == "pin"
    assert trusted.floor is not None
    assert trusted.floor.timestamp == NOW_MS


def test_no_step_can_be_skipped_repeated_or_taken_early(story: Story) -> None:
    for done in range(12):
        for step in range(1, 12):
            if step != done + 1:
                machine = story.upto(done)
                before = machine.trusted
                with pytest.raises(AssertionError):
                    story.take(machine, step)
                assert (machine.completed, machine.trusted) == (done, before)


def _other_floor(story: Story) -> None:
    story.floors = {KEY.public: raise_floor(None, RELEASE, KEY.public, NOW_MS, b"another record")}


def _high_floor(story: Story) -> None:
    story.floors = {KEY.public: raise_floor(None, RELEASE, KEY.public, NOW_MS + 1, b"a newer record")}


def _flip(field: str, at: int) -> Callable[[Story], None]:
    def spoil(story: Story) -> None:
        data = bytearray(story.found.data if field == "found" else story.map_bytes)
        data[at] ^= 1
        if field == "found":
            story.found = replace(story.found, data=bytes(data))
        else:
            story.map_bytes = bytes(data)

    return spoil


def _set(**values: object) -> Callable[[Story], None]:
    def spoil(story: Story) -> None:
        for name, value in values.items():
            assert hasattr(story, name)
            setattr(story, name, value)

    return spoil


def _lose_too_much(story: Story) -> None:
    story.before_repair.parity[0] = 0


def _not_all_repaired(story: Story) -> None:
    story.after_repair.data[3] = 0
    story.after_repair.parity[0] = 1


BROKEN: list[tuple[int, str, Callable[[Story], None]]] = [
    (1, "silexium.unavailable", _set(request=Request(RELEASE))),
    (1, "silexium.required", _set(policy=Policy(silexium_waivable=False))),
    (2, "trust.other-publisher", _set(basis=TrustBasis((OTHER.public,), "flag"))),
    (2, "trust.other-publisher", _set(basis=None)),
    (3, "minimal.not-canonical", lambda story: _set(found=replace(story.found, data=story.found.data + b" "))(story)),
    (3, "minimal.other-release", lambda story: story.resigned(release=ReleaseId.parse("pkg@1.0.1"))),
    (3, "minimal.other-release", lambda story: story.resigned(release=ReleaseId.parse("pkh@1.0.0"))),
    (3, "minimal.other-key", lambda story: story.resigned(key=OTHER)),
    (3, "minimal.other-seq", lambda story: _set(found=replace(story.found, seq=NOW_MS + 1))(story)),
    (3, "minimal.ahead", _set(now_ms=NOW_MS - 24 * 3600 * 1000 - 1)),
    (3, "minimal.policy", _set(policy=Policy(max_package_bytes=59_999))),
    (3, "floor.rollback", _high_floor),
    (3, "floor.conflict", _other_floor),
    (4, "chunkmap.digest", _flip("map", 200)),
    (4, "chunkmap.infohash", lambda story: story.resigned(infohash=Sha256Digest(b"\x09" * 32))),
    (4, "chunkmap.size", lambda story: story.resigned(size=60_001)),
    (4, "chunkmap.shape", lambda story: _set(rows=story.rows + 1)(story)),
    (5, "repair.beyond", _lose_too_much),
    (6, "repair.beyond", _not_all_repaired),
    (7, "archive.size", lambda story: _set(archive=(59_999, story.archive[1]))(story)),
    (7, "archive.infohash", _set(archive=(60_000, Sha256Digest(b"\x09" * 32)))),
    (8, "manifest.mismatch", _set(manifest=full_manifest(release=ReleaseId.parse("pkg@1.0.1")))),
    (8, "manifest.mismatch", _set(manifest=full_manifest(release=ReleaseId.parse("pkh@1.0.0")))),
    (8, "manifest.mismatch", _set(manifest=full_manifest(key=OTHER))),
    (8, "manifest.mismatch", _set(manifest=full_manifest(timestamp=NOW_MS - 1))),
    (9, "archive.listing", lambda story: _set(tally=(story.tally[0] + 1, story.tally[1]))(story)),
    (9, "archive.listing", lambda story: _set(tally=(story.tally[0], story.tally[1] - 1))(story)),
]


@pytest.mark.parametrize(
    ("step", "reason", "spoil"), BROKEN, ids=[f"{step}-{reason}-{n}" for n, (step, reason, _) in enumerate(BROKEN)]
)
def test_each_check_broken_once(story: Story, step: int, reason: str, spoil: Callable[[Story], None]) -> None:
    spoil(story)
    machine = story.upto(step - 1)
    before = machine.trusted
    with pytest.raises(LibreSeedError) as caught:
        story.take(machine, step)
    assert (caught.value.reason, caught.value.step) == (reason, step)
    assert machine.completed == step - 1
    assert machine.trusted is before


def test_every_changed_byte_of_the_record_is_refused_in_step_3(story: Story) -> None:
    good = story.found
    for at in range(len(good.data)):
        data = bytearray(good.data)
        data[at] ^= 1
        story.found = replace(good, data=bytes(data))
        machine = story.upto(2)
        with pytest.raises(LibreSeedError) as caught:
            story.take(machine, 3)
        assert caught.value.exit_code == 20
        assert machine.completed == 2


def test_a_step_that_failed_can_be_taken_again_with_good_input(story: Story) -> None:
    """A lying peer's chunk map costs nothing but the time to get the right one."""
    machine = story.upto(3)
    with pytest.raises(LibreSeedError):
        machine.chunk_map(story.map_bytes + b"x", story.rows)
    story.take(machine, 4)
    assert machine.completed == 4


def test_path_of_the_receipt_is_what_was_published(story: Story, tmp_path: Path) -> None:
    machine = story.upto(10)
    trusted = machine.installed(str(tmp_path), 77)
    assert trusted.receipt is not None
    assert (trusted.receipt.path, trusted.receipt.installed_ms) == (str(tmp_path), 77)
