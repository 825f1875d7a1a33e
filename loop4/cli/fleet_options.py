"""What the commands that run the fleet share: their options and the opened session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.errors import SettingsError

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.graphs.session import Session
    from loop4.settings import Settings

OperationsOption = Annotated[
    Path | None,
    typer.Option("--operations", metavar="DIR", help="Operations folder; default: settings."),
]
RulesOption = Annotated[
    Path | None, typer.Option("--rules", metavar="DIR", help="Rules instead of the shipped ones.")
]


def settings_with(data: Path | None, operations: Path | None, rules: Path | None) -> Settings:
    """The settings, with what the command line says on top."""
    from loop4.settings import load_settings

    settings = load_settings()
    return replace(
        settings,
        data=data or settings.data,
        operations=operations or settings.operations,
        rules=rules or settings.rules,
    )


@asynccontextmanager
async def session_for(settings: Settings) -> AsyncIterator[Session]:
    """Open a runner on the data folder and the world that the settings name."""
    from loop4.graphs.session import open_session
    from loop4.tools.backends.worlds import connected

    if settings.operations is None:
        raise SettingsError(
            "no operations folder is set; use --operations DIR or set LOOP4_OPERATIONS"
        )
    async with (
        connected(settings.world, settings.metrics_url) as handles,
        open_session(
            data=settings.data,
            operations=settings.operations,
            world=handles.world,
            writer=handles.writer,
            rules=settings.rules,
        ) as session,
    ):
        yield session


def show(body: Json, *, as_json: bool, text: str) -> None:
    """Print the result as JSON or as text."""
    typer.echo(json.dumps(body, indent=2, sort_keys=True) if as_json else text)
