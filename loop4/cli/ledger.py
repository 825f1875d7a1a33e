"""`loop4 ledger status | migrate`: its schema version, and the way to the present one."""

from __future__ import annotations

import json
import time

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, ledger_place

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Show a ledger's schema version, or migrate it.",
)


@app.command()
def status(data: DataOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Print which version the ledger has and which one this Loop4 reads; exit 1 if they differ."""
    from loop4.ledger.migrate import status as look

    found = look(ledger_place(data, db))
    if as_json:
        body = {
            "version": found.version,
            "newest": found.newest,
            "current": found.is_current,
            "records": found.records,
        }
        typer.echo(json.dumps(body, indent=2))
    else:
        then = "current" if found.is_current else f"this Loop4 reads {found.newest}"
        typer.echo(f"{found.name}: schema version {found.version}, {then}; {found.records} records")
    if not found.is_current:
        raise typer.Exit(1)


@app.command()
def migrate(data: DataOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Bring the ledger to the present version. A file is copied first; evidence is verified."""
    from loop4.ledger.migrate import migrate as run

    done = run(ledger_place(data, db), stamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    if as_json:
        body = {
            "before": done.before,
            "after": done.after,
            "records": done.records,
            "backup": str(done.backup) if done.backup else None,
        }
        typer.echo(json.dumps(body, indent=2))
    elif done.before == done.after:
        typer.echo(f"{done.name}: schema version {done.after} already; nothing changed")
    else:
        kept = f"; the old one is {str(done.backup)!r}" if done.backup else ""
        typer.echo(
            f"{done.name}: schema version {done.before} -> {done.after}, "
            f"{done.records} records verified{kept}"
        )
