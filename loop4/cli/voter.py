"""Who is at the keyboard: the person whose token is in LOOP4_TOKEN, never a name on the command
line.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, overload

import typer

from loop4.errors import Loop4Error, UsageError

if TYPE_CHECKING:
    from loop4.policies.people import Person

OperationsOption = Annotated[
    Path | None,
    typer.Option("--operations", metavar="DIR", help="Operations folder; default: settings."),
]


def voter(operations: Path | None) -> Person:
    """The person who holds LOOP4_TOKEN. Raises for no token, no people.yaml, an unknown token."""
    from loop4.policies.people import People
    from loop4.settings import load_settings

    token = load_settings().token.reveal()
    if not token:
        raise UsageError("LOOP4_TOKEN is not set; set it to your token")
    path = operations_folder(operations) / "policies" / "people.yaml"
    person = People.load(path).find_voter(token, now_ms=time.time_ns() // 1_000_000)
    if person is None:
        raise Loop4Error(f"the token in LOOP4_TOKEN belongs to nobody in {str(path)!r}")
    return person


@overload
def operations_folder(operations: Path | None, *, required: Literal[True] = True) -> Path: ...
@overload
def operations_folder(operations: Path | None, *, required: bool) -> Path | None: ...
def operations_folder(operations: Path | None, *, required: bool = True) -> Path | None:
    """The folder that is named, or that of the settings. Raises UsageError if one is required and
    none is set.
    """
    from loop4.settings import load_settings

    folder = operations or load_settings().operations
    if folder is None and required:
        raise UsageError("no operations folder; pass --operations DIR or set LOOP4_OPERATIONS")
    return folder
