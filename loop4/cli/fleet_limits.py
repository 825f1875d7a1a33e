"""`loop4 fleet limits [set | clear]`: how much of each kind of work runs at a time.

What is set here comes over fleet.yaml; workers take it up while they run, at their next pump.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.cli.voter import OperationsOption, operations_folder, voter

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.engine import QueueLimits
    from loop4.ledger.parameters import Parameter
    from loop4.policies.people import Person

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Show or set how much of each kind of work runs at a time.",
)

QueueArgument = Annotated[
    str, typer.Argument(metavar="QUEUE", help="events, runs, sweeps or housekeeping.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for the evidence and the others.")
]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set how much of each kind of work runs at a time."""
    if context.invoked_subcommand is not None:
        return
    from loop4.ledger import limits

    now_ms = _now_ms()
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        given, rows = limits.read(tx, now_ms), limits.rows(tx, now_ms)
    _print(_queues(operations), given, rows, as_json=as_json)


@app.command("set")
def set_limits(
    queue: QueueArgument,
    reason: ReasonOption,
    per_worker: Annotated[
        int | None, typer.Option("--per-worker", metavar="N", help="In one worker; 0: no limit.")
    ] = None,
    in_all: Annotated[
        int | None, typer.Option("--in-all", metavar="N", help="In all workers; 0: no limit.")
    ] = None,
    starts_per_s: Annotated[
        int | None, typer.Option("--starts-per-s", metavar="N", help="A second; 0: no limit.")
    ] = None,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set limits of one queue; those that are not named stay."""
    from loop4.errors import UsageError
    from loop4.ledger import limits

    asked = {"per_worker": per_worker, "in_all": in_all, "starts_per_s": starts_per_s}
    given = {field: value for field, value in asked.items() if value is not None}
    if not given:
        raise UsageError("nothing to set; name --per-worker, --in-all or --starts-per-s")
    for field, value in given.items():
        if not 0 <= value <= limits.LARGEST:
            option = "--" + field.replace("_", "-")
            raise UsageError(f"{option} {value}: expected 0 (no limit) to {limits.LARGEST}")
    _has_reason(reason)
    of_files = _queues(operations)
    _is_known(queue, of_files)
    person, now_ms = _person(operations), _now_ms()
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        _is_consistent(queue, of_files, {**limits.read(tx, now_ms), **_named(queue, given)})
        limits.put(tx, queue, given, by=person.name, reason=reason, now_ms=now_ms)
        known, rows = limits.read(tx, now_ms), limits.rows(tx, now_ms)
    _print(of_files, known, rows, only=queue, as_json=as_json)


@app.command()
def clear(
    queue: QueueArgument,
    reason: ReasonOption,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the word back to fleet.yaml for one queue."""
    from loop4.ledger import limits

    _has_reason(reason)
    of_files = _queues(operations)
    _is_known(queue, of_files)
    person, now_ms = _person(operations), _now_ms()
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        limits.clear(tx, queue, by=person.name, reason=reason, now_ms=now_ms)
        known, rows = limits.read(tx, now_ms), limits.rows(tx, now_ms)
    _print(of_files, known, rows, only=queue, as_json=as_json)


def _has_reason(reason: str) -> None:
    from loop4.errors import UsageError

    if not reason.strip():
        raise UsageError("--reason: say why; it stands in the evidence")


def _queues(operations: Path | None) -> tuple[QueueLimits, ...]:
    """The limits of fleet.yaml, the shipped one without an operations folder of one's own."""
    from loop4.policies.fleet_schedule import load_fleet_schedule
    from loop4.service import SWEEPS, limits_of

    folder = operations_folder(operations)
    return limits_of(load_fleet_schedule(folder, sweeping=tuple(SWEEPS)))


def _is_known(queue: str, known: tuple[QueueLimits, ...]) -> None:
    from loop4.errors import UsageError
    from loop4.policies.documents import unknown

    if queue not in [q.name for q in known]:
        raise UsageError(unknown("queue", queue, [q.name for q in known]))


def _is_consistent(queue: str, of_files: tuple[QueueLimits, ...], given: Mapping[str, int]) -> None:
    """One worker's limit must not be above that of all, as in fleet.yaml. Raises UsageError."""
    from loop4.errors import UsageError

    file = next(q for q in of_files if q.name == queue)
    per_worker = given.get(f"queue.{queue}.per_worker", file.per_worker)
    in_all = given.get(f"queue.{queue}.in_all", file.in_all)
    if in_all and per_worker > in_all:
        raise UsageError(
            f"queue {queue!r}: per_worker {per_worker} is above in_all {in_all}; set both"
        )


def _named(queue: str, given: Mapping[str, int]) -> dict[str, int]:
    return {f"queue.{queue}.{field}": value for field, value in given.items()}


def _person(operations: Path | None) -> Person:
    """Who is at the keyboard. Raises Loop4Error for somebody whose role does not suffice."""
    from loop4.errors import Loop4Error
    from loop4.policies.people import change_fault

    person = voter(operations)
    fault = change_fault(person)
    if fault:
        raise Loop4Error(fault)
    return person


def _print(
    of_files: tuple[QueueLimits, ...],
    given: Mapping[str, int],
    rows: tuple[Parameter, ...],
    *,
    only: str = "",
    as_json: bool,
) -> None:
    from loop4.engine import limits_from
    from loop4.ledger.limits import FIELDS

    shown = [
        (file, now)
        for file, now in zip(of_files, limits_from(of_files, given), strict=True)
        if only in ("", file.name)
    ]
    kept = [r for r in rows if not only or r.name.startswith(f"queue.{only}.")]
    if as_json:
        body: dict[str, Json] = {
            "queues": {
                now.name: {
                    **{f: getattr(now, f) for f in FIELDS},
                    "file": {f: getattr(file, f) for f in FIELDS},
                }
                for file, now in shown
            },
            "set": [_row_json(row) for row in kept],
        }
        typer.echo(json.dumps(body, indent=2))
        return
    for file, now in shown:
        words = [_word(f, getattr(now, f), getattr(file, f)) for f in FIELDS]
        typer.echo(plain(f"{now.name}: {', '.join(words)}"))
    for row in kept:
        said = f"{row.name}: {row.value}, set by {row.set_by} at {utc(row.set_ms)}"
        fault = "" if _row_json(row)["counts"] else "; no limit that counts, the file's holds"
        typer.echo(plain(said + fault))


def _word(field: str, now: int, file: int) -> str:
    said = f"{field} {now or 'no limit'}"
    return said if now == file else f"{said} (fleet.yaml: {file or 'no limit'})"


def _row_json(row: Parameter) -> dict[str, Json]:
    from loop4.ledger.limits import is_limit

    return {
        "name": row.name,
        "value": row.value,
        "counts": is_limit(row.value),
        "set_by": row.set_by,
        "set_ms": row.set_ms,
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
