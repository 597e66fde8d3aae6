"""Silexium's SQLite file: connections, transactions, numbered migrations, online backup, and what its errors mean.

The file is the only source of truth of a log server; everything that is exported can be made from it anew. Invariants:
write-ahead log and ``synchronous=FULL``, so a transaction that has returned is on the disk; writers of all processes
take turns (``BEGIN IMMEDIATE``), and readers see one snapshot and wait for nobody. Each owner of tables declares a
:class:`Schema` of its own; its migrations are numbered by their place and applied once, in one transaction.

Every method but ``run`` blocks and may be called from any thread; trio code calls ``run``. No table is declared here.
Specification: ``silexium-log.md``, 1.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from libreseed import limits
from libreseed.adapters.files.durable import staging_directory, sync_directory, sync_file
from libreseed.errors import LibreSeedError, LocalFault, NotFound

if TYPE_CHECKING:
    from types import TracebackType

    import trio

__all__ = ["Database", "Schema", "default_database", "open_database"]

_T = TypeVar("_T")
_BUSY_MS = 60_000  # that a writer waits for those of other processes
_READER_CACHE_KIB = 4096
_WRITER_CACHE_KIB = 32768
_PAGE_BYTES = 8192
_CHECKPOINT_BYTES = 64 * 2**20  # of write-ahead log between two checkpoints that a writer makes
_CHANGES_UNSEEN = 32  # rows; asking for the file's size costs a small transaction a part of its time
_COPIED_BYTES = 16 * 2**20  # by which the file grows between two that are made beside the writers
_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS migrations(
  area TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY(area, number)) STRICT, WITHOUT ROWID
"""
_REASONS = {
    sqlite3.SQLITE_FULL: "storage.full",
    sqlite3.SQLITE_IOERR: "storage.io",
    sqlite3.SQLITE_READONLY: "storage.read-only",
    sqlite3.SQLITE_PERM: "storage.permission",
    sqlite3.SQLITE_CANTOPEN: "storage.permission",
    sqlite3.SQLITE_BUSY: "storage.database-busy",
    sqlite3.SQLITE_LOCKED: "storage.database-busy",
    sqlite3.SQLITE_CORRUPT: "storage.database",
    sqlite3.SQLITE_NOTADB: "storage.database",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one owner: ``migrations`` are (name, SQL), only ever appended to; number n is the n-th."""

    area: str
    migrations: tuple[tuple[str, str], ...]


def default_database() -> Path:
    """Where the database is unless told otherwise: ``$XDG_DATA_HOME/silexium/silexium.db``."""
    import platformdirs

    return Path(platformdirs.user_data_dir("silexium", appauthor=False)) / "silexium.db"


def open_database(path: Path, schemas: Sequence[Schema], *, create: bool = True) -> Database:
    """Open the file, make it when ``create``, and apply what is missing of every schema.

    Raises NotFound without ``create``; :class:`LocalFault` ``storage.database`` for what is no sound database,
    ``storage.schema`` for one that a newer version has made, and the reasons of storage.
    """
    if not create and not path.is_file():
        raise NotFound("notfound.file", f"there is no database {path}")
    if create:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(path)
    try:
        if not _is_current(database, schemas):  # most often it is, and nobody has to wait for who writes
            with database.write() as connection:
                connection.execute(_MIGRATIONS)
                for schema in schemas:
                    _migrate(connection, schema, path)
    except BaseException:
        database.close()
        raise
    return database


class Database:
    """One open database file: one connection that writes, and as many that read as threads want at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._writer_lock = threading.Lock()
        self._writing: int | None = None  # the thread that holds _writer_lock
        self._closed = False
        self._copying: threading.Thread | None = None
        self._copied_pages: int | None = None
        self._looked_at = 0  # rows that the writer had changed when the file's size was last asked for
        self._limiter: trio.CapacityLimiter | None = None
        with _explained(path):
            self._writer = _connect(path, _WRITER_CACHE_KIB)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one snapshot until the block ends; it must not write."""
        with _explained(self.path):
            connection = self._reader()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, in a transaction: durable when the block ends, undone when it raises.

        Not nested. What is read inside is what other processes have left, since none can write meanwhile.
        """
        if self._writing == threading.get_ident():
            raise AssertionError("a transaction is open in this thread already")
        with self._writer_lock, _explained(self.path):
            if self._closed:
                raise AssertionError("the database is closed")
            self._writing = threading.get_ident()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                pages = self._grown()
                self._writer.execute("COMMIT")
                if pages is not None:
                    self._copy_beside(pages)
            finally:
                self._writing = None
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    async def run(self, body: Callable[..., _T], *arguments: object) -> _T:
        """``body(*arguments)`` in a thread; at most a few at once, so that a crowd of requests stays in the queue."""
        import trio

        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(limits.DATABASE_THREADS)
        return await trio.to_thread.run_sync(body, *arguments, limiter=self._limiter)

    def backup(self, target: Path) -> None:
        """Write a consistent copy to the new file ``target`` while others read and write; it is whole or not there."""
        with staging_directory(target.parent) as folder, _explained(target):
            copy = sqlite3.connect(folder / "copy.db", isolation_level=None)
            try:
                with self.read() as connection:
                    connection.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
                _require_sound(copy, target)
            finally:
                copy.close()
            sync_file(folder / "copy.db")
            try:
                target.hardlink_to(folder / "copy.db")  # unlike a rename, this never replaces
            except FileExistsError as error:
                raise LocalFault("storage.exists", f"{target} exists already and is never replaced") from error
            sync_directory(target.parent)

    def check(self) -> None:
        """Have SQLite check its own structures and all references; raises ``storage.database``."""
        with self.read() as connection:
            _require_sound(connection, self.path)

    def close(self) -> None:
        """Close every connection; waits for a transaction that is under way."""
        with self._writer_lock:
            if self._copying is not None:
                self._copying.join()
            with self._readers_lock:
                self._closed = True
                while self._readers:
                    self._readers.pop().close()
            self._writer.close()

    def _grown(self) -> int | None:
        """How many pages the file has with this transaction; None while so few rows changed that it matters little."""
        if self._writer.total_changes - self._looked_at < _CHANGES_UNSEEN:
            return None
        self._looked_at = self._writer.total_changes
        return int(self._writer.execute("PRAGMA page_count").fetchone()[0])

    def _copy_beside(self, pages: int) -> None:
        """Have what is in the write-ahead log copied to its place by another thread when the file has grown by much.

        A writer that reaches ``_CHECKPOINT_BYTES`` would do it, and does what is left; that would be its time.
        """
        if self._copied_pages is None:
            self._copied_pages = pages
        if (pages - self._copied_pages) * _PAGE_BYTES < _COPIED_BYTES or (self._copying and self._copying.is_alive()):
            return
        self._copied_pages = pages
        copying = threading.Thread(target=self._copy, name="silexium checkpoint")
        try:
            copying.start()
        except RuntimeError:  # the system has no thread to give; the transaction is over, and must not seem to fail
            return
        self._copying = copying

    def _copy(self) -> None:
        try:
            connection = self._reader()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                self._give_back(connection)
        except sqlite3.Error:
            pass  # whoever writes or reads next finds the same fault, and tells it

    def _reader(self) -> sqlite3.Connection:
        with self._readers_lock:
            if self._closed:
                raise AssertionError("the database is closed")
            if self._readers:
                return self._readers.pop()
        connection = _connect(self.path, _READER_CACHE_KIB)
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._readers_lock:
            if self._closed or len(self._readers) >= limits.DATABASE_THREADS:
                connection.close()
            else:
                self._readers.append(connection)


def _connect(path: Path, cache_kib: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    try:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")  # of a new file
        _begin_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_BYTES // _PAGE_BYTES}")
        connection.execute(f"PRAGMA journal_size_limit={2 * _CHECKPOINT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_wal(connection: sqlite3.Connection) -> None:
    """Have the file kept with a write-ahead log, which it then stays with.

    When several processes make one file at once, SQLite lets all but one fail at this switch without waiting, whatever
    their timeout: so it is tried again here, for as long as a writer waits.
    """
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _is_current(database: Database, schemas: Sequence[Schema]) -> bool:
    with database.read() as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone():
            return False
        return all(_applied(connection, schema) == [name for name, _ in schema.migrations] for schema in schemas)


def _applied(connection: sqlite3.Connection, schema: Schema) -> list[str]:
    query = "SELECT name FROM migrations WHERE area = ? ORDER BY number"
    return [name for (name,) in connection.execute(query, (schema.area,))]


def _migrate(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    known = [name for name, _ in schema.migrations]
    done = _applied(connection, schema)
    if done != known[: len(done)]:
        message = f"{path}: the tables of {schema.area!r} are not those that this version makes: {done[-1]!r:.80}"
        raise LocalFault("storage.schema", message)
    for number, (name, sql) in enumerate(schema.migrations[len(done) :], len(done)):
        for statement in _statements(sql):
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES(?, ?, ?)", (schema.area, number, name))


def _statements(sql: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would end the transaction."""
    statement = ""
    for part in sql.split(";")[:-1]:
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip() or sql.rpartition(";")[2].strip():
        raise AssertionError("a migration ends within a statement")


def _require_sound(connection: sqlite3.Connection, path: Path) -> None:
    faults = [text for (text,) in connection.execute("PRAGMA integrity_check(20)") if text != "ok"]
    faults += [f"{table} refers to nothing" for table, *_ in connection.execute("PRAGMA foreign_key_check")]
    if faults:
        raise LocalFault("storage.database", f"{path} is damaged: {faults[0]:.200}", details=faults[1:20])


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Translate SQLite's errors about file and disk; mistakes in SQL and broken constraints pass as they are."""
    try:
        yield
    except sqlite3.Error as error:
        fault = _fault(path, error)
        if fault is None:
            raise
        raise fault from error


def _fault(path: Path, error: sqlite3.Error) -> LibreSeedError | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not SQLite's: of these, an OperationalError says that what is stored as text is none
        reason = "storage.database" if isinstance(error, sqlite3.OperationalError) else None
    else:
        reason = _REASONS.get(code & 0xFF)
    message = " ".join(str(error).split())  # it may quote what is stored, with its line breaks
    return None if reason is None else LocalFault(reason, f"{path}: {message}")
