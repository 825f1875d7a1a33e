"""Statements of the hot path: compiled once, then handed to SQLite's own driver.

SQLAlchemy's way to a driver costs 25 us a statement, as much as SQLite itself takes on a fast disk.
What is run stays the same statement; other databases, where a round trip costs more than that, get
it through SQLAlchemy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from loop4.errors import LedgerError
from loop4.ledger.upsert import Upsert


class Ran(Protocol):
    """What came of it, in the words that both drivers share."""

    @property
    def rowcount(self) -> int:
        """How many rows it touched."""

    def fetchall(self) -> Sequence[Sequence[str | int | None]]:
        """All rows of a query."""


class Prepared:
    """A query, an insert or an upsert whose parameters are plain texts and whole numbers."""

    __slots__ = ("_compiled", "_statement")

    def __init__(self, statement: Executable | Upsert) -> None:
        self._statement = statement
        self._compiled: tuple[str, tuple[tuple[str, str | int | None], ...]] | None = None

    def run(self, connection: Connection, values: Mapping[str, str | int]) -> Ran:
        """Run it in the connection's transaction. Raises what the driver or SQLAlchemy raises."""
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            return connection.execute(self._of(connection.dialect.name), values)
        if self._compiled is None:
            self._compiled = self._compile(connection)
        text, parameters = self._compiled
        return driver.execute(text, [values.get(name, fixed) for name, fixed in parameters])

    def _compile(
        self, connection: Connection
    ) -> tuple[str, tuple[tuple[str, str | int | None], ...]]:
        """The text, and the parameters in their order with the value of those that are fixed."""
        statement = self._of("sqlite")
        if not isinstance(statement, ClauseElement):
            raise LedgerError(f"{statement!r} cannot be prepared")
        compiled = statement.compile(dialect=connection.dialect)
        if not isinstance(compiled, SQLCompiler):
            raise LedgerError(f"{statement!r} cannot be prepared")
        names = compiled.positiontup or ()
        return str(compiled), tuple((name, compiled.params.get(name)) for name in names)

    def _of(self, dialect: str) -> Executable:
        given = self._statement
        return given.of(dialect) if isinstance(given, Upsert) else given
