"""The ledger: one SQLite file or PostgreSQL schema, one transaction where things belong together.

`Ledger.transaction()` holds the ledger's one write lock from its begin to its commit: what it wrote
is on the disk when the block ends, or nothing is, and it sees all that earlier ones wrote. The
nouns beside this module (`intents`, `evidence`, ...) take the `Tx` first, so several of them
compose in one transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType

from sqlalchemy import exc, insert, select
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.sql import Executable

from loop4.errors import LedgerError
from loop4.ledger import schema
from loop4.ledger.database import Database, Dialect
from loop4.ledger.place import locate
from loop4.ledger.prepared import Prepared
from loop4.ledger.upsert import Upsert

DATABASE_ERRORS = (exc.SQLAlchemyError,)  # for who meets a database that is not the ledger
# the last two are values that no database holds: a lone surrogate, a huge integer
_FAILURES = (exc.SQLAlchemyError, sqlite3.Error, UnicodeEncodeError, OverflowError)
_VERSION = select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")


class Tx:
    """An open transaction. Only good inside the `with` block that gave it."""

    __slots__ = ("_broken", "_connection", "_database", "has_written", "writable")

    def __init__(self, database: Database, connection: Connection, *, writable: bool) -> None:
        self._database, self._connection = database, connection
        self.writable = writable
        self.has_written = False
        self._broken = False

    @property
    def dialect(self) -> Dialect:
        """Which kind of database this is."""
        return self._database.dialect

    @property
    def connection(self) -> Connection:
        """The connection itself, for migrations."""
        return self._connection

    def rows(
        self, statement: Executable, values: Mapping[str, str | int] | None = None
    ) -> Sequence[RowMapping]:
        """Return all rows of a query. `values` fill its parameters.

        A query that is built once and filled costs half of one that is built each time.
        """
        self._usable()
        try:
            return self._connection.execute(statement, values).mappings().all()
        except _FAILURES as error:
            self._broken = True
            raise self._database.explain(error) from error

    def row(
        self, statement: Executable, values: Mapping[str, str | int] | None = None
    ) -> RowMapping | None:
        """Return the first row of a query, or None. `values` fill its parameters."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def tuples(
        self, query: Prepared, values: Mapping[str, str | int] | None = None
    ) -> Sequence[Sequence[str | int | None]]:
        """Return all rows of a prepared query, without the names of their columns."""
        self._usable()
        try:
            return query.run(self._connection, values or {}).fetchall()
        except _FAILURES as error:
            self._broken = True
            raise self._database.explain(error) from error

    def change(
        self,
        statement: Executable | Upsert | Prepared,
        values: Mapping[str, str | int] | None = None,
    ) -> int:
        """Write, and return the number of rows that it touched. `values` fill its parameters."""
        if not self.writable:
            raise LedgerError(
                f"{self._database.name}: a write was tried inside a read; use transaction()"
            )
        self._usable()
        if isinstance(statement, Upsert):
            statement = statement.of(self._database.dialect)
        try:
            if isinstance(statement, Prepared):
                touched = statement.run(self._connection, values or {}).rowcount
            else:
                touched = self._connection.execute(statement, values).rowcount
        except _FAILURES as error:
            self._broken = True
            raise self._database.explain(error) from error
        self.has_written = self.has_written or touched != 0
        return touched

    def finish(self) -> None:
        """Raise LedgerError if a statement failed: then nothing of this block may be committed."""
        self._usable()

    def _usable(self) -> None:
        # After some errors SQLite has rolled back by itself and would commit each later statement
        # alone; PostgreSQL turns the commit into a rollback and says nothing.
        if self._broken:
            raise LedgerError(
                f"{self._database.name}: an earlier statement of this transaction "
                "failed; nothing of it was written"
            )


class Ledger:
    """An open ledger. Threads may share it; writers queue. Forked children must open their own."""

    def __init__(self, database: Database, *, read_only: bool, busy_timeout_s: float) -> None:
        self.name = database.name
        self.read_only = read_only
        self.commits = 0  # commits that wrote something, i.e. that the disk had to confirm
        self._database = database
        self._busy_timeout_s = busy_timeout_s
        self._writer = threading.Lock()
        self._writer_thread = 0
        self._engine = database.make_engine()
        self._kept: Connection | None = None  # of the writer, between its transactions
        self._is_closed = False

    @classmethod
    def open(
        cls,
        place: Path | str,
        *,
        read_only: bool = False,
        create: bool = True,
        busy_timeout_s: float = 10.0,
    ) -> Ledger:
        """Open the ledger at `place`, a path or a `postgresql+psycopg://` URL.

        If `create` and needed it makes the file (never the folder) or the schema (never the
        database). Raises LedgerError, with one line that says what to do, for a missing folder or
        server, a file that is no ledger, an unknown schema version, a full or read-only disk.
        """
        database = locate(place, read_only=read_only, busy_timeout_s=busy_timeout_s)
        database.check(create=create)
        ledger = cls(database, read_only=read_only, busy_timeout_s=busy_timeout_s)
        try:
            ledger._check_or_create(create=create)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open_any(cls, place: Path | str, *, read_only: bool = False) -> Ledger:
        """Open a ledger of any schema version, for `migrate` alone; an empty place is refused."""
        database = locate(place, read_only=read_only, busy_timeout_s=10.0)
        database.check(create=False)
        ledger = cls(database, read_only=read_only, busy_timeout_s=10.0)
        try:
            with ledger.read() as tx:
                if not ledger._is_there(tx):
                    raise LedgerError(f"{ledger.name} is empty; there is nothing to migrate")
        except BaseException:
            ledger.close()
            raise
        return ledger

    @property
    def dialect(self) -> Dialect:
        """Which kind of database this is."""
        return self._database.dialect

    @property
    def database(self) -> Database:
        """The database that it lies in."""
        return self._database

    def any_transaction(self) -> AbstractContextManager[Tx]:
        """A transaction whatever the schema version is, for `migrate` alone."""
        return self._transaction()

    def transaction(self) -> AbstractContextManager[Tx]:
        """Take the write lock, commit at the end of the block, roll back on any exception.

        No `await` inside, and no second transaction of this ledger: the latter raises LedgerError.
        """
        return self._transaction() if self.dialect == "sqlite" else self._checked_transaction()

    @contextmanager
    def _checked_transaction(self) -> Iterator[Tx]:
        with self._transaction() as tx:
            self._check_version(tx)  # another machine may have migrated it meanwhile
            yield tx

    @contextmanager
    def _transaction(self) -> Iterator[Tx]:
        if self.read_only:
            raise LedgerError(f"{self.name} was opened for reading only")
        me = threading.get_ident()
        if self._writer_thread == me:
            raise LedgerError(
                f"{self.name}: a transaction is open in this thread already; "
                "pass its tx on instead of opening another"
            )
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise LedgerError(
                f"{self.name}: another thread held a transaction for more than "
                f"{self._busy_timeout_s:g} s"
            )
        self._writer_thread = me
        try:
            with self._connected(writable=True) as tx:
                yield tx
                tx.finish()
                try:
                    self._database.commit(tx._connection)
                except _FAILURES as error:
                    raise self._database.explain(error, committing=True) from error
                self.commits += tx.has_written
        finally:
            self._writer_thread = 0
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """One consistent snapshot; writing through it raises LedgerError."""
        with self._connected(writable=False) as tx:
            yield tx

    def close(self) -> None:
        """Close all connections. Calling it again changes nothing."""
        self._is_closed = True
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        self._engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _connected(self, *, writable: bool) -> Iterator[Tx]:
        connection = self._take_connection(writable=writable)
        try:
            try:
                self._database.begin(connection, writable=writable)
            except _FAILURES as error:
                raise self._database.explain(error) from error
            yield Tx(self._database, connection, writable=writable)
        finally:
            self._give_back(connection, writable=writable)

    def _take_connection(self, *, writable: bool) -> Connection:
        if writable and self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        try:
            return self._engine.connect()
        except exc.SQLAlchemyError as error:
            raise self._database.explain(error) from error

    def _give_back(self, connection: Connection, *, writable: bool) -> None:
        # The pool's way in and out costs as much as a record; a server's connection may die
        # meanwhile, which the pool looks after.
        may_stay = writable and self.dialect == "sqlite" and not self._is_closed
        if may_stay and not self._database.is_open(connection):
            self._kept = connection
        else:
            connection.close()  # rolls back what was not committed

    def _check_or_create(self, *, create: bool) -> None:
        with self.read() as tx:
            if self._is_there(tx):
                self._check_version(tx)
                return
        if self.read_only or (not create and self.dialect != "sqlite"):
            raise LedgerError(f"{self.name} is empty; name the data folder or database of a run")
        with self._transaction() as tx:
            if not self._is_there(tx):  # another process may have been faster
                self._create(tx)
            self._check_version(tx)
        self.commits = 0

    def _is_there(self, tx: Tx) -> bool:
        try:
            tables = self._database.tables(tx._connection)
        except exc.SQLAlchemyError as error:
            raise self._database.explain(error) from error
        if tables and "meta" not in tables:
            raise LedgerError(
                f"{self.name} holds another program's tables; name another data folder or database"
            )
        return bool(tables)

    def _create(self, tx: Tx) -> None:
        try:
            self._database.create(tx._connection)
        except exc.SQLAlchemyError as error:
            raise self._database.explain(error) from error
        values = {
            "schema_version": str(schema.SCHEMA_VERSION),
            "salt": secrets.token_hex(16),
            "fence": "0",
        }
        for key, value in values.items():
            tx.change(insert(schema.meta), {"key": key, "value": value})

    def _check_version(self, tx: Tx) -> None:
        found = version_of(tx)
        if found != str(schema.SCHEMA_VERSION):
            is_older = found.isdecimal() and 0 < int(found) < schema.SCHEMA_VERSION
            advice = "run `loop4 ledger migrate`" if is_older else "use the Loop4 that wrote it"
            raise LedgerError(
                f"{self.name} has schema version {found!r}, this Loop4 reads "
                f"{schema.SCHEMA_VERSION}; {advice}"
            )


def version_of(tx: Tx) -> str:
    """The schema version that the ledger notes, "none" if that is gone."""
    row = tx.row(_VERSION)
    return str(row["value"]) if row else "none"
