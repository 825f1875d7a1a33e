"""Which database a place names: a path is an SQLite file, a URL a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from loop4.errors import LedgerError
from loop4.ledger.database import Database
from loop4.ledger.sqlite import SqliteDatabase

_SCHEMES = ("postgresql+psycopg://", "postgresql://", "postgres://")


def is_url(place: Path | str) -> bool:
    """Whether a place is a PostgreSQL URL and no path."""
    return isinstance(place, str) and place.startswith(_SCHEMES)


def locate(place: Path | str, *, read_only: bool, busy_timeout_s: float) -> Database:
    """The database at a path, or behind a `postgresql+psycopg://` URL. Raises LedgerError for a URL
    of another kind and for one that cannot be read.
    """
    if is_url(place):
        # psycopg takes 100 ms to load, and a laptop's ledger is a file
        from loop4.ledger.postgresql import PostgresqlDatabase

        return PostgresqlDatabase(str(place), busy_timeout_s=busy_timeout_s)
    if isinstance(place, str) and "://" in place:
        raise LedgerError(
            f"ledger: {place.partition('://')[0]!r} databases are not known; "
            "expected postgresql+psycopg://USER@HOST/DATABASE or a path"
        )
    return SqliteDatabase(Path(place), read_only=read_only, busy_timeout_s=busy_timeout_s)
