"""LangGraph's savers with short channel versions: a third of the bytes of a checkpoint. And a saver
for one leg.

They build plain values only, whatever the environment says: a crafted row among the checkpoints
must not run code.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from loop4.errors import LedgerError, LedgerUnavailable


@asynccontextmanager
async def open_saver(*, data: Path, db: str | None) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """The checkpoints: in the database behind the URL `db`, else in the data folder.

    Raises LedgerError if the database cannot be reached, or the file cannot be used.
    """
    if db is not None:
        from loop4.graphs.postgresql_saver import PostgresqlSaver

        async with PostgresqlSaver.opened(db) as shared:
            yield shared
    else:
        async with ShortVersionSaver.opened(data / "checkpoints.db") as local:
            yield local


def plain_values() -> JsonPlusSerializer:
    """A serializer that never builds an object of a type that a row names."""
    return JsonPlusSerializer(allowed_msgpack_modules=None)


def version_after(current: str | None) -> str:
    """Eight digits, one more than those that `current` begins with; as text it sorts behind it."""
    return f"{int(current.partition('.')[0]) + 1 if current else 1:08}"


class ShortVersionSaver(AsyncSqliteSaver):
    """Eight digits a version instead of fifty characters, once per channel and node seen. Failures
    of the file are told as LedgerError: without checkpoints nothing goes on either.

    The library's longer form ends in a random number that tells the same step of two writers of
    one thread apart; one runner at a time holds a data folder. Its versions still read as older
    than these, so a thread that it began goes on.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(connection, serde=plain_values())

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator[ShortVersionSaver]:
        """A saver on a file; its tables are made if they are not there. Raises LedgerError for a
        file that holds something else, before anything is driven by it.
        """
        async with _explained():
            connection = await aiosqlite.connect(path)
        try:
            saver = cls(connection)
            async with _explained():
                await saver.setup()
            yield saver
        finally:
            await connection.close()

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`; as text it sorts behind it."""
        return version_after(current)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the last of its thread."""
        async with _explained():
            return await super().aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        async with _explained(self):
            return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, object]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what one task wrote."""
        async with _explained(self):
            await super().aput_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove all checkpoints of a thread."""
        async with _explained(self):
            await super().adelete_thread(thread_id)


@asynccontextmanager
async def _explained(writing: AsyncSqliteSaver | None = None) -> AsyncIterator[None]:
    """Tell a failure of the file as LedgerError, and end the transaction that it left open."""
    try:
        yield
    except sqlite3.Error as error:
        if writing is not None:
            with suppress(sqlite3.Error):
                await writing.conn.rollback()
        kind = LedgerUnavailable if isinstance(error, sqlite3.OperationalError) else LedgerError
        raise kind(
            f"checkpoints cannot be read or written: {error}; free space, or move checkpoints.db "
            "away: the ledger alone finishes what is open"
        ) from error


class LeasedSaver(BaseCheckpointSaver[str]):
    """Another saver, for one leg: what it stores first proves that the leg is still ours.

    `prove` raises LeaseLost otherwise, and nothing is stored: a driver that slept past its lease
    must not put its view behind that of the one who took over.
    """

    def __init__(self, inner: BaseCheckpointSaver[str], prove: Callable[[], None]) -> None:
        super().__init__(serde=inner.serde)
        self._inner, self._prove = inner, prove

    def get_next_version(self, current: str | None, channel: None) -> str:
        """As the inner saver counts."""
        return self._inner.get_next_version(current, channel)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As the inner saver."""
        return await self._inner.aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As the inner saver. Raises LeaseLost."""
        self._prove()
        return await self._inner.aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, object]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As the inner saver. Raises LeaseLost."""
        self._prove()
        await self._inner.aput_writes(config, writes, task_id, task_path)
