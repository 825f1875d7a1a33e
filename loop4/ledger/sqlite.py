"""A ledger in one SQLite file: opening it, its write lock, and what its failures mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, exc, pool, select
from sqlalchemy.engine import Connection, Engine

from loop4.errors import LedgerError, LedgerUnavailable
from loop4.ledger import schema
from loop4.ledger.database import Dialect

_ADVICE = {
    "SQLITE_BUSY": "another process held its write lock too long; try again, or stop that process",
    "SQLITE_LOCKED": "another connection holds its write lock; try again",
    "SQLITE_FULL": "the disk is full and nothing was written; free space and run `loop4 resume`",
    "SQLITE_READONLY": "it cannot be written; check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that it exists and may be read and written",
    "SQLITE_PERM": "access is not permitted; check the permissions of the file",
    "SQLITE_NOTADB": "it is not an SQLite database; name another data folder or restore the file",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a copy",
    "SQLITE_IOERR": "the disk refused to read or write and nothing was written; check disk space",
}
SOON_S = 0.5
_PASSES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")


class SqliteDatabase:
    """A file in WAL mode. `BEGIN IMMEDIATE` takes its write lock.

    Once it was waited for in vain, each try gives way soon until one succeeds: a process whose
    every transaction waits in full answers nobody while another keeps the lock.
    """

    def __init__(self, path: Path, *, read_only: bool, busy_timeout_s: float) -> None:
        self.path = path
        self._read_only, self._busy_timeout_s = read_only, busy_timeout_s
        self._is_kept_locked = False

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy's name of the dialect."""
        return "sqlite"

    @property
    def name(self) -> str:
        """How messages name the ledger."""
        return f"ledger {str(self.path)!r}"

    def check(self, *, create: bool) -> None:
        """Raise LedgerError for a missing folder, for a missing file that may not be made, and for
        another program's database before anything of it is changed.
        """
        if not self.path.parent.is_dir():
            raise LedgerError(
                f"{self.name}: the folder {str(self.path.parent)!r} does not exist; "
                "make it or name another data folder"
            )
        if (self._read_only or not create) and not self.path.is_file():
            raise LedgerError(f"{self.name}: there is no such file; name the data folder of a run")
        if not self._read_only and self.path.is_file() and _is_foreign(self.path):
            raise LedgerError(
                f"{self.name} holds another program's tables; name another data folder or database"
            )

    def make_engine(self) -> Engine:
        """A pool of connections to the file."""

        def connected() -> sqlite3.Connection:
            return connect(
                self.path, read_only=self._read_only, busy_timeout_s=self._busy_timeout_s
            )

        return create_engine("sqlite://", creator=connected, poolclass=pool.QueuePool)

    def begin(self, connection: Connection, *, writable: bool) -> None:
        """Start a transaction: one with the file's write lock, or one consistent snapshot."""
        driver = _driver(connection)
        if not writable:
            driver.execute("BEGIN")
            return
        was_kept = self._is_kept_locked
        if was_kept:
            _wait(driver, min(SOON_S, self._busy_timeout_s))
        try:
            driver.execute("BEGIN IMMEDIATE")
            self._is_kept_locked = False
        except sqlite3.OperationalError as error:
            self._is_kept_locked = error.sqlite_errorname.startswith("SQLITE_BUSY")
            raise
        finally:
            if was_kept:
                _wait(driver, self._busy_timeout_s)

    def commit(self, connection: Connection) -> None:
        """End the transaction: what it wrote is on the disk when this returns."""
        if connection.in_transaction():  # SQLAlchemy ran something in it and keeps count
            connection.commit()
        else:
            _driver(connection).commit()

    def is_open(self, connection: Connection) -> bool:
        """Whether a transaction is open."""
        return connection.in_transaction() or _driver(connection).in_transaction

    def tables(self, connection: Connection) -> Collection[str]:
        """Names of the tables in the file, SQLite's own left out."""
        found = connection.execute(
            select(schema.sqlite_master.c.name).where(schema.sqlite_master.c.type == "table")
        ).scalars()
        return {name for name in found if not name.startswith("sqlite_")}

    def create(self, connection: Connection) -> None:
        """Make the tables of the present schema version and their triggers."""
        schema.metadata.create_all(connection, checkfirst=False)
        for trigger in schema.SQLITE_TRIGGERS:
            connection.exec_driver_sql(trigger)

    def explain(self, error: Exception, *, committing: bool = False) -> LedgerError:
        """The one-line error that stands for a failure of the file."""
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return LedgerError(f"{self.name}: a value cannot be stored ({error})")
        cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
        code = str(getattr(cause, "sqlite_errorname", ""))
        for prefix, advice in _ADVICE.items():
            if code.startswith(prefix):
                kind = LedgerUnavailable if prefix in _PASSES else LedgerError
                return kind(f"{self.name}: {advice} ({cause})")
        return LedgerError(f"{self.name}: {' '.join(str(cause).split())}")


def connect(path: Path, *, read_only: bool, busy_timeout_s: float) -> sqlite3.Connection:
    """Return a connection in WAL mode with `synchronous=FULL` that begins nothing by itself."""
    uri = "file:" + quote(str(path.absolute())) + f"?mode={'ro' if read_only else 'rwc'}"
    if read_only and _is_still(path):
        uri += "&immutable=1"
    connection = sqlite3.connect(
        uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )
    # bytes that are no UTF-8 were put there by somebody else; `evidence.verify` names the record
    connection.text_factory = _text
    try:
        if not read_only:
            _switch_to_wal(connection, path, busy_timeout_s)
        _wait(connection, busy_timeout_s)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_foreign(path: Path) -> bool:
    """Whether a file holds tables and none of a ledger's; what cannot be read is told later."""
    uri = "file:" + quote(str(path.absolute())) + "?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {str(row[0]) for row in found}
    except sqlite3.Error:
        return False
    return bool(names) and "meta" not in names


def _wait(connection: sqlite3.Connection, wait_s: float) -> None:
    """From now on let this connection wait for so long while another has a lock."""
    connection.execute(f"PRAGMA busy_timeout={round(wait_s * 1000)}")


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise LedgerError("the connection to the ledger was closed by another thread")
    return driver


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _is_still(path: Path) -> bool:
    """True for a copy on read-only ground without a writer, where WAL files cannot be made."""
    return not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()


def _switch_to_wal(connection: sqlite3.Connection, path: Path, busy_timeout_s: float) -> None:
    # The first switch needs the file alone. SQLite's own waiting makes processes that open a new
    # file together block each other for seconds (seen: 8 s), so each try gives way at once.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise LedgerError(
            f"ledger {str(path)!r}: its file system offers journal mode {mode!r}, "
            "expected 'wal'; name a data folder on a local disk"
        )
