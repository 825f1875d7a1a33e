"""What the commands that run the fleet share: their options and the opened session."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.graphs.legs import Worker
    from loop4.graphs.session import Session
    from loop4.ledger.checkpoints import Signing
    from loop4.settings import Settings

OperationsOption = Annotated[
    Path | None,
    typer.Option("--operations", metavar="DIR", help="Operations folder; default: settings."),
]
RulesOption = Annotated[
    Path | None, typer.Option("--rules", metavar="DIR", help="Rules instead of the shipped ones.")
]


def settings_with(
    data: Path | None, operations: Path | None, rules: Path | None, db: str | None = None
) -> Settings:
    """The settings, with what the command line says on top.

    A data folder that is named without a database is meant with its own ledger.
    """
    from loop4.settings import Secret, database_url, load_settings

    settings = load_settings()
    return replace(
        settings,
        data=data or settings.data,
        db=database_url(db, "--db") if db else Secret() if data else settings.db,
        operations=operations or settings.operations,
        rules=rules or settings.rules,
    )


@asynccontextmanager
async def session_for(
    settings: Settings, *, worker: Worker | None = None
) -> AsyncIterator[Session]:
    """Open a runner on the ledger and the world that the settings name.

    Policies and world are looked at first: a mistake in them makes no data folder.
    """
    from loop4.graphs.observe import read_documents
    from loop4.graphs.session import open_session
    from loop4.tools.backends.worlds import connected

    operations = operations_of(settings)
    read_documents(operations, rules=settings.rules)
    with traced():
        async with (
            connected(settings.world, settings.metrics_url) as handles,
            open_session(
                data=settings.data,
                db=settings.db.reveal() or None,
                operations=operations,
                world=handles.world,
                writer=handles.writer,
                rules=settings.rules,
                worker=worker,
            ) as session,
        ):
            yield session


def signing_of(settings: Settings) -> Signing | None:
    """Who signs the fleet's evidence by the settings, None for nobody. Raises UsageError or
    InputError for a key or a second place that cannot be used.
    """
    from loop4.ledger.checkpoints import Signing
    from loop4.ledger.second_place import check_second_place
    from loop4.ledger.signing import load_signer

    folder = settings.checkpoints
    if settings.signing_key is None:
        if folder is not None:
            raise UsageError(
                f"a checkpoints folder is set ({str(folder)!r}) and no key that signs; set "
                "LOOP4_SIGNING_KEY (`loop4 evidence keygen --out DIR` makes one)"
            )
        return None
    if folder is not None:
        check_second_place(folder, settings.data)
    return Signing(load_signer(settings.signing_key), folder)


def signing_told(signing: Signing | None) -> str:
    """Return in one line whether evidence is signed, and where the copies go."""
    if signing is None:
        return "evidence is not signed: no key is set (LOOP4_SIGNING_KEY)"
    where = f"copies in {signing.folder}" if signing.folder else "no second place is set"
    return f"evidence is signed with key {signing.signer.public.key_id[:16]}; {where}"


def operations_of(settings: Settings) -> Path:
    """The operations folder that is set. Raises SettingsError if none is, or if it is no folder."""
    if settings.operations is None:
        raise SettingsError(
            "no operations folder is set; use --operations DIR or set LOOP4_OPERATIONS"
        )
    if not settings.operations.is_dir():
        raise SettingsError(
            f"operations folder {str(settings.operations)!r} is not there; "
            "expected a folder with policies/services.yaml"
        )
    return settings.operations


@contextmanager
def traced() -> Iterator[None]:
    """Make spans while the block runs; say on standard error if they could not be sent."""
    from loop4.telemetry import start_telemetry, stop_telemetry

    start_telemetry()
    try:
        yield
    finally:
        problem = stop_telemetry()
        if problem:
            print(f"loop4: {' '.join(problem.split())}", file=sys.stderr)


def show(body: Json, *, as_json: bool, text: str) -> None:
    """Print the result as JSON or as text."""
    typer.echo(json.dumps(body, indent=2, sort_keys=True) if as_json else text)
