"""What a `Ledger` needs of the database that it lies in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Protocol

from sqlalchemy.engine import Connection, Engine

from loop4.errors import LedgerError

Dialect = Literal["sqlite", "postgresql"]


class Database(Protocol):
    """One database that can hold a ledger.

    A transaction that may write holds the one write lock of the ledger from `begin` to its end, so
    that all of them are one after the other: each sees everything that earlier ones committed.
    """

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy's name of the dialect."""

    @property
    def name(self) -> str:
        """How messages name the ledger: "ledger '...'", without secrets."""

    def check(self, *, create: bool) -> None:
        """Raise LedgerError if there is no place for the ledger, or none and it may not be made."""

    def make_engine(self) -> Engine:
        """A pool of connections. Nothing connects yet."""

    def begin(self, connection: Connection, *, writable: bool) -> None:
        """Start a transaction: one with the write lock, or one consistent snapshot."""

    def commit(self, connection: Connection) -> None:
        """End the transaction: what it wrote is on the disk when this returns."""

    def is_open(self, connection: Connection) -> bool:
        """Whether a transaction is open, so that the connection must be rolled back."""

    def tables(self, connection: Connection) -> Collection[str]:
        """Names of the tables that lie where the ledger's would."""

    def create(self, connection: Connection) -> None:
        """Make the tables of the present schema version, their triggers and nothing else."""

    def explain(self, error: Exception, *, committing: bool = False) -> LedgerError:
        """The one-line error that stands for a failure. It holds no secret."""
