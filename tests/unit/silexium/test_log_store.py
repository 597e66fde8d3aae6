"""The log in its database: what it appends, proves and signs, and what it never does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from libreseed import limits
from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.log import log_index
from libreseed.adapters.silexium.log.key_filter import KeyFilter
from libreseed.adapters.silexium.log.log_audit import audit_entries
from libreseed.adapters.silexium.log.log_check import check_log
from libreseed.adapters.silexium.log.log_export import export_log
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_recovery import recover_log
from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA, LogStore, stored_identity
from libreseed.errors import LibreSeedError, NotFound
from libreseed.ids import Blake3Digest
from libreseed.silexium.log_path import BodyBundle, EntryBundle, parse_bodies, parse_log_path, write_bodies
from libreseed.silexium.log_proofs import prefix_root, verify_consistency, verify_inclusion
from libreseed.silexium.merkle import tree_root
from libreseed.silexium.tiles import Tile, parse_entries
from libreseed.silexium.tree_head import Cosignature, NamedKey
from tests.log_support import START, entry, exported, files, grow, open_log
from tests.silexium_support import LOG, LOG_KEY, WITNESS_KEYS, WITNESSES, Draft, private

TABLES = ("log_index", "log_index_recent")


def hashes(count: int) -> list[bytes]:
    return [blake3(entry(number)).digest() for number in range(count)]


def refused(reason: str) -> pytest.RaisesExc[LibreSeedError]:
    return pytest.RaisesExc(LibreSeedError, check=lambda error: error.reason == reason)


# --- appending and proving ----------------------------------------------------------------------------------


def test_any_division_into_batches_makes_the_same_log(tmp_path: Path) -> None:
    for number, steps in enumerate(([700], [1, 254, 1, 1, 255, 188], [256, 256, 188], [3] * 233 + [1])):
        with open_log(tmp_path / f"{number}.db") as store:
            size = 0
            for step in steps:
                assert store.append([entry(size + at) for at in range(step)]) == range(size, size + step)
                size += step
            assert store.sign_head(LOG_KEY, START).root.raw == tree_root(hashes(700))
            check_log(store)


def test_proofs_out_of_the_database_verify_for_every_entry_and_size(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        head = grow(store, 600)
        for index in range(600):
            proof = store.inclusion(index, 600)
            verify_inclusion(index, 600, blake3(entry(index)).digest(), proof, head.root.raw)
        for size in (1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 512, 513, 599):
            for index in {0, size // 2, size - 1}:
                digest = blake3(entry(index)).digest()
                verify_inclusion(index, size, digest, store.inclusion(index, size), store.root_at(size))
        for old in (*range(1, 40), *range(240, 300), 511, 512, 513, 599, 600):
            root = store.root_at(old)
            assert root == tree_root(hashes(old))
            verify_consistency(old, 600, root, head.root.raw, store.consistency(old, 600).hashes)
            if old < 600:
                assert prefix_root(old, 600, head.root.raw, store.prefix(old, 600)) == root
        with refused("notfound.log"):
            store.inclusion(0, 601)


def test_entries_are_found_by_hash_in_the_index_and_in_what_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_index, "SPAN", 64)
    with open_log(tmp_path / "log.db") as store:
        for size in (63, 64, 65, 200, 201, 300, 900):
            grow(store, size)
        assert [store.find(Blake3Digest(digest)) for digest in hashes(900)] == list(range(900))
        with store.database.read() as connection:
            counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]
        assert counts == [896, 0]
        assert store.find(Blake3Digest(bytes(32))) is None
        assert store.entry(200) == entry(200)
        check_log(store)


def test_an_entry_is_logged_once(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 10)
        for batch in ([entry(10), entry(3)], [entry(10), entry(10)]):
            with refused("silexium.logged"):
                store.append(batch)
        assert store.size == 10
        with refused("silexium.logged"), store.database.write() as connection:
            store.append_in(connection, [entry(10)])
            store.append_in(connection, [entry(11), entry(10)])
        assert store.size == 10


def test_an_entry_is_logged_once_whoever_appended_it_and_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the index on the disk, among what is newer, by this process or by another."""
    monkeypatch.setattr(log_index, "SPAN", 64)
    with open_log(tmp_path / "log.db") as one, open_log(tmp_path / "log.db") as other:
        for number in range(0, 300, 2):
            one.append([entry(number)])
            other.append([entry(number + 1)])
            for again in {0, number // 2, number, number + 1}:
                for store in (one, other):
                    with refused("silexium.logged") as error:
                        store.append([entry(1000), entry(again)])
                    assert error.value.evidence["index"] == again
        check_log(one)
    with open_log(tmp_path / "log.db") as third:  # which begins without a filter, and makes one on the way
        for again in range(300):
            with refused("silexium.logged") as error:
                third.append([entry(again)])
            assert error.value.evidence["index"] == again
        assert third.append([entry(300)]) == range(300, 301)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=200), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_a_filter_never_rules_out_what_it_was_given(keys: list[int], others: list[int]) -> None:
    known = KeyFilter()
    assert known.among(others) == []
    known.add(keys)
    assert known.among(keys) == keys
    assert [key for key in others if key in keys] == [key for key in known.among(others) if key in keys]


def test_entries_lie_in_few_rows_and_come_out_as_they_went_in(tmp_path: Path) -> None:
    """With line breaks, of several bytes a character, long and short: a row holds a run, and a run few bytes."""
    many = [f'{{"é":{number},"of":"{"x" * (number % 5 * 4000)}"}}'.encode() for number in range(700)]
    many[300] = b"two\nlines"
    many[301] = b"\n"
    many[699] = b"y" * limits.LOG_ENTRY_BYTES
    with open_log(tmp_path / "log.db") as store:
        store.append(many[:10])
        store.append(many[10:11])
        store.append(many[11:])
        assert [body for _, _, body in store.entries(0, 700)] == many
        assert [body for _, _, body in store.entries(290, 310)] == many[290:310]
        assert [store.entry(index) for index in (0, 9, 10, 11, 300, 301, 302, 699)] == [
            many[index] for index in (0, 9, 10, 11, 300, 301, 302, 699)
        ]
        check_log(store)
        with store.database.read() as connection:
            rows = connection.execute("SELECT idx, length(entry_hashes) / 32, bodies FROM log_entries").fetchall()
        assert len(rows) < 150 and max(len(text.encode()) for _, _, text in rows) < 100_000
        assert all(count == 1 for _, count, text in rows if text in ("two\nlines", "\n"))


def test_large_entries_before_many_small_ones_do_not_share_a_row(tmp_path: Path) -> None:
    """Else whoever asks for one of them would have the server read all."""
    large = [b"%02d" % number + b"x" * (limits.LOG_ENTRY_BYTES - 2) for number in range(16)]
    many = [*large, *(b"%d" % number for number in range(600)), *(entry.replace(b"x", b"y") for entry in large)]
    with open_log(tmp_path / "log.db") as store:
        store.append(many)
        with store.database.read() as connection:
            rows = connection.execute("SELECT length(CAST(bodies AS BLOB)) FROM log_entries").fetchall()
        assert max(rows)[0] < 2**16 + 256 and len(rows) < 20
        assert [body for _, _, body in store.entries(0, 700)] == many
        check_log(store)


@pytest.mark.parametrize("bad", [[b"\xc3", b"\xa9"], [b"ok", b"\xc3"], [b"ok", b"a\x00b"], [b"ok", b""]])
def test_what_cannot_be_an_entry_is_refused_also_among_others(tmp_path: Path, bad: list[bytes]) -> None:
    """Two halves of a character are no two entries."""
    with open_log(tmp_path / "log.db") as store:
        with refused("silexium.entry"):
            store.append([*map(entry, range(300)), *bad])
        assert store.size == 0


@pytest.mark.parametrize("bad", [b"", b"x" * (limits.LOG_ENTRY_BYTES + 1), b"\xff\xfe", b"a\x00b"])
def test_what_cannot_be_an_entry_is_refused(tmp_path: Path, bad: bytes) -> None:
    with open_log(tmp_path / "log.db") as store:
        with refused("silexium.entry"):
            store.append([entry(0), bad])
        assert store.size == 0


def test_an_append_that_is_undone_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    """The caller's transaction fails after the log's part of it: neither entries nor the log's memory keep it."""
    with open_log(tmp_path / "log.db") as store:
        grow(store, 300)
        with pytest.raises(ZeroDivisionError), store.database.write() as connection:
            store.append_in(connection, [b"lost", b"too"])
            store.append_in(connection, [b"as well"])  # in a transaction that has appended already
            _ = 1 / 0
        assert store.size == 300 and store.find(Blake3Digest(blake3(b"lost").digest())) is None
        grow(store, 301)
        assert store.root_at(301) == tree_root(hashes(301))


def test_two_processes_append_to_one_log(tmp_path: Path) -> None:
    """Each re-reads the tail that the other has left, also where both had appended as much."""
    with open_log(tmp_path / "log.db") as one, open_log(tmp_path / "log.db") as other:
        for number in range(0, 600, 3):
            one.append([entry(number)])
            other.append([entry(number + 1), entry(number + 2)])
        assert one.sign_head(LOG_KEY, START).root.raw == tree_root(hashes(600))
        assert other.head() == one.head()
        check_log(other)


def test_paths_give_what_the_tree_has(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 600)
        assert store.tile("entries/599") == entry(599)
        assert store.tile("tile/0/001") == store.read_path(Tile(0, 1))
        assert store.tile("tile/0/002.p/88")[: 32 * 7] == store.tile("tile/0/002.p/7")
        assert len(store.tile("tile/1/000.p/2")) == 64
        assert parse_entries(store.tile("tile/entries/001"), 256) == hashes(600)[256:512]
        assert parse_bodies(store.tile("tile/bodies/002.p/88"), 88) == [entry(number) for number in range(512, 600)]
        for path in ("entries/600", "tile/0/002", "tile/1/000.p/3", "tile/entries/002.p/89", "tile/2/000.p/1"):
            with refused("notfound.log"):
                store.tile(path)


@pytest.mark.parametrize(
    "path",
    [
        *("entries/01", "entries/-1", "entries/1/", "entries/١", "tile/bodies/1", "tile/bodies/000.p/256"),
        *("tile/0/../0", "tile/entries/x000/001", "tile/bodies/000.p/0", "checkpoint", "entries/" + "9" * 16),
        "tile/" + "x001/" * 30,
    ],
)
def test_paths_have_one_spelling(path: str) -> None:
    with refused("silexium.tile"):
        parse_log_path(path)
    for place in (EntryBundle(1234067, 3), BodyBundle(1234067), Tile(2, 5, 7)):
        assert parse_log_path(place.path) == place and type(parse_log_path(place.path)) is type(place)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\x00", lambda data: data[3:]])
def test_a_bundle_of_entries_is_read_strictly(damage: object) -> None:
    data = write_bodies([entry(0), entry(1)])
    with refused("silexium.tile"):
        parse_bodies(damage(data), 2)  # type: ignore[operator]
    with refused("silexium.tile"):
        parse_bodies(data, 1)


# --- heads --------------------------------------------------------------------------------------------------


def test_a_size_never_has_two_roots_and_time_never_goes_back(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        first = grow(store, 5)
        again = store.sign_head(LOG_KEY, START + 60)
        assert (again.size, again.root) == (first.size, first.root) and again.timestamp == START + 60
        assert store.sign_head(LOG_KEY, START + 30).timestamp == START + 60  # a clock a little behind
        with refused("silexium.clock"):
            store.sign_head(LOG_KEY, START + 60 - limits.CLOCK_SKEW_SECONDS - 1)
        assert store.head() == again


def test_another_key_cannot_sign_and_another_log_cannot_take_the_database(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 3)
        with refused("config.log"):
            store.sign_head(private(99), START)
        with refused("config.log"):
            LogStore(store.database, NamedKey("other.example/log", LOG_KEY.public))
        assert stored_identity(store.database) == LOG


def test_sqlite_itself_refuses_to_take_back_or_to_change(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 3)
        for statement in (
            "DELETE FROM log_entries WHERE idx = 0",
            "UPDATE log_entries SET bodies = 'other' WHERE idx = 0",
            "DELETE FROM log_sth",
            "UPDATE log_sth SET root = zeroblob(32)",
            "UPDATE log_sth SET timestamp = timestamp - 1",
            "UPDATE log_entries SET root = zeroblob(32) WHERE idx = 0",
        ):
            with pytest.raises(sqlite3.IntegrityError), store.database.write() as connection:
                connection.execute(statement)
        check_log(store)


def test_a_head_waits_for_its_witnesses(tmp_path: Path) -> None:
    """What is served is the newest head that enough witnesses have cosigned."""
    with open_log(tmp_path / "log.db") as store:
        assert store.head() is None and store.checkpoint() is None
        old = grow(store, 3)
        names = list(WITNESS_KEYS.items())
        for name, key in names[:2]:
            store.add_cosignature(Cosignature.sign(old.head, name, START + 4, key))
        new = grow(store, 5)
        store.add_cosignature(Cosignature.sign(new.head, names[0][0], START + 6, names[0][1]))
        sizes = [store.checkpoint(least).sth.size for least in (0, 1, 2)]  # type: ignore[union-attr]
        assert sizes == [5, 5, 3] and store.checkpoint(3) is None
        assert [store.cosigned_size(witness.key) for witness in WITNESSES] == [5, 3, 0]


def test_a_cosignature_of_another_head_is_not_kept(tmp_path: Path) -> None:
    name, key = next(iter(WITNESS_KEYS.items()))
    with open_log(tmp_path / "log.db") as store:
        head = grow(store, 3).head
        for other in (replace(head, size=2), replace(head, root=Blake3Digest(bytes(32)))):
            with refused("silexium.witness"):
                store.add_cosignature(Cosignature.sign(other, name, START, key))
        assert store.checkpoint(1) is None


# --- a database that is behind what its log has shown -------------------------------------------------------


def put_back(root: Path) -> None:
    """Yesterday's backup in the place of the database, as an operator would put it there."""
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (root / name).unlink(missing_ok=True)
    shutil.copy(root / "backup.db", root / "log.db")


def test_a_database_put_back_from_a_backup_appends_and_signs_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 300)
        store.database.backup(tmp_path / "backup.db")
        grow(store, 310)
    put_back(tmp_path)
    with open_log(tmp_path / "log.db") as store:
        for attempt in (lambda: store.append([b"x"]), lambda: store.sign_head(LOG_KEY, START + 400)):
            with refused("silexium.shrunk"):
                attempt()
        with refused("silexium.shrunk"):
            check_log(store)
        assert store.size == 300


def test_a_database_of_another_history_signs_nothing(tmp_path: Path) -> None:
    """As many entries, but others: the restored log had gone on elsewhere."""
    with open_log(tmp_path / "log.db") as store:
        grow(store, 10)
    (tmp_path / "fork").mkdir()
    with open_log(tmp_path / "fork" / "log.db") as fork:
        grow(fork, 20, branch="b")
    shutil.copy(tmp_path / "log.db.head", tmp_path / "fork" / "log.db.head")
    with open_log(tmp_path / "fork" / "log.db") as fork:
        with refused("silexium.shrunk"):
            fork.sign_head(LOG_KEY, START + 100)
        with refused("silexium.shrunk"):
            fork.append([b"x"])


def test_an_old_database_is_noticed_by_what_it_was_exported_to(tmp_path: Path) -> None:
    """The high-water file was lost with the machine; the folder that the public sees was not."""
    with open_log(tmp_path / "log.db") as store:
        grow(store, 300)
        store.database.backup(tmp_path / "backup.db")
        grow(store, 310)
        export_log(store, tmp_path / "public")
    put_back(tmp_path)
    (tmp_path / "log.db.head").unlink()
    before = files(tmp_path / "public")
    with open_log(tmp_path / "log.db") as store:
        with refused("silexium.shrunk"):
            export_log(store, tmp_path / "public")
        with refused("silexium.shrunk"):  # and it is remembered
            store.sign_head(LOG_KEY, START + 400)
    assert files(tmp_path / "public") == before


def test_recovery_brings_an_old_database_up_to_what_was_shown(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 300)
        store.database.backup(tmp_path / "backup.db")
        head = grow(store, 1000)
        export_log(store, tmp_path / "public")
    put_back(tmp_path)
    with open_log(tmp_path / "log.db") as store:
        assert recover_log(store, LogFolder(tmp_path / "public")) == 1000
        assert store.root_at(1000) == head.root.raw
        check_log(store)
        assert grow(store, 1001).size == 1001


def test_recovery_takes_nothing_that_the_log_has_not_signed(tmp_path: Path) -> None:
    exported(tmp_path / "fork", [20], branch="b", shared=5)
    exported(tmp_path / "good", [20])
    (tmp_path / "good" / "entries" / "17").write_bytes(b"forged")
    with open_log(tmp_path / "log.db") as store:
        grow(store, 10)
        for folder in ("fork", "good"):
            with refused("silexium.consistency"):
                recover_log(store, LogFolder(tmp_path / folder))
        with refused("notfound.file"):
            recover_log(store, LogFolder(tmp_path / "none"))
        assert store.size == 10
        assert grow(store, 11).root.raw == tree_root(hashes(11))


# --- fsck and audit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE log_entries SET bodies = replace(bodies, ':7,', ':8,') WHERE idx = 0",
            "entry 7 does not have the hash",
        ),
        ("UPDATE log_entries SET entry_hashes = zeroblob(8192) WHERE idx = 0", "entry 7 does not have the hash"),
        (
            "UPDATE log_entries SET bodies = bodies || char(10) WHERE idx = 300",
            "the entries from 300 on are not as many",
        ),
        (
            "UPDATE log_entries SET entry_hashes = zeroblob(31) WHERE idx = 512",
            "the entries from 512 on are not as many",
        ),
        (
            "UPDATE log_entries SET bodies = bodies || char(10) || (SELECT bodies FROM log_entries WHERE idx = 256), "
            "entry_hashes = CAST(entry_hashes || (SELECT entry_hashes FROM log_entries WHERE idx = 256) AS BLOB) "
            "WHERE idx = 0",
            "the entries from 0 on lie in one row, and belong to two bundles",
        ),
        ("DELETE FROM log_entries WHERE idx = 300", "entry 300 is missing"),
        ("DELETE FROM log_entries WHERE idx = 512", "the entries make a log of 512"),
        ("UPDATE log_tiles SET hashes = zeroblob(8192) WHERE level = 0 AND idx = 1", "tile 0/1 is not what"),
        ("UPDATE log_tiles SET hashes = zeroblob(64) WHERE level = 1", "tile 1/0 is not what"),
        ("UPDATE log_tiles SET groups = zeroblob(512) WHERE level = 0 AND idx = 1", "tile 0/1 is not what"),
        ("DELETE FROM log_tiles WHERE level = 0 AND idx = 0", "tile 0/0 is not what"),
        ("INSERT INTO log_tiles VALUES(5, 5, x'00', x'00')", "there are not 3 tiles"),
        ("DELETE FROM log_index_recent WHERE idx = 5", "entry 5 is not in the index"),
        (
            "UPDATE log_index_recent SET idx = iif(idx = 5, 6, 5) WHERE idx IN (5, 6)",  # neither could be found
            "entry 5 is not in the index",
        ),
        (
            "UPDATE log_entries SET bodies = CAST(CAST(bodies AS BLOB) || x'ff' AS TEXT) WHERE idx = 300",
            "the entries from 300 on are not UTF-8",
        ),
        ("INSERT INTO log_index VALUES(1, 1)", "the index has more"),
        ("UPDATE log_entries SET root = zeroblob(32) WHERE idx = 512", "the entries make a log of 600"),
        ("UPDATE log_sth SET root = zeroblob(32) WHERE size = 600", "the head of 600 entries has another root"),
        ("UPDATE log_sth SET signature = zeroblob(64) WHERE size = 300", "the head of 300 entries"),
        ("UPDATE log_sth SET timestamp = 1 WHERE size = 600", "older than a smaller"),
        ("INSERT INTO log_sth SELECT 700, root, timestamp, signature, key FROM log_sth WHERE size = 600", "covers 700"),
        ("UPDATE log_cosignatures SET time = time + 1", "the head of 300 entries"),
    ],
)
def test_fsck_names_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, told: str) -> None:
    monkeypatch.setattr(log_index, "SPAN", 256)
    with open_log(tmp_path / "log.db") as store:
        head = grow(store, 300)
        name, key = next(iter(WITNESS_KEYS.items()))
        store.add_cosignature(Cosignature.sign(head.head, name, START, key))
        grow(store, 600)
        facts = check_log(store)
        assert (facts.size, facts.heads, facts.cosignatures) == (600, 2, 1)
        with store.database.write() as connection:
            triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for (trigger,) in triggers:
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute(statement)
        with refused("storage.database") as error:
            check_log(store)
        lines = [error.value.message, *error.value.details]
        assert any(told in line for line in lines), lines


def test_fsck_notices_a_page_that_rotted(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 2000)
        store.database.backup(tmp_path / "copy.db")
    data = bytearray((tmp_path / "copy.db").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    (tmp_path / "copy.db").write_bytes(data)
    with refused("storage.database"), open_database(tmp_path / "copy.db", (LOG_SCHEMA,)) as database:
        check_log(LogStore(database, LOG))


def test_audit_refuses_a_second_entry_for_one_version(tmp_path: Path) -> None:
    first = Draft().bundle().entry
    with open_log(tmp_path / "log.db") as store:
        store.append([first, first.replace(b"1.0.0", b"1.0.1")])
        assert audit_entries(store) == (1, 2)
        other = bytearray(first)
        at = first.index(b"blake3:") + 7
        other[at] = ord("0") if other[at] != ord("0") else ord("1")
        store.append([bytes(other)])
        with refused("silexium.second-entry") as error:
            audit_entries(store)
        assert error.value.evidence["indices"] == [0, 2]


def test_audit_refuses_what_is_no_entry(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        store.append([b'{"hello": 1}'])
        with refused("silexium.entry"):
            audit_entries(store)


# --- export -------------------------------------------------------------------------------------------------


def test_an_export_grows_and_drops_what_is_superseded(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        for size in (0, 1, 255, 256, 257, 600):
            grow(store, size)
            done = export_log(store, tmp_path / "public")
            assert done.checkpoint.sth.size == size
        names = set(files(tmp_path / "public"))
        assert {f"entries/{index}" for index in range(600)} < names
        partials = {name for name in names if ".p/" in name}
        # those of the checkpoint, and those of the one before for who is just reading by it
        assert {name for name in partials if "/0/002" in name} == {"tile/0/002.p/88"}
        assert {name for name in partials if name.startswith("tile/1")} == {"tile/1/000.p/1", "tile/1/000.p/2"}
        for name in names - {"checkpoint"}:
            assert store.tile(name) == (tmp_path / "public" / name).read_bytes()


def test_an_export_is_for_everybody_to_read_but_for_its_state(tmp_path: Path) -> None:
    """Written by a service with a closed umask, served by a web server of another user."""
    before = os.umask(0o077)
    try:
        exported(tmp_path / "public", [3])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o755
    for path in (tmp_path / "public").rglob("*"):
        private = ".silexium" in path.parts
        expected = (0o700 if private else 0o755) if path.is_dir() else (0o600 if private else 0o644)
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_two_exports_at_once_do_not_mix(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 3)
        with LogFolder(tmp_path / "public").locked(), refused("storage.folder-busy"):
            export_log(store, tmp_path / "public")
        with pytest.raises(NotFound):
            export_log(store, tmp_path / "public", cosigned=1)
