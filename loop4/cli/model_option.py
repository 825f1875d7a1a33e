"""`--model`: the planner of a command asks the chat model that the settings name."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.errors import UsageError

if TYPE_CHECKING:
    from loop4.agents.planner.endpoint import ModelSettings
    from loop4.agents.planner.port import Planner

ModelOption = Annotated[
    bool,
    typer.Option("--model", help="Let the model of LOOP4_MODEL and OPENAI_BASE_URL help."),
]


def endpoint_for_command() -> ModelSettings:
    """The endpoint that is set. Raises UsageError if no model is, SettingsError for a wrong
    setting.
    """
    from loop4.agents.planner.endpoint import model_settings
    from loop4.settings import load_settings

    settings = load_settings()
    endpoint = model_settings(model=settings.model, tool_mode=settings.tool_mode)
    if endpoint is None:
        raise UsageError(
            "no model is set up; set LOOP4_MODEL, and OPENAI_BASE_URL and OPENAI_API_KEY for its "
            "endpoint, and LOOP4_TOOL_MODE to something else than off"
        )
    return endpoint


@asynccontextmanager
async def planner_for_command(*, wanted: bool) -> AsyncIterator[Planner | None]:
    """The planner with the model, or None if it is not wanted. What is wrong with the endpoint is
    told once, on standard error.
    """
    if not wanted:
        yield None
        return
    from loop4.agents.planner.model_planner import ModelPlanner

    planner = ModelPlanner(
        endpoint_for_command(), tell=lambda line: print(f"loop4: {line}", file=sys.stderr)
    )
    try:
        yield planner
    finally:
        await planner.close()
