"""LangGraph's savers with short channel versions: a third of the bytes of a checkpoint. And a saver
for one leg.

They build plain values only, whatever the environment says: a crafted row among the checkpoints
must not run code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import aiosqlite


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
