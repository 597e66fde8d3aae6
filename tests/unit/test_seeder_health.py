"""Taking a release in, reading it anew and healing it: the seeder's work on files, without a network."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.files.stopping import Stopped
from libreseed.adapters.release.seed_store import SeedStore, release_key
from libreseed.errors import LibreSeedError
from services.seeder.donor import donate_chunks, donate_small_files
from services.seeder.health import Health, Meter, check_release
from services.seeder.intake import Found, find_release, take_in
from services.seeder.source import Source, handed_over, locate, opened
from services.seeder.stored import Stored, open_stored
from tests.seeder_support import flip, make_release

_NOW_MS = 10**13


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("publisher"), size=600_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeedStore]:
    with SeedStore.open(tmp_path / "state") as store:
        yield store


def _found(path: Path, **bounds: int) -> Found:
    return find_release(locate(path), **{"now_ms": _NOW_MS, "max_package_bytes": 2**40, **bounds})


def _hold(store: SeedStore, release: Path) -> Stored:
    found = _found(release)
    with store.staging() as staging:
        stored = take_in(found, staging, _NOW_MS, threading.Event())
        store.write_note(staging, stored.note)
        return open_stored(store, store.publish(staging, release_key(found.release, found.minimal.torrent)))


async def _ignore(health: Health) -> None:
    pass


# --- taking in ----------------------------------------------------------------------------------------------------


def test_what_was_taken_in_is_trusted_and_equal_to_its_source(store: SeedStore, release: Path) -> None:
    stored = _hold(store, release)
    assert stored.trusted and stored.metainfo is not None and stored.chunk_map is not None and stored.mended == ()
    for path in release.iterdir():
        assert (stored.folder / path.name).read_bytes() == path.read_bytes()
        assert not os.path.samefile(stored.folder / path.name, path)  # a copy, never a link


def test_a_later_change_of_the_source_does_not_reach_the_copy(store: SeedStore, release: Path, tmp_path: Path) -> None:
    source = shutil.copytree(release, tmp_path / release.name)
    stored = _hold(store, source)
    flip(source / f"{release.name}.tgz", 5)
    assert stored.file(".tgz").read_bytes() == (release / f"{release.name}.tgz").read_bytes()


def test_a_release_dated_ahead_of_the_clock_is_refused(release: Path) -> None:
    with pytest.raises(LibreSeedError) as caught:
        _found(release, now_ms=0)
    assert (caught.value.reason, caught.value.exit_code) == ("minimal.ahead", 22)


def test_a_release_above_the_operators_limit_is_refused(release: Path) -> None:
    with pytest.raises(LibreSeedError) as caught:
        _found(release, max_package_bytes=1000)
    assert caught.value.reason == "storage.quota"


def test_files_named_like_another_release_are_refused(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    for path in release.iterdir():
        shutil.copy(path, folder / path.name.replace("1.0.0", "2.0.0"))
    with pytest.raises(LibreSeedError) as caught:
        _found(folder)
    assert (caught.value.reason, caught.value.exit_code) == ("minimal.other-release", 20)


def test_a_file_that_grows_while_it_is_copied_does_not_break_the_quota(
    store: SeedStore, release: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(release, tmp_path / release.name)
    found = _found(source)
    with (source / f"{release.name}.parity").open("ab") as file:
        file.write(bytes(10**6))
    with store.staging() as staging, pytest.raises(LibreSeedError) as caught:
        take_in(found, staging, _NOW_MS, threading.Event())
    assert caught.value.reason in ("storage.busy", "parity.length")
    assert list(store.releases.iterdir()) == []


def test_a_cancelled_add_stops_before_it_has_copied(store: SeedStore, release: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with store.staging() as staging, pytest.raises(Stopped):
        take_in(_found(release), staging, _NOW_MS, cancelled)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_regular_files_are_read(release: Path, tmp_path: Path, kind: str) -> None:
    source = shutil.copytree(release, tmp_path / release.name)
    path = source / f"{release.name}.parity"
    path.rename(tmp_path / "aside")
    if kind == "link":
        path.symlink_to(tmp_path / "aside")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(LibreSeedError) as caught:
        _found(source)
    assert caught.value.reason == "usage"


def test_files_that_were_handed_over_are_read_in_place_of_the_path(
    store: SeedStore, release: Path, tmp_path: Path
) -> None:
    with opened(locate(release)) as files:
        source = handed_over(tmp_path / "nowhere", list(files), list(files.values()))
        for _ in range(2):  # reading one does not move another's position for good
            found = find_release(source, now_ms=_NOW_MS, max_package_bytes=2**40)
        with store.staging() as staging:
            stored = take_in(found, staging, _NOW_MS, threading.Event())
            assert stored.file(".tgz").read_bytes() == (release / f"{release.name}.tgz").read_bytes()


@pytest.mark.parametrize("names", [["a", "a"], ["a"], ["x.minimal.json", "y.minimal.json"], ["@.minimal.json", "b"]])
def test_names_that_do_not_fit_what_was_handed_over_are_refused(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "f").write_bytes(b"")
    with (tmp_path / "f").open() as file, pytest.raises(LibreSeedError) as caught:
        handed_over(tmp_path, names, [file.fileno()] * 2)
    assert caught.value.reason in ("control.request", "usage")


def test_a_descriptor_of_something_else_is_refused(tmp_path: Path) -> None:
    read, write = os.pipe()
    with pytest.raises(LibreSeedError) as caught:
        handed_over(tmp_path, ["a@1.0.0.minimal.json"], [read])
    assert caught.value.reason == "control.request"
    os.close(read)
    os.close(write)


# --- checking and healing -----------------------------------------------------------------------------------------


async def test_a_good_copy_is_read_once_and_nothing_is_written(store: SeedStore, release: Path) -> None:
    stored, meter = _hold(store, release), Meter()
    before = stored.stamps()
    _, health = await check_release(store, stored, meter, before_repair=_ignore)
    assert health.good and health.healed == 0 and health.stamps == before == stored.stamps()
    assert stored.chunk_map is not None
    assert meter.chunks_judged == stored.chunk_map.grid.n + stored.chunk_map.grid.parity_chunks(stored.chunk_map.m)


async def test_a_scrub_keeps_to_its_rate(
    store: SeedStore, release: Path, autojump_clock: trio.testing.MockClock
) -> None:
    stored = _hold(store, release)
    began = trio.current_time()
    await check_release(store, stored, Meter(), rate=100_000, before_repair=_ignore)
    assert trio.current_time() - began >= stored.minimal.size / 100_000


async def test_damage_is_told_before_any_byte_is_changed_and_then_healed(store: SeedStore, release: Path) -> None:
    stored, meter = _hold(store, release), Meter()
    path = stored.file(".tgz")
    flip(path, 100, 200_000)
    damaged = path.read_bytes()
    told: list[Health] = []

    async def before_repair(health: Health) -> None:
        told.append(health)
        assert path.read_bytes() == damaged

    _, health = await check_release(store, stored, meter, before_repair=before_repair)
    assert [one.bad_data for one in told] == [(range(1), range(39, 40))]
    assert health.good and health.healed == meter.chunks_healed == 2
    assert path.read_bytes() == (release / path.name).read_bytes()


@pytest.mark.parametrize("extra", [b"appended", b""])
async def test_a_file_of_the_wrong_length_is_put_right(store: SeedStore, release: Path, extra: bytes) -> None:
    stored = _hold(store, release)
    path = stored.file(".tgz")
    data = path.read_bytes()
    path.write_bytes(data + extra if extra else data[:-1])
    _, health = await check_release(store, stored, Meter(), before_repair=_ignore)
    assert health.good and path.read_bytes() == data


async def test_a_file_that_changes_while_it_is_read_is_not_trusted(
    store: SeedStore, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = _hold(store, release)
    verify_parity = ChunkStore.verify_parity

    def rot_meanwhile(self: ChunkStore, chunks: range) -> bytearray:  # the .tgz has been read by now
        flip(stored.file(".tgz"), 300_000)
        return verify_parity(self, chunks)

    monkeypatch.setattr(ChunkStore, "verify_parity", rot_meanwhile)
    _, health = await check_release(store, stored, Meter(), before_repair=_ignore)
    assert health.good and health.stamps.keys() == {".chunks", ".parity"}


async def test_a_lost_map_and_torrent_are_made_again_with_the_signed_hashes(store: SeedStore, release: Path) -> None:
    stored, meter = _hold(store, release), Meter()
    for suffix in (".chunks", ".torrent"):
        stored.file(suffix).unlink()
    stored, health = await check_release(store, stored.light(), meter, before_repair=_ignore)
    assert health.good and meter.files_mended == 2 and stored.metainfo is not None
    for suffix in (".chunks", ".torrent"):
        path = stored.file(suffix)
        assert path.read_bytes() == (release / path.name).read_bytes()


async def test_without_map_and_whole_archive_nothing_is_believed(store: SeedStore, release: Path) -> None:
    stored = _hold(store, release)
    stored.file(".chunks").unlink()
    flip(stored.file(".tgz"), 5)
    before = stored.file(".tgz").read_bytes()
    with pytest.raises(LibreSeedError) as caught:
        await check_release(store, stored, Meter(), before_repair=_ignore)
    assert caught.value.reason == "storage.io"
    assert not stored.file(".chunks").exists() and stored.file(".tgz").read_bytes() == before


@pytest.mark.parametrize("suffix", [".minimal.json", ".dht.json"])
def test_a_forged_small_file_is_replaced_by_the_notes_copy(store: SeedStore, release: Path, suffix: str) -> None:
    stored = _hold(store, release)
    good = stored.file(suffix).read_bytes()
    stored.file(suffix).write_bytes(good.replace(b"1.0.0", b"6.6.6"))
    again = open_stored(store, stored.folder)
    assert again.mended == (f"{release.name}{suffix}",) and stored.file(suffix).read_bytes() == good


def test_another_publishers_manifest_in_the_folder_is_not_believed(
    store: SeedStore, release: Path, tmp_path: Path
) -> None:
    stored = _hold(store, release)
    other = make_release(tmp_path / "other", size=1000)
    shutil.copy(other / f"{release.name}.minimal.json", stored.file(".minimal.json"))
    again = open_stored(store, stored.folder)
    assert again.minimal == stored.minimal and again.mended


def test_without_any_copy_of_a_signed_record_the_release_cannot_be_opened(store: SeedStore, release: Path) -> None:
    stored = _hold(store, release)
    (stored.folder / "seed.json").unlink()
    flip(stored.file(".minimal.json"), 50)
    with pytest.raises(LibreSeedError) as caught:
        open_stored(store, stored.folder)
    assert caught.value.reason.startswith("minimal.")


# --- mending from a source ----------------------------------------------------------------------------------------


def test_only_chunks_that_verify_are_taken_from_a_source(store: SeedStore, release: Path, tmp_path: Path) -> None:
    stored = _hold(store, release)
    source = shutil.copytree(release, tmp_path / release.name)
    path, good = stored.file(".tgz"), stored.file(".tgz").read_bytes()
    flip(path, 0, 5120, 10_240)
    flip(source / path.name, 5121)  # the source is bad where the copy is bad, too
    assert donate_chunks(stored, _found(source), [range(3)]) == 2
    assert path.read_bytes() == good[:5120] + bytes([good[5120] ^ 0xFF]) + good[5121:]


@pytest.mark.parametrize("suffix", [".chunks", ".torrent"])
def test_a_forged_small_file_of_a_source_is_not_taken(
    store: SeedStore, release: Path, tmp_path: Path, suffix: str
) -> None:
    stored = _hold(store, release)
    source = shutil.copytree(release, tmp_path / release.name)
    flip(source / f"{release.name}{suffix}", 100)
    with pytest.raises(LibreSeedError):
        donate_small_files(stored, Found(Source(source, stored.minimal.release), stored.minimal, 0, None))
    assert stored.file(suffix).read_bytes() == (release / f"{release.name}{suffix}").read_bytes()
