"""A release on disk: whole it verifies; every changed byte, swapped file and publisher's lie has its own refusal."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libreseed import wire
from libreseed.adapters.release.release_build import BuiltRelease
from libreseed.adapters.release.release_folder import SUFFIXES, ReleaseFiles, verify_release
from libreseed.dht.records import build_dht_record
from libreseed.errors import ContentRejected, LibreSeedError, NotFound, RecordRejected
from libreseed.ids import Blake3Digest, Sha256Digest, TorrentV2Hash
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.chunkmap import ChunkMap, build_chunk_map
from tests.release_support import KEY, TIMESTAMP, make_release

AREAS = {
    ".minimal.json": ("minimal.", 20),
    ".dht.json": ("dhtrecord.", 20),
    ".chunks": ("chunkmap.", 30),
    ".torrent": ("torrent.", 30),
    ".tgz": ("archive.infohash", 30),
    ".parity": ("parity.digest", 30),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReleaseFiles, BuiltRelease]:
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def copy(made: tuple[ReleaseFiles, BuiltRelease], tmp_path: Path) -> ReleaseFiles:
    """A copy of the release that a test may spoil."""
    files = replace(made[0], folder=tmp_path)
    for suffix in SUFFIXES:
        files.path(suffix).write_bytes(made[0].path(suffix).read_bytes())
    return files


def _refusal(files: ReleaseFiles, **options: Any) -> LibreSeedError:
    before = sorted(os.listdir(files.folder))
    with pytest.raises(LibreSeedError) as caught:
        verify_release(files, **options)
    assert sorted(os.listdir(files.folder)) == before
    return caught.value


def test_a_whole_release_verifies(made: tuple[ReleaseFiles, BuiltRelease]) -> None:
    verified = verify_release(made[0], threads=2)
    assert verified.complete
    assert verified.present == SUFFIXES
    assert verified.absent == verified.unjudged == ()
    assert verified.minimal == made[1].minimal
    assert verified.manifest == made[1].manifest
    assert verified.item is not None and verified.item.seq == TIMESTAMP
    assert sorted(os.listdir(made[0].folder)) == sorted(f"hello@1.0.0{suffix}" for suffix in SUFFIXES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_flipped_byte_of_every_file_is_refused(copy: ReleaseFiles, suffix: str) -> None:
    path = copy.path(suffix)
    good = path.read_bytes()
    area, exit_code = AREAS[suffix]
    step = 1 if len(good) <= 1200 else 4  # parity is 5120 bytes of one kind
    for at in range(0, len(good), step):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        error = _refusal(copy)
        assert error.reason.startswith(area), f"byte {at}: {error.reason}"
        assert error.exit_code == exit_code
    path.write_bytes(good)
    assert verify_release(copy).complete


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        (".minimal.json", "minimal.not-json"),
        (".dht.json", "dhtrecord.not-json"),
        (".chunks", "chunkmap.digest"),
        (".torrent", "torrent.bencode"),
        (".tgz", "archive.size"),
        (".parity", "parity.length"),
    ],
)
def test_a_cut_or_longer_file_is_refused(copy: ReleaseFiles, suffix: str, reason: str) -> None:
    path = copy.path(suffix)
    good = path.read_bytes()
    for changed in (b"", good[:-1], good + b"\0"):
        path.write_bytes(changed)
        assert _refusal(copy).reason == reason


@pytest.mark.parametrize("member", ["name", "infohash", "binding", "size", "timestamp", "protocol"])
def test_a_changed_missing_or_added_member_of_the_minimal_manifest(copy: ReleaseFiles, member: str) -> None:
    path = copy.path(".minimal.json")
    members = wire.parse(path.read_bytes(), max_bytes=1000)
    value = members[member]
    middle = 0 if isinstance(value, int) else len(value) // 2
    changed = (
        value + 1
        if isinstance(value, int)
        else value[:middle] + ("b" if value[middle] != "b" else "c") + value[middle + 1 :]
    )
    expected = {"protocol": "minimal.protocol", "infohash": "minimal.signature"}.get(member, "minimal.binding")
    for document, reason in (
        ({**members, member: changed}, expected),
        ({name: members[name] for name in members if name != member}, "minimal.missing-member"),
        ({**members, "extra": 1}, "minimal.unknown-member"),
        ({**members, member: None}, "minimal.type"),
    ):
        path.write_bytes(wire.canonical(document))
        error = _refusal(copy)
        assert error.exit_code == 20
        if document.get(member) is not None:
            assert error.reason == reason


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        (".minimal.json", "minimal.other-release"),
        (".dht.json", "dhtrecord.salt"),
        (".chunks", "chunkmap.digest"),
        (".torrent", "torrent.info-hash"),
        (".tgz", "archive.size"),
        (".parity", "parity.digest"),
    ],
)
def test_a_file_of_another_release_by_the_same_publisher(copy: ReleaseFiles, suffix: str, reason: str) -> None:
    other, _ = make_release(copy.folder, "hello@2.0.0", {"README": os.urandom(700)})
    copy.path(suffix).write_bytes(other.path(suffix).read_bytes())
    assert _refusal(copy).reason == reason


def test_a_whole_other_release_under_this_name(copy: ReleaseFiles) -> None:
    other, _ = make_release(copy.folder, "hello@2.0.0")
    for suffix in SUFFIXES:
        copy.path(suffix).write_bytes(other.path(suffix).read_bytes())
    assert _refusal(copy).reason == "minimal.other-release"
    copy.path(".minimal.json").unlink()
    assert _refusal(copy).reason == "manifest.mismatch"


def test_a_release_signed_anew_by_somebody_else_has_another_key(copy: ReleaseFiles) -> None:
    """Verify proves who signed, not whom to trust: a thief's own release is whole, under the thief's key."""
    from libreseed.keys.ed25519 import PrivateKey

    thief = PrivateKey(b"t" * 32)
    other, _ = make_release(copy.folder, "hello@1.0.0", key=thief)
    verified = verify_release(other)
    assert verified.complete
    assert verified.manifest.pubkey == thief.public != KEY.public
    copy.path(".minimal.json").write_bytes(other.path(".minimal.json").read_bytes())
    assert _refusal(copy).reason == "dhtrecord.signature"


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix not in (".tgz", ".minimal.json")])
def test_an_absent_file_is_named(copy: ReleaseFiles, suffix: str) -> None:
    copy.path(suffix).unlink()
    verified = verify_release(copy)
    assert verified.absent == (suffix,)
    assert not verified.complete
    assert verified.unjudged == ((".parity",) if suffix == ".chunks" else ())


def test_without_a_minimal_manifest_only_the_archive_is_judged(copy: ReleaseFiles) -> None:
    copy.path(".minimal.json").unlink()
    copy.path(".chunks").write_bytes(b"nonsense")
    verified = verify_release(copy)
    assert verified.minimal is None and verified.chunk_map is None
    assert verified.absent == (".minimal.json",)
    assert verified.unjudged == (".chunks", ".parity", ".torrent", ".dht.json")
    assert not verified.complete


def test_the_minimal_manifest_may_lie_elsewhere(copy: ReleaseFiles, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    copy.path(".minimal.json").rename(elsewhere)
    assert verify_release(copy, minimal=elsewhere).complete


def test_files_under_a_free_name(copy: ReleaseFiles) -> None:
    for suffix in SUFFIXES:
        copy.path(suffix).rename(copy.folder / f"download{suffix}")
    assert verify_release(ReleaseFiles.beside(copy.folder / "download.tgz")).complete


def test_a_missing_archive(copy: ReleaseFiles) -> None:
    copy.tgz.unlink()
    with pytest.raises(NotFound):
        verify_release(copy)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_or_folder_in_place_of_a_file_is_not_waited_for(copy: ReleaseFiles, suffix: str) -> None:
    copy.path(suffix).unlink()
    os.mkfifo(copy.path(suffix))
    assert _refusal(copy).reason == "notfound.file"
    copy.path(suffix).unlink()
    copy.path(suffix).mkdir()
    assert _refusal(copy).reason == "notfound.file"


def test_a_damaged_archive_names_its_wrong_chunks(tmp_path: Path) -> None:
    files, _ = make_release(tmp_path, files={"noise": os.urandom(20000)})
    data = bytearray(files.tgz.read_bytes())
    data[5120] ^= 1
    data[15360] ^= 1
    files.tgz.write_bytes(data)
    error = _refusal(files)
    assert error.reason == "archive.infohash"
    assert error.evidence["chunks"] == [1, 3]


# --- a publisher whose files do not belong together, all signed with the right key -----------------------------------


def _resign(files: ReleaseFiles, built: BuiltRelease, **changes: object) -> None:
    minimal = built.minimal
    fields: dict[str, Any] = {
        "name": minimal.name,
        "version": minimal.version,
        "infohash": minimal.infohash,
        "size": minimal.size,
        "chunks": minimal.chunks,
        "torrent": minimal.torrent,
        "timestamp": minimal.timestamp,
        **changes,
    }
    signed = MinimalManifest.build(**fields, key=KEY)
    files.path(".minimal.json").write_bytes(signed.data)
    files.path(".dht.json").write_bytes(build_dht_record(signed, KEY))


def _lying_map(files: ReleaseFiles, built: BuiltRelease, change: Callable[[ChunkMap], ChunkMap]) -> None:
    lying = change(built.repair.chunk_map)
    files.path(".chunks").write_bytes(lying.data)
    files.path(".torrent").unlink()  # it would have to be signed anew as well
    _resign(files, built, chunks=lying.digest)


def _other_chunk(honest: ChunkMap) -> ChunkMap:
    parity = honest.parity_digests(range(honest.grid.parity_chunks(honest.m)))
    return build_chunk_map(honest.grid, honest.m, honest.tgz_sha256, b"\1" * 32, parity)


def _other_parity(honest: ChunkMap) -> ChunkMap:
    return build_chunk_map(honest.grid, honest.m, honest.tgz_sha256, honest.data_digest(0), b"\1" * 32)


def _other_archive(honest: ChunkMap) -> ChunkMap:
    parity = honest.parity_digests(range(honest.grid.parity_chunks(honest.m)))
    return build_chunk_map(honest.grid, honest.m, Sha256Digest(bytes(32)), honest.data_digest(0), parity)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(_other_chunk, "chunkmap.chunk"), (_other_parity, "parity.lying"), (_other_archive, "chunkmap.infohash")],
)
def test_a_signed_chunk_map_of_something_else(
    copy: ReleaseFiles, made: tuple[ReleaseFiles, BuiltRelease], change: Callable[[ChunkMap], ChunkMap], reason: str
) -> None:
    _lying_map(copy, made[1], change)
    copy.path(".parity").unlink()  # so that the map alone is at fault
    error = _refusal(copy)
    assert isinstance(error, ContentRejected)
    assert error.reason == reason


def test_a_signed_torrent_of_something_else(copy: ReleaseFiles, made: tuple[ReleaseFiles, BuiltRelease]) -> None:
    copy.path(".torrent").unlink()
    _resign(copy, made[1], torrent=TorrentV2Hash(bytes(32)))
    assert _refusal(copy).reason == "torrent.info-hash"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timestamp": TIMESTAMP + 1}, "manifest.mismatch"),
        ({"infohash": Sha256Digest(bytes(32))}, "chunkmap.infohash"),
        ({"chunks": Blake3Digest(bytes(32))}, "chunkmap.digest"),
    ],
)
def test_a_signed_minimal_manifest_of_something_else(
    copy: ReleaseFiles, made: tuple[ReleaseFiles, BuiltRelease], changes: dict[str, object], reason: str
) -> None:
    _resign(copy, made[1], **changes)
    assert _refusal(copy).reason == reason


def test_an_oversized_record_is_not_read_whole(copy: ReleaseFiles) -> None:
    with copy.path(".minimal.json").open("wb") as file:
        file.truncate(2**40)
    error = _refusal(copy)
    assert isinstance(error, RecordRejected)
    assert error.reason == "minimal.too-large"


@given(suffix=st.sampled_from(SUFFIXES), seed=st.integers(0, 2**32), edits=st.integers(1, 6))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_only_declared_faults_escape_whatever_the_files_hold(
    made: tuple[ReleaseFiles, BuiltRelease], tmp_path: Path, suffix: str, seed: int, edits: int
) -> None:
    draw = random.Random(seed)
    files = replace(made[0], folder=tmp_path)
    for each in SUFFIXES:
        files.path(each).write_bytes(made[0].path(each).read_bytes())
    data = bytearray(files.path(suffix).read_bytes())
    for _ in range(edits):
        at = draw.randrange(len(data) + 1)
        data[at : at + draw.randrange(5)] = draw.randbytes(draw.randrange(5))
    files.path(suffix).write_bytes(data)
    if bytes(data) == made[0].path(suffix).read_bytes():
        return
    assert _refusal(files).exit_code in (20, 30)
    if suffix == ".tgz":  # without its digest the archive's own rules are what refuses, or nothing at all
        files.path(".minimal.json").unlink()
        with contextlib.suppress(LibreSeedError):
            verify_release(files)
