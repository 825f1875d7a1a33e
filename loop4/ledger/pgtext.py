"""Text in PostgreSQL, with the one character that it cannot hold written as two that it can.

Hostile telemetry brings U+0000 along; an event must not be lost for it. U+0001 introduces an
escape, so that every text comes back as it was and equal texts stay equal.
"""

from __future__ import annotations

from sqlalchemy import TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

_ESCAPES = {ord("\0"): "\x010", ord("\x01"): "\x011"}


class PostgresqlText(TypeDecorator[str]):
    """TEXT that compares and sorts by bytes, as SQLite does, whatever the database's language."""

    impl = postgresql.TEXT(collation="C")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it is stored."""
        if value is None or ("\0" not in value and "\x01" not in value):
            return value
        return value.translate(_ESCAPES)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it was given."""
        if value is None or "\x01" not in value:
            return value
        return value.replace("\x010", "\0").replace("\x011", "\x01")
