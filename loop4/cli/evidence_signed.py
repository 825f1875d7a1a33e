"""`loop4 evidence keygen | checkpoint | export`, and what `verify` needs of signatures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc

if TYPE_CHECKING:
    from loop4.ledger.export_check import ExportReport
    from loop4.ledger.signing import PublicKey, Signer
    from loop4.ledger.statements import Checkpoint

SigningKeyOption = Annotated[
    Path | None,
    typer.Option("--signing-key", metavar="FILE", help="Private key; default: settings."),
]


def keygen(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new files.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key pair for signing evidence: two new files; the private one is yours alone."""
    from loop4.ledger import signing

    signer = signing.generate_keys(out)
    private, public = out / signing.PRIVATE_NAME, out / signing.PUBLIC_NAME
    if as_json:
        answer = {
            "private": str(private),
            "public": str(public),
            "key_id": signer.public.key_id,
        }
        typer.echo(json.dumps(answer, indent=2))
        return
    typer.echo(f"private key  {private}  (keep it; set LOOP4_SIGNING_KEY to it)")
    typer.echo(f"public key   {public}  (give it to whoever checks)")
    typer.echo(f"key id       {signer.public.key_id}")


def checkpoint(
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Second place for a copy; default: settings."),
    ] = None,
    signing_key: SigningKeyOption = None,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign the chain as it stands now; a copy goes to the second place."""
    from loop4.ledger import checkpoints

    signer, folder = load_signing_key(signing_key), known_second_place(to, data)
    with open_ledger(data, db, read_only=False) as ledger:
        signed = checkpoints.checkpoint_now(ledger, signer, _now_ms(), folder=folder)
    if as_json:
        answer = {
            "checkpoint": signed.as_json() if signed else None,
            "second_place": str(folder) if folder else None,
        }
        typer.echo(json.dumps(answer, indent=2))
        return
    typer.echo(f"signed {told(signed)}" if signed else "no evidence yet: nothing to sign")
    if folder is None:
        typer.echo(
            "no second place is set (LOOP4_CHECKPOINTS or --to): whoever owns the ledger could "
            "still cut its end and this checkpoint with it"
        )
    elif signed:
        typer.echo(f"copy in {folder}")


def export(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")],
    incident: Annotated[
        str | None,
        typer.Option("--incident", metavar="ID", help="Only this incident, with proofs."),
    ] = None,
    signing_key: SigningKeyOption = None,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write evidence as signed JSON lines that a stranger can check with the public key alone."""
    from loop4.errors import UsageError
    from loop4.ledger import export_write

    if not out.parent.is_dir():
        raise UsageError(f"--out {str(out)!r}: its folder does not exist; make it first")
    if out.is_dir():
        raise UsageError(f"--out {str(out)!r} is a folder; name a file")
    if incident == "":
        raise UsageError("--incident is empty; name one, or leave it out to export everything")
    signer, folder = load_signing_key(signing_key), known_second_place(None, data)
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        done = export_write.write_export(
            tx, signer, out, _now_ms(), incident_id=incident or "", folder=folder
        )
    if as_json:
        answer = {
            "file": str(out),
            "incident_id": incident or "",
            "records": done.records,
            "checkpoint": done.checkpoint.as_json(),
        }
        typer.echo(json.dumps(answer, indent=2))
        return
    what = f"{done.records} records" + (f" of incident {plain(incident)}" if incident else "")
    typer.echo(f"exported {what} to {out}")
    typer.echo(f"signed {told(done.checkpoint)}")


def verify_export(path: Path, public_keys: list[Path], kept: list[Path], *, as_json: bool) -> None:
    """Check an export and print what it is worth; exit 1 and name what was done to it, if any."""
    from loop4.errors import EvidenceError
    from loop4.ledger import second_place, signing
    from loop4.ledger.export_check import check_export

    keys = [signing.load_public_key(file) for file in public_keys]
    given = [(f"checkpoint {str(file)!r}", second_place.read_file(file)) for file in kept]
    report = check_export(path, keys, given)
    if as_json:
        typer.echo(json.dumps(_export_json(report), indent=2))
        if report.tampering is not None:
            raise typer.Exit(1)
        return
    if report.tampering is not None or report.signed is None:
        raise EvidenceError(plain(f"{report.tampering}: {report.problem}"))
    of = f" of incident {plain(report.incident_id)}" if report.incident_id else ""
    typer.echo(f"evidence ok: {report.records} records{of}, every column as it was signed")
    typer.echo(f"signed {told(report.signed)}")
    if report.agreeing:
        kept_ones = "checkpoint that was" if report.agreeing == 1 else "checkpoints that were"
        typer.echo(f"agrees with {report.agreeing} {kept_ones} kept elsewhere")


def known_second_place(given: Path | None, data: Path | None) -> Path | None:
    """Return the folder given, else that of the settings, None for neither. Raises UsageError if it
    cannot be one.
    """
    from loop4.ledger.second_place import check_second_place
    from loop4.settings import load_settings

    settings = load_settings()
    folder = given or settings.checkpoints
    return None if folder is None else check_second_place(folder, data or settings.data)


def load_signing_key(path: Path | None) -> Signer:
    """Return the private key of the command line, else of the settings. UsageError for neither."""
    from loop4.errors import UsageError
    from loop4.ledger.signing import load_signer

    if path is None:
        from loop4.settings import load_settings

        path = load_settings().signing_key
    if path is None:
        raise UsageError(
            "no key to sign with; set LOOP4_SIGNING_KEY or give --signing-key (`loop4 evidence "
            "keygen --out DIR` makes one)"
        )
    return load_signer(path)


def known_public_keys(paths: list[Path]) -> list[PublicKey]:
    """Return the public keys given, else that of the settings' private key, if there is one."""
    from loop4.ledger.signing import load_public_key, load_signer
    from loop4.settings import load_settings

    if paths:
        return [load_public_key(path) for path in paths]
    private = load_settings().signing_key
    return [load_signer(private).public] if private is not None else []


def told(checkpoint: Checkpoint) -> str:
    """Return a checkpoint as one line says it."""
    return (
        f"{checkpoint.size} records at {utc(checkpoint.at_ms)}, root {checkpoint.root[:16]}, "
        f"key {checkpoint.key_id[:16]}"
    )


def _export_json(report: ExportReport) -> dict[str, object]:
    return {
        "ok": report.tampering is None,
        "tampering": report.tampering.value if report.tampering else None,
        "problem": report.problem,
        "seq": report.seq,
        "line": report.line,
        "incident_id": report.incident_id,
        "records": report.records,
        "checkpoint": report.signed.as_json() if report.signed else None,
        "agreeing_checkpoints": report.agreeing,
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
