"""The SQLite file: migrations, transactions, snapshots, backups, and what its faults are called."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from libreseed.adapters.silexium import database as database_module
from libreseed.adapters.silexium.database import Database, Schema, open_database
from libreseed.adapters.silexium.log.log_check import check_log
from libreseed.adapters.silexium.log.log_index import SPAN
from libreseed.adapters.silexium.log.log_store import LOG_SCHEMA, LogStore
from libreseed.errors import LibreSeedError, NotFound
from libreseed.ids import Blake3Digest
from libreseed.silexium.merkle import tree_root
from tests.log_support import LOG, entry, grow, open_log
from tests.tools import require_program

ONE = Schema("notes", (("notes", "CREATE TABLE notes(text TEXT NOT NULL) STRICT;"),))
TWO = Schema(
    "notes", (*ONE.migrations, ("dates", "ALTER TABLE notes ADD COLUMN date INTEGER; CREATE INDEX d ON notes(date);"))
)

SO_MANY_ROWS = [b"%d\n" % number for number in range(40)]  # that the writer looks how large the file is


def hashes(count: int) -> list[bytes]:
    return [blake3(entry(number)).digest() for number in range(count)]


def texts(database: Database) -> list[str]:
    with database.read() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY rowid")]


def add(database: Database, text: str) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO notes(text) VALUES(?)", (text,))


def put_as_before(old: Path, store: LogStore) -> None:
    """The log of ``store`` in a database as it was before entries lay in runs: a row for each, and two indexes."""
    with (
        store.database.read() as source,
        open_database(old, (Schema("log", LOG_SCHEMA.migrations[:1]),)) as database,
        database.write() as connection,
    ):
        for table in ("log_identity", "log_tiles", "log_sth", "log_cosignatures"):
            rows = source.execute(f"SELECT * FROM {table}").fetchall()
            for row in rows:
                connection.execute(f"INSERT INTO {table} VALUES({', '.join('?' * len(row))})", row)
        root = store.root_at(store.size)
        for index, entry_hash, body in store.entries(0, store.size):
            row = (index, entry_hash, body.decode(), root if index + 1 == store.size else None)
            connection.execute("INSERT INTO log_entries VALUES(?, ?, ?, ?)", row)
            table = "log_index" if index < 400 else "log_index_recent"
            key = int.from_bytes(entry_hash[:8], "big", signed=True)
            connection.execute(f"INSERT INTO {table} VALUES(?, ?)", (key, index))


def test_a_log_with_a_row_for_each_entry_goes_on_as_it_is(tmp_path: Path) -> None:
    with open_log(tmp_path / "new.db") as store:
        head = grow(store, 700)
        put_as_before(tmp_path / "old.db", store)
    with open_log(tmp_path / "old.db") as store:
        check_log(store)
        assert (store.size, store.head(), store.root_at(300)) == (700, head, tree_root(hashes(300)))
        assert [body for _, _, body in store.entries(0, 701)] == [entry(number) for number in range(700)]
        assert [store.find(Blake3Digest(digest)) for digest in hashes(700)] == list(range(700))
        with pytest.raises(LibreSeedError) as error:
            store.append([entry(3)])
        assert error.value.reason == "silexium.logged"
        assert grow(store, 1000).root.raw == tree_root(hashes(1000))
        check_log(store)


def test_the_index_of_old_keeps_whole_spans_only(tmp_path: Path) -> None:
    """What is beyond the last whole span is found in the log's own rows, and would be there twice."""
    before = Schema("log", LOG_SCHEMA.migrations[:1])
    with open_database(tmp_path / "d", (before,)) as database, database.write() as connection:
        connection.execute("INSERT INTO log_entries VALUES(?, zeroblob(32), 'last', zeroblob(32))", (SPAN + 99,))
        connection.executemany("INSERT INTO log_index VALUES(?, ?)", [(7, 1), (8, SPAN - 2), (9, SPAN + 1)])
        rows = [(5, SPAN - 1), (6, SPAN), (7, SPAN + 99)]
        connection.executemany("INSERT INTO log_index_recent VALUES(?, ?)", rows)
    with open_database(tmp_path / "d", (LOG_SCHEMA,)) as database, database.read() as connection:
        rows = connection.execute("SELECT entry_key, idx FROM log_index ORDER BY entry_key").fetchall()
    assert rows == [(5, SPAN - 1), (7, 1), (8, SPAN - 2)]


def test_much_that_is_written_goes_to_its_place_beside_the_writers(tmp_path: Path) -> None:
    """Who appends does not wait for it, who reads sees nothing of it, and closing the file waits until it is done."""
    with open_log(tmp_path / "log.db") as store:
        store.append(SO_MANY_ROWS)
        with store.database.read() as connection:
            assert connection.execute("SELECT count(*) FROM log_entries").fetchone() == (40,)
            before = (tmp_path / "log.db").stat().st_size
            store.append([b"%d" % number + b"x" * 16_000 for number in range(1200)])
            for thread in threading.enumerate():
                if thread.name == "silexium checkpoint":
                    thread.join()
            assert connection.execute("SELECT count(*) FROM log_entries").fetchone() == (40,)
        assert (tmp_path / "log.db").stat().st_size < before + 2**20  # a reader still needs the old pages
        store.append([b"%d" % number + b"y" * 16_000 for number in range(1200)])
        for thread in threading.enumerate():
            if thread.name == "silexium checkpoint":
                thread.join()
        assert (tmp_path / "log.db").stat().st_size > before + 16_000 * 1200
        check_log(store)
    assert not [thread for thread in threading.enumerate() if thread.name == "silexium checkpoint"]


def test_an_append_that_is_durable_does_not_fail_because_no_thread_is_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who were told that it failed would do it again, or never learn what was logged."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with open_log(tmp_path / "log.db") as store:
        store.append(SO_MANY_ROWS)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        many = [b"%d" % number + b"x" * 16_000 for number in range(1200)]
        assert store.append(many) == range(40, 1240)
        assert store.append([b"next"]) == range(1240, 1241)


def test_a_checkpoint_that_cannot_open_the_file_troubles_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with too many files open. What is left in the write-ahead log goes to its place later."""

    def refuse(path: Path, cache_kib: int) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with open_log(tmp_path / "log.db") as store:
        store.append(SO_MANY_ROWS)
        with store.database.read():  # nobody has left a connection
            store.append([b"second"])
            monkeypatch.setattr(database_module, "_connect", refuse)
            store.append([b"%d" % number + b"x" * 16_000 for number in range(1200)])
            for thread in threading.enumerate():
                if thread.name == "silexium checkpoint":
                    thread.join()
    assert raised == []


def test_text_that_rotted_is_told_as_damage_and_no_defect(tmp_path: Path) -> None:
    """SQLite does not look at what TEXT holds: Python finds that it is none."""
    with open_database(tmp_path / "d", (ONE,)) as database:
        with database.write() as connection:
            connection.execute("INSERT INTO notes VALUES(CAST(x'610aff62' AS TEXT))")
        database.check()
        with pytest.raises(LibreSeedError) as error:
            texts(database)
        assert error.value.reason == "storage.database" and "\n" not in error.value.message


def test_a_newer_version_adds_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    with open_database(tmp_path / "d", (ONE,)) as database:
        add(database, "kept")
    with open_database(tmp_path / "d", (TWO,)) as database:
        assert texts(database) == ["kept"]
        with database.write() as connection:
            connection.execute("UPDATE notes SET date = 1")


def test_an_older_version_refuses_the_database_of_a_newer_one(tmp_path: Path) -> None:
    open_database(tmp_path / "d", (TWO,)).close()
    with pytest.raises(LibreSeedError) as error:
        open_database(tmp_path / "d", (ONE,))
    assert error.value.reason == "storage.schema"


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    open_database(tmp_path / "d", (ONE,)).close()
    broken = Schema("notes", (*ONE.migrations, ("half", "CREATE TABLE more(x); CREATE TABLE notes(y);")))
    with pytest.raises(sqlite3.OperationalError):
        open_database(tmp_path / "d", (broken,))
    with open_database(tmp_path / "d", (ONE,)) as database, database.read() as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)


def test_schemas_of_several_owners_live_in_one_file(tmp_path: Path) -> None:
    with open_database(tmp_path / "d", (ONE, LOG_SCHEMA)) as database:
        add(database, "mine")
        assert LogStore(database, LOG).size == 0


def test_a_transaction_that_fails_is_undone(tmp_path: Path) -> None:
    with open_database(tmp_path / "d", (ONE,)) as database:
        with pytest.raises(ZeroDivisionError), database.write() as connection:
            connection.execute("INSERT INTO notes(text) VALUES('lost')")
            _ = 1 / 0
        add(database, "kept")
        assert texts(database) == ["kept"]


def test_a_reader_sees_one_snapshot_and_cannot_write(tmp_path: Path) -> None:
    with open_database(tmp_path / "d", (ONE,)) as database:
        with database.read() as connection:
            assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
            add(database, "later")
            assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
            with pytest.raises(LibreSeedError) as error, database.read() as other:
                other.execute("DELETE FROM notes")
            assert error.value.reason == "storage.read-only"
        assert texts(database) == ["later"]


def test_writers_of_several_threads_and_files_take_turns(tmp_path: Path) -> None:
    first, second = (open_database(tmp_path / "d", (ONE,)) for _ in range(2))
    threads = [
        threading.Thread(target=lambda database=database: [add(database, "x") for _ in range(25)])
        for database in (first, first, second, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(first)) == 100
    first.close()
    second.close()


async def test_work_runs_in_threads_and_the_loop_goes_on(tmp_path: Path) -> None:
    began, proceed = trio.Event(), threading.Event()

    def wait_inside(database: Database) -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO notes(text) VALUES('x')")
            trio.from_thread.run_sync(began.set)
            proceed.wait()

    with open_database(tmp_path / "d", (ONE,)) as database:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.run, wait_inside, database)
            await began.wait()  # the loop runs although the writer does not come on
            assert await database.run(texts, database) == []
            proceed.set()
        assert texts(database) == ["x"]


def test_many_may_make_one_database_at_once(tmp_path: Path) -> None:
    """SQLite refuses all but one of them at once, however long they would wait."""
    faults: list[BaseException] = []

    def make(path: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            with open_database(path, (LOG_SCHEMA,)):
                pass
        except LibreSeedError as error:
            faults.append(error)

    for number in range(10):
        together = threading.Barrier(8)
        makers = [threading.Thread(target=make, args=(tmp_path / f"{number}.db", together)) for _ in range(8)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
    assert faults == []


def test_a_backup_of_a_database_in_use_is_whole_and_replaces_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        grow(store, 300)
        with store.database.write() as connection:  # a writer under way is not in it, and does not hold it up
            store.append_in(connection, [b"under way"])
            store.database.backup(tmp_path / "copy.db")
        with pytest.raises(LibreSeedError) as error:
            store.database.backup(tmp_path / "copy.db")
        assert error.value.reason == "storage.exists"
    with open_log(tmp_path / "copy.db") as copy:
        assert copy.size == 300
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"not a database" * 1000)
    with pytest.raises(LibreSeedError) as error:
        open_database(tmp_path / "d", (ONE,))
    assert error.value.reason == "storage.database" and error.value.exit_code == 50
    assert (tmp_path / "d").read_bytes() == b"not a database" * 1000


def test_a_database_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_database(tmp_path / "d", (ONE,), create=False)
    assert not (tmp_path / "d").exists()


def test_the_sqlite3_program_reads_and_rebuilds_it(tmp_path: Path) -> None:
    """What ``.dump`` writes is SQL that anybody can read, and it makes the same log again."""
    program = require_program("sqlite3")
    with open_log(tmp_path / "log.db") as store:
        head = grow(store, 700)
    dump = subprocess.run([program, tmp_path / "log.db", ".dump"], capture_output=True, check=True, timeout=60).stdout
    assert b'{"entry":699,"branch":""}' in dump and b"CREATE TABLE log_sth" in dump
    subprocess.run([program, tmp_path / "again.db"], input=dump, check=True, timeout=60)
    shutil.copy(tmp_path / "log.db.head", tmp_path / "again.db.head")
    with open_log(tmp_path / "again.db") as again:
        assert again.head() == head
        assert again.append([b"next"]) == range(700, 701)
