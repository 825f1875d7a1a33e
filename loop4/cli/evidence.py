"""`loop4 evidence`: show, verify, sign and export the evidence chain."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli import evidence_signed
from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc

if TYPE_CHECKING:
    from loop4.ledger.checkpoints import AnchorReport
    from loop4.ledger.evidence import EvidenceRecord, VerifyReport
    from loop4.ledger.ledger import Tx
    from loop4.ledger.signing import PublicKey

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Show, verify, sign and export the evidence chain.",
)
app.command()(evidence_signed.keygen)
app.command()(evidence_signed.checkpoint)
app.command()(evidence_signed.export)


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
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Check this export instead.")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="PUB", help="Public key of who signed; repeatable."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="A checkpoint kept; repeatable."),
    ] = None,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the whole chain, or an export; exit 1 and name what was changed, if anything was.

    The chain is compared with its signed checkpoints, those in the second place included. An export
    needs the public key and nothing else.
    """
    from loop4.errors import EvidenceError, UsageError

    anchors = dict(_anchor(text) for text in anchor or ())
    if export is not None:
        if not key:
            raise UsageError("--export needs --key, the public key of who signed it")
        if anchors or data is not None or db is not None:
            raise UsageError("--export is checked alone; leave out --anchor, --data and --db")
        evidence_signed.verify_export(export, key, checkpoint or [], as_json=as_json)
        return
    from loop4.ledger import evidence  # an export is checked without a database's library

    public = evidence_signed.known_public_keys(key or [])
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        report = evidence.verify(tx, anchors)
        signed = _compare(tx, public, checkpoint or [], data, is_whole=report.ok)
    problem = report.problem or signed.problem
    if as_json:
        typer.echo(json.dumps(_verified_json(report, signed, bool(public)), indent=2))
        if problem:
            raise typer.Exit(1)
        return
    if problem:
        raise EvidenceError(plain(f"{problem}; the evidence in this ledger was altered"))
    typer.echo(f"evidence ok: {report.records} records, every column as it was written")
    for line in _signed_lines(signed, bool(public)):
        typer.echo(line)
    typer.echo(f"anchor {report.records}:{report.head}")


def _compare(
    tx: Tx, public: list[PublicKey], kept: list[Path], data: Path | None, *, is_whole: bool
) -> AnchorReport:
    """A chain that is broken in itself is compared with nothing: its first fault is told."""
    from loop4.ledger import checkpoints, second_place

    copies = [(str(path), second_place.read_file(path)) for path in kept]
    folder = evidence_signed.known_second_place(None, data)
    if not is_whole:
        return checkpoints.AnchorReport("", 0, 0, None)
    if folder is not None:
        copies += second_place.copies_in(folder)
    return checkpoints.compare(tx, public, copies)


def _signed_lines(signed: AnchorReport, is_checked: bool) -> list[str]:
    if signed.latest is None:
        return ["no signed checkpoint yet: `loop4 evidence checkpoint` makes one"]
    lines = [f"last checkpoint: {evidence_signed.told(signed.latest)}"]
    lines.append(
        f"checkpoints that agree: {signed.in_ledger} in the ledger, {signed.copies} kept elsewhere"
    )
    if not is_checked:
        lines.append("signatures not checked: give --key, the public key of who signed")
    return lines


def _verified_json(report: VerifyReport, signed: AnchorReport, checked: bool) -> dict[str, object]:
    return {
        "ok": report.ok and not signed.problem,
        "records": report.records,
        "first_bad_seq": report.first_bad_seq,
        "problem": report.problem or signed.problem,
        "head": report.head,
        "checkpoints": {
            "in_ledger": signed.in_ledger,
            "elsewhere": signed.copies,
            "signatures_checked": checked,
            "last": signed.latest.as_json() if signed.latest else None,
        },
    }


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
