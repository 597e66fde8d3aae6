"""The seeder's state directory: one owner, all or nothing, and notes that can lose time but never a release."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed.adapters.release.seed_store import NOTE_BYTES, SeedNote, SeedStore, Stamp, release_key
from libreseed.errors import LibreSeedError, Malformed
from libreseed.ids import ReleaseId, TorrentV2Hash

_KEY = release_key(ReleaseId.parse("demo@1.0.0"), TorrentV2Hash(bytes(range(32))))
_NOTE = SeedNote(
    minimal=b"{}",
    dht=b"{}",
    added_ms=5,
    stamps={".tgz": "1:2:3:4"},
    bad_data=(range(3), range(7, 9)),
    bad_parity=(range(1, 2),),
    scrubbed_ms=6,
    healed=7,
)


def test_a_key_names_release_and_torrent() -> None:
    assert _KEY == "demo@1.0.0.000102030405060708090a0b0c0d0e0f"


def test_a_note_round_trips() -> None:
    assert SeedNote.decode(_NOTE.encode()) == _NOTE


@given(st.data())
def test_a_note_with_any_changed_byte_is_malformed_or_says_something_else(data: st.DataObject) -> None:
    raw = bytearray(_NOTE.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert SeedNote.decode(bytes(raw)) != _NOTE
    except Malformed:
        return


@pytest.mark.parametrize(
    "old,new",
    [
        (b"[[0,3],[7,9]]", b"[[0,3],[2,9]]"),  # overlapping runs
        (b"[[0,3],[7,9]]", b"[[3,3]]"),
        (b"[[0,3],[7,9]]", b"[[0,3,4]]"),
        (b"[[0,3],[7,9]]", b"{}"),
        (b'"1:2:3:4"', b'"1:2:3"'),
        (b'"1:2:3:4"', b'"1:2:3:+4"'),
        (b'"healed":7', b'"healed":-7'),
        (b'"healed":7', b'"healed":true'),
        (b"seed-note-v1", b"seed-note-v2"),
        (b'"dht":"{}"', b'"dht":7'),
        (b'"healed":7', b'"healed":7,"more":1'),
    ],
)
def test_a_note_that_is_not_of_its_form_is_malformed(old: bytes, new: bytes) -> None:
    data = _NOTE.encode()
    assert old in data
    with pytest.raises(Malformed):
        SeedNote.decode(data.replace(old, new))


def test_a_note_about_too_much_damage_forgets_its_stamps_and_stays_small() -> None:
    runs = tuple(range(2 * n, 2 * n + 1) for n in range(30_000))
    note = SeedNote(b"{}", b"{}", 1, {".tgz": "1:2:3:4"}, bad_data=runs)
    kept = SeedNote.decode(note.encode())
    assert (kept.stamps, kept.bad_data) == ({}, ()) and len(note.encode()) < NOTE_BYTES


def test_a_stamp_sees_a_change_that_puts_the_time_back(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    before, status = Stamp.of(path), path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = Stamp.of(path)
    assert before is not None and after is not None
    assert (before.size, before.mtime_ns, before.inode) == (after.size, after.mtime_ns, after.inode)
    assert before != after


def test_links_and_folders_have_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "l").symlink_to(tmp_path / "f")
    assert Stamp.of(tmp_path / "l") is None and Stamp.of(tmp_path) is None and Stamp.of(tmp_path / "none") is None
    assert not _NOTE.trusts(".tgz", None)


def test_one_process_owns_the_state(tmp_path: Path) -> None:
    with SeedStore.open(tmp_path / "state"):
        with pytest.raises(LibreSeedError) as caught, SeedStore.open(tmp_path / "state"):
            pass
        assert caught.value.reason == "storage.locked" and str(os.getpid()) in caught.value.message
    with SeedStore.open(tmp_path / "state"):  # and gives it back
        pass


def test_the_state_is_private(tmp_path: Path) -> None:
    with SeedStore.open(tmp_path / "state") as store:
        for folder in (store.state_dir, store.releases, store.indexes, store.quarantine):
            assert folder.stat().st_mode & 0o077 == 0


def test_what_is_not_published_vanishes(tmp_path: Path) -> None:
    with SeedStore.open(tmp_path / "state") as store:
        with store.staging() as staging:
            (staging / "f").write_bytes(b"x" * 100)
            assert store.folders() == [] and store.used_bytes() == 100
        assert list(store.releases.iterdir()) == []


def test_a_release_is_published_and_discarded_whole(tmp_path: Path) -> None:
    with SeedStore.open(tmp_path / "state") as store:
        with store.staging() as staging:
            (staging / "f").write_bytes(b"x")
            store.write_note(staging, _NOTE)
            folder = store.publish(staging, _KEY)
        assert store.folders() == [folder] and store.read_note(folder) == _NOTE
        with store.staging() as staging, pytest.raises(LibreSeedError) as caught:
            store.publish(staging, _KEY)
        assert caught.value.reason == "storage.exists" and (folder / "f").exists()
        store.discard(folder)
        assert list(store.releases.iterdir()) == []


def test_opening_clears_what_a_crash_left_and_nothing_else(tmp_path: Path) -> None:
    with SeedStore.open(tmp_path / "state") as store, store.staging() as staging:
        folder = store.publish(staging, _KEY)
    for path in (folder / ".seed.json.0123456789ab.tmp", store.releases / ".x.tmp", store.state_dir / ".w.tmp"):
        path.write_bytes(b"torn")
    dead = store.releases / ".libreseed-staging-00"
    dead.mkdir()
    (dead / "demo@1.0.0.tgz").write_bytes(b"part")
    (store.releases / ".libreseed-staging-01.lock").write_bytes(b"")
    (folder / "demo@1.0.0.tgz").write_bytes(b"kept")
    with SeedStore.open(tmp_path / "state") as store:
        assert [path.name for path in store.releases.iterdir()] == [_KEY]
        assert [path.name for path in folder.iterdir()] == ["demo@1.0.0.tgz"]
        assert not (store.state_dir / ".w.tmp").exists()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "state" / "seeder.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), SeedStore.open(tmp_path / "state"):
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"
