"""Checkpoints in PostgreSQL, in a schema of their own beside the ledger's."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection, Error
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from loop4.graphs.saver import plain_values, version_after
from loop4.ledger.postgresql import PostgresqlDatabase

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
    )

# the library's table names are common ones, and the ledger has `checkpoints` of another kind
SCHEMA = "loop4_graph"
_SETUP_LOCK = int.from_bytes(b"loop4gr")
_CONNECTIONS = 4
WAIT_S = 10.0


class PostgresqlSaver(AsyncPostgresSaver):
    """LangGraph's saver with short versions, strict values, and failures told as LedgerError.

    A version ends in eight characters of this saver's own: two workers that write the same step of
    one thread (one was taken for dead and was not) must not take each other's values for theirs.
    """

    def __init__(
        self,
        connections: AsyncConnectionPool[AsyncConnection[DictRow]] | AsyncConnection[DictRow],
        database: PostgresqlDatabase,
    ) -> None:
        super().__init__(connections, serde=plain_values())
        # all in one transaction, so that a crash leaves none of them or all
        self.MIGRATIONS = [step.replace("CONCURRENTLY ", "") for step in self.MIGRATIONS]
        self._database = database
        self._mine = secrets.token_hex(4)

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[PostgresqlSaver]:
        """A saver on the database behind a URL; its tables are made if they are not there.

        Connections are tried before use, so that it outlives a restarted server. Raises LedgerError
        if the server cannot be reached.
        """
        database = PostgresqlDatabase(url, busy_timeout_s=WAIT_S)
        try:
            await _set_up(database)
        except Error as error:
            raise database.explain(error) from error
        # the pool warns of each try to connect; what failed is told by the error that follows
        logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
        pool = AsyncConnectionPool(
            database.conninfo,
            connection_class=AsyncConnection[DictRow],
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
            configure=_use_schema,
            check=AsyncConnectionPool.check_connection,
            min_size=1,
            max_size=_CONNECTIONS,
            timeout=WAIT_S,
            open=False,
        )
        async with pool:
            yield cls(pool, database)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`; as text it sorts behind it."""
        return f"{version_after(current)}.{self._mine}"

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the last of its thread."""
        try:
            return await super().aget_tuple(config)
        except Error as error:
            raise self._database.explain(error) from error

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        try:
            return await super().aput(config, checkpoint, metadata, new_versions)
        except Error as error:
            raise self._database.explain(error) from error

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, object]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what one task wrote."""
        try:
            await super().aput_writes(config, writes, task_id, task_path)
        except Error as error:
            raise self._database.explain(error) from error

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove all checkpoints of a thread."""
        try:
            await super().adelete_thread(thread_id)
        except Error as error:
            raise self._database.explain(error) from error


async def _use_schema(connection: AsyncConnection[DictRow]) -> None:
    await connection.execute("SELECT set_config('search_path', %s, false)", (SCHEMA,))


async def _set_up(database: PostgresqlDatabase) -> None:
    """Make schema and tables, in one transaction: of several at once one does it."""
    async with await AsyncConnection.connect(database.conninfo, row_factory=dict_row) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
        found = await connection.execute(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (SCHEMA,)
        )
        if await found.fetchone() is None:
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await _use_schema(connection)
        await PostgresqlSaver(connection, database).setup()
