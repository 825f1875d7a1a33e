"""LangGraph's savers with short channel versions: a third of the bytes of a checkpoint.

They build plain values only, whatever the environment says: a crafted row among the checkpoints
must not run code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

if TYPE_CHECKING:
    import aiosqlite
    from langgraph.checkpoint.base import BaseCheckpointSaver


@asynccontextmanager
async def open_saver(*, data: Path, db: str | None) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """The checkpoints: in the database behind the URL `db`, else in the data folder.

    Raises LedgerError if the database cannot be reached.
    """
    if db is not None:
        from loop4.graphs.postgresql_saver import PostgresqlSaver

        async with PostgresqlSaver.opened(db) as shared:
            yield shared
    else:
        async with ShortVersionSaver.from_conn_string(str(data / "checkpoints.db")) as local:
            yield local


def plain_values() -> JsonPlusSerializer:
    """A serializer that never builds an object of a type that a row names."""
    return JsonPlusSerializer(allowed_msgpack_modules=None)


def version_after(current: str | None) -> str:
    """Eight digits, one more than those that `current` begins with; as text it sorts behind it."""
    return f"{int(current.partition('.')[0]) + 1 if current else 1:08}"


class ShortVersionSaver(AsyncSqliteSaver):
    """Eight digits a version instead of fifty characters, once per channel and node seen.

    The library's longer form ends in a random number that tells the same step of two writers of
    one thread apart; one runner at a time holds a data folder. Its versions still read as older
    than these, so a thread that it began goes on.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(connection, serde=plain_values())

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`; as text it sorts behind it."""
        return version_after(current)
