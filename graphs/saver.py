"""LangGraph's SQLite saver with short channel versions: a third of the bytes of a checkpoint.

It builds plain values only, whatever the environment says: a crafted row in checkpoints.db must
not run code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
