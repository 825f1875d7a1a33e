"""Who drives the runs of one PostgreSQL database: workers beside each other by leases, or one
process without leases alone.

A session's advisory lock; the server drops it when the process is gone, in any way.
"""

from __future__ import annotations

import time
from types import TracebackType

import psycopg

from loop4.errors import RunnerBusy
from loop4.ledger.postgresql import WRITE_LOCK, PostgresqlDatabase

LOCK = WRITE_LOCK + 1
PATIENCE_S = 2.0  # a killed process's connection ends a moment after it
LOOK_S = 0.05
CONNECT_TIMEOUT_S = 10.0


class DatabaseRunner:
    """The right to drive a database's runs: with leases beside others that have them, or alone."""

    def __init__(self, url: str, *, by_leases: bool) -> None:
        self._database = PostgresqlDatabase(url, busy_timeout_s=CONNECT_TIMEOUT_S)
        self._by_leases = by_leases
        self._held: psycopg.Connection[tuple[object, ...]] | None = None

    def acquire(self) -> None:
        """Take the right. Raises RunnerBusy while others have it in the other way, LedgerError if
        the server cannot be asked.
        """
        try:
            connection = psycopg.connect(self._database.conninfo, autocommit=True)
        except psycopg.Error as error:
            raise self._database.explain(error) from error
        deadline = time.monotonic() + PATIENCE_S
        kind = "_shared" if self._by_leases else ""
        while not _try(connection, f"SELECT pg_try_advisory_lock{kind}({LOCK})"):
            if time.monotonic() >= deadline:
                connection.close()
                raise RunnerBusy(self._why())
            time.sleep(LOOK_S)
        self._held = connection

    def keep(self) -> None:
        """Hold on: the right ends with the server's connection, and is taken again when that was
        lost. Raises as `acquire`.
        """
        try:
            if self._held is not None:
                self._held.execute(b"SELECT 1")
                return
        except psycopg.Error:
            self.release()
        self.acquire()

    def release(self) -> None:
        """Give the right back."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> DatabaseRunner:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _why(self) -> str:
        if self._by_leases:
            return f"a command drives the runs of {self._database.name} alone; wait for its end"
        return f"other processes drive the runs of {self._database.name}; they will go on with it"


def _try(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> bool:
    row = connection.execute(statement.encode()).fetchone()
    return row is not None and row[0] is True
