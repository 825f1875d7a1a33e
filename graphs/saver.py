"""LangGraph's SQLite saver with short channel versions (a third of the bytes of a checkpoint), and
a saver for one leg.

It builds plain values only, whatever the environment says: a crafted row in checkpoints.db must
not run code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class ShortVersionSaver(AsyncSqliteSaver):
    """Eight digits a version instead of fifty characters, once per channel and node seen.

    The library's longer form ends in a random number that tells the same step of two writers of
    one thread apart; one runner at a time holds a data folder. Its versions still read as older
    than these, so a thread that it began goes on.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`; as text it sorts behind it."""
        return f"{int(current.partition('.')[0]) + 1 if current else 1:08}"


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
