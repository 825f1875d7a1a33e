"""What the commands over a data folder share: their options, its ledger, safe text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loop4.ledger.ledger import Ledger

DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder; default: settings.")
]
DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="PostgreSQL database instead of the data folder's ledger; default: settings.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_ledger(data: Path | None, db: str | None = None, *, read_only: bool = True) -> Ledger:
    """Open the ledger behind a URL or in a data folder, that of the settings if neither is given.

    Never makes a new one.
    """
    from loop4.ledger.ledger import Ledger

    return Ledger.open(ledger_place(data, db), read_only=read_only, create=False)


def ledger_place(data: Path | None, db: str | None) -> Path | str:
    """Where the ledger lies: what the command line says comes before the settings."""
    if db:
        return db
    if data is not None:
        return data / "ledger.db"
    from loop4.settings import load_settings

    return load_settings().ledger


def utc(at_ms: int) -> str:
    """Return a time as people write it, in UTC to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def plain(text: str) -> str:
    """Return one line without control characters: stored text may come from outside."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
