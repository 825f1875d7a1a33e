"""Inserts that meet a row of the same key: leave it, or change it. One statement for each database.

SQLAlchemy has such an insert in each dialect and none that is common to them; `Tx` takes the one
that its database understands. All values are parameters, so a statement is built once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable


@dataclass(frozen=True, slots=True)
class Upsert:
    """The same insert in the words of each database."""

    sqlite: Executable
    postgresql: Executable

    def of(self, dialect: str) -> Executable:
        """The statement for a dialect by SQLAlchemy's name of it."""
        return self.postgresql if dialect == "postgresql" else self.sqlite


def insert_or_ignore(table: Table, *key: str) -> Upsert:
    """An insert that touches no row when one with this key is there."""
    # inline: no RETURNING for generated keys, so that the row count is that of the insert
    return Upsert(
        sqlite.insert(table).inline().on_conflict_do_nothing(index_elements=key),
        postgresql.insert(table).inline().on_conflict_do_nothing(index_elements=key),
    )


def insert_or_update(table: Table, *key: str, changing: Sequence[str]) -> Upsert:
    """An insert that sets the columns `changing` of the row with this key when one is there."""
    lite, post = sqlite.insert(table).inline(), postgresql.insert(table).inline()
    return Upsert(
        lite.on_conflict_do_update(
            index_elements=key, set_={name: lite.excluded[name] for name in changing}
        ),
        post.on_conflict_do_update(
            index_elements=key, set_={name: post.excluded[name] for name in changing}
        ),
    )
