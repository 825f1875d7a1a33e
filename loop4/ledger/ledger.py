"""The ledger: one SQLite file, one transaction where things belong together.

`Ledger.transaction()` is BEGIN IMMEDIATE .. COMMIT with `synchronous=FULL`: what it wrote is on the
disk when the block ends, or nothing is. The nouns beside this module (`intents`, `evidence`, ...)
take the `Tx` first, so several of them compose in one transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sqlalchemy import create_engine, exc, insert, pool, select
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.sql import Executable

from loop4.errors import LedgerError
from loop4.ledger import database, schema

# the last two are values that SQLite cannot hold: a lone surrogate, a huge integer
_FAILURES = (exc.SQLAlchemyError, UnicodeEncodeError, OverflowError)


class Tx:
    """An open transaction. Only good inside the `with` block that gave it."""

    __slots__ = ("_broken", "_connection", "_ledger", "writable")

    def __init__(self, ledger: Ledger, connection: Connection, *, writable: bool) -> None:
        self._ledger, self._connection = ledger, connection
        self.writable = writable
        self._broken = False

    def rows(
        self, statement: Executable, values: Mapping[str, str | int] | None = None
    ) -> Sequence[RowMapping]:
        """Return all rows of a query. `values` fill its parameters.

        A query that is built once and filled costs half of one that is built each time.
        """
        return self._run(statement, values)

    def row(
        self, statement: Executable, values: Mapping[str, str | int] | None = None
    ) -> RowMapping | None:
        """Return the first row of a query, or None. `values` fill its parameters."""
        found = self._run(statement, values)
        return found[0] if found else None

    def change(self, statement: Executable, values: Mapping[str, str | int] | None = None) -> int:
        """Write, and return the number of rows that it touched. `values` fill its parameters."""
        if not self.writable:
            raise LedgerError(
                f"ledger {str(self._ledger.path)!r}: a write was tried inside a read; "
                "use transaction()"
            )
        self._usable()
        try:
            return self._connection.execute(statement, values).rowcount
        except _FAILURES as error:
            self._broken = True
            raise database.explain(self._ledger.path, error) from error

    def finish(self) -> None:
        """Raise LedgerError if a statement failed: then nothing of this block may be committed."""
        self._usable()

    def _run(
        self, statement: Executable, values: Mapping[str, str | int] | None
    ) -> Sequence[RowMapping]:
        self._usable()
        try:
            return self._connection.execute(statement, values).mappings().all()
        except _FAILURES as error:
            self._broken = True
            raise database.explain(self._ledger.path, error) from error

    def _usable(self) -> None:
        # After some errors SQLite has rolled back by itself and would commit each later statement
        # alone.
        if self._broken:
            raise LedgerError(
                f"ledger {str(self._ledger.path)!r}: an earlier statement of this transaction "
                "failed; nothing of it was written"
            )


class Ledger:
    """An open ledger. Threads may share it; writers queue. Forked children must open their own."""

    def __init__(self, path: Path, *, read_only: bool, busy_timeout_s: float) -> None:
        self.path = path
        self.read_only = read_only
        self.commits = 0  # commits that wrote something, i.e. that the disk had to confirm
        self._busy_timeout_s = busy_timeout_s
        self._writer = threading.Lock()
        self._writer_thread = 0
        self._engine = self._make_engine()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        read_only: bool = False,
        create: bool = True,
        busy_timeout_s: float = 10.0,
    ) -> Ledger:
        """Open the ledger at `path`, making the file (never the folder) if `create` and needed.

        Raises LedgerError, with one line that says what to do, for a missing folder, a file that is
        no ledger, an unknown schema version, a full or read-only disk.
        """
        if not path.parent.is_dir():
            raise LedgerError(
                f"ledger {str(path)!r}: the folder {str(path.parent)!r} does not exist; "
                "make it or name another data folder"
            )
        if (read_only or not create) and not path.is_file():
            raise LedgerError(
                f"ledger {str(path)!r}: there is no such file; name the data folder of a run"
            )
        ledger = cls(path, read_only=read_only, busy_timeout_s=busy_timeout_s)
        try:
            ledger._check_or_create()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """BEGIN IMMEDIATE .. COMMIT, rolled back on any exception.

        No `await` inside, and no second transaction of this ledger: the latter raises LedgerError.
        """
        if self.read_only:
            raise LedgerError(f"ledger {str(self.path)!r} was opened for reading only")
        me = threading.get_ident()
        if self._writer_thread == me:
            raise LedgerError(
                f"ledger {str(self.path)!r}: a transaction is open in this thread already; "
                "pass its tx on instead of opening another"
            )
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise LedgerError(
                f"ledger {str(self.path)!r}: another thread held a transaction for more than "
                f"{self._busy_timeout_s:g} s"
            )
        self._writer_thread = me
        try:
            with self._connected("BEGIN IMMEDIATE") as connection:
                before = _total_changes(connection)
                tx = Tx(self, connection, writable=True)
                yield tx
                tx.finish()
                written = _total_changes(connection) > before
                try:
                    connection.commit()
                except exc.SQLAlchemyError as error:
                    raise database.explain(self.path, error) from error
                self.commits += written
        finally:
            self._writer_thread = 0
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """One consistent snapshot; writing through it raises LedgerError."""
        with self._connected("BEGIN") as connection:
            yield Tx(self, connection, writable=False)

    def close(self) -> None:
        """Close all connections. Calling it again changes nothing."""
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
    def _connected(self, begin: str) -> Iterator[Connection]:
        try:
            connection = self._engine.connect()
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            raise database.explain(self.path, error) from error
        try:
            try:
                connection.exec_driver_sql(begin)
            except exc.SQLAlchemyError as error:
                raise database.explain(self.path, error) from error
            yield connection
        finally:
            connection.close()  # rolls back what was not committed

    def _make_engine(self) -> Engine:
        def connect() -> sqlite3.Connection:
            return database.connect(
                self.path, read_only=self.read_only, busy_timeout_s=self._busy_timeout_s
            )

        return create_engine("sqlite://", creator=connect, poolclass=pool.QueuePool)

    def _check_or_create(self) -> None:
        with self.read() as tx:
            tables = _tables(tx)
            if tables and "meta" in tables:
                self._check_version(tx)
                return
            if tables:
                raise LedgerError(
                    f"ledger {str(self.path)!r} holds another program's tables; "
                    "name another data folder"
                )
        if self.read_only:
            raise LedgerError(f"ledger {str(self.path)!r} is empty; name the data folder of a run")
        with self.transaction() as tx:
            if not _tables(tx):  # another process may have been faster
                self._create(tx)
            self._check_version(tx)
        self.commits = 0

    def _create(self, tx: Tx) -> None:
        connection = tx._connection
        try:
            schema.metadata.create_all(connection, checkfirst=False)
            for trigger in schema.TRIGGERS:
                connection.exec_driver_sql(trigger)
        except exc.SQLAlchemyError as error:
            raise database.explain(self.path, error) from error
        values = {
            "schema_version": str(schema.SCHEMA_VERSION),
            "salt": secrets.token_hex(16),
            "fence": "0",
        }
        for key, value in values.items():
            tx.change(insert(schema.meta).values(key=key, value=value))

    def _check_version(self, tx: Tx) -> None:
        row = tx.row(select(schema.meta.c.value).where(schema.meta.c.key == "schema_version"))
        found = row["value"] if row else "none"
        if found != str(schema.SCHEMA_VERSION):
            raise LedgerError(
                f"ledger {str(self.path)!r} has schema version {found!r}, this Loop4 reads "
                f"{schema.SCHEMA_VERSION}; use the Loop4 that wrote it"
            )


def _tables(tx: Tx) -> set[str]:
    found = tx.rows(
        select(schema.sqlite_master.c.name).where(schema.sqlite_master.c.type == "table")
    )
    return {row["name"] for row in found if not row["name"].startswith("sqlite_")}


def _total_changes(connection: Connection) -> int:
    raw = connection.connection.driver_connection
    return raw.total_changes if isinstance(raw, sqlite3.Connection) else 0
