"""`loop4 evidence show | verify`: the evidence chain of a data folder, read only."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc

if TYPE_CHECKING:
    from loop4.ledger.evidence import EvidenceRecord

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Show and verify the evidence chain.",
)


@app.command()
def show(
    incident: Annotated[
        str | None, typer.Option("--incident", metavar="ID", help="Only this incident.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only this kind; repeatable.")
    ] = None,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the records, oldest first."""
    from loop4.ledger import evidence

    with open_ledger(data, db) as ledger, ledger.read() as tx:
        records = evidence.list_records(tx, incident, kind or None)
    if as_json:
        typer.echo(json.dumps([_as_json(record) for record in records], indent=2))
        return
    for record in records:
        names = [record.incident_id, record.run_id, record.action_id[:12]]
        about = " ".join(name for name in names if name)
        typer.echo(plain(f"{record.seq:>5}  {utc(record.at_ms)}  {record.kind}  {about}"))
        typer.echo(plain(f"       {json.dumps(record.body, ensure_ascii=False, sort_keys=True)}"))
    if not records:
        typer.echo("no evidence" + (f" of incident {incident!r}" if incident else ""))


@app.command()
def verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="SEQ:DIGEST", help="A head noted earlier; repeatable."),
    ] = None,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the whole chain; exit 1 and name the first record that was changed, if any."""
    from loop4.errors import EvidenceError
    from loop4.ledger import evidence

    anchors = dict(_anchor(text) for text in anchor or ())

    with open_ledger(data, db) as ledger, ledger.read() as tx:
        report = evidence.verify(tx, anchors)
    if as_json:
        answer = {
            "ok": report.ok,
            "records": report.records,
            "first_bad_seq": report.first_bad_seq,
            "problem": report.problem,
            "head": report.head,
        }
        typer.echo(json.dumps(answer, indent=2))
        if not report.ok:
            raise typer.Exit(1)
        return
    if not report.ok:
        raise EvidenceError(plain(f"{report.problem}; the evidence in this ledger was altered"))
    typer.echo(f"evidence ok: {report.records} records, every column as it was written")
    typer.echo(f"anchor {report.records}:{report.head}")


def _anchor(text: str) -> tuple[int, str]:
    from loop4.errors import UsageError

    seq, _, digest = text.partition(":")
    if not (seq.isdecimal() and int(seq) and re.fullmatch(r"[0-9a-f]{64}", digest)):
        raise UsageError(f"anchor {text!r}: expected SEQ:DIGEST as `evidence verify` prints it")
    return int(seq), digest


def _as_json(record: EvidenceRecord) -> dict[str, object]:
    return {
        "seq": record.seq,
        "previous": record.previous,
        "digest": record.digest,
        "kind": record.kind,
        "incident_id": record.incident_id,
        "run_id": record.run_id,
        "action_id": record.action_id,
        "trace_id": record.trace_id,
        "at_ms": record.at_ms,
        "body": record.body,
    }
