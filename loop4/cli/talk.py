"""What `loop4 ask` and `loop4 chat` share: a conversation over the settings in force."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from loop4.cli.fleet_options import operations_of, session_for, traced
from loop4.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from loop4.graphs.conversation.answerer import Answerer
    from loop4.graphs.conversation.conversation import Conversation
    from loop4.graphs.session import Session
    from loop4.settings import Settings
    from loop4.tools.backends.ports import World


@asynccontextmanager
async def conversation_for(settings: Settings) -> AsyncIterator[Conversation]:
    """A conversation; its world is read with the reading identity only.

    Without a world the ledger and the documents still answer. Raises UsageError for a token that is
    nobody's, PolicyError for policies that cannot be loaded.
    """
    from loop4.graphs.conversation.conversation import Conversation
    from loop4.graphs.conversation.desk import Desk
    from loop4.graphs.conversation.lookout import open_lookout, signed_in
    from loop4.graphs.observe import read_documents

    operations = operations_of(settings)
    documents = read_documents(operations, rules=settings.rules)

    def runner() -> AbstractAsyncContextManager[Session]:
        return session_for(settings)

    with traced():
        async with (
            _world(settings) as world,
            open_lookout(
                documents, operations=operations, ledger=settings.ledger, world=world
            ) as lookout,
        ):
            person = signed_in(lookout, settings.token.reveal())
            if settings.token and person is None:
                path = operations / "policies" / "people.yaml"
                raise UsageError(f"the token in LOOP4_TOKEN belongs to nobody in {str(path)!r}")
            async with _answerer(settings) as answerer:
                desk = Desk(settings.ledger, person, runner)
                yield Conversation(lookout, person, desk, answerer)


@asynccontextmanager
async def _answerer(settings: Settings) -> AsyncIterator[Answerer | None]:
    """The configured model, or None; its packages are imported only for one."""
    if not settings.model:
        yield None
        return
    from loop4.agents.planner.endpoint import model_settings
    from loop4.agents.planner.model_planner import ModelPlanner
    from loop4.graphs.conversation.model_answerer import ModelAnswerer

    endpoint = model_settings(model=settings.model, tool_mode=settings.tool_mode)
    if endpoint is None:
        yield None
        return
    planner = ModelPlanner(endpoint, tell=lambda line: print(f"loop4: {line}", file=sys.stderr))
    try:
        yield ModelAnswerer(planner)
    finally:
        await planner.close()


@asynccontextmanager
async def _world(settings: Settings) -> AsyncIterator[World]:
    from loop4.tools.backends.ports import World
    from loop4.tools.backends.worlds import connected

    if not settings.world and not settings.metrics_url:
        yield World()
        return
    async with connected(settings.world, settings.metrics_url, acting=False) as handles:
        yield handles.world
