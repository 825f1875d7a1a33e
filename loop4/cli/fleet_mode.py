"""`loop4 fleet mode [set | clear]`: how far the fleet may go, and who changes that.

Narrower holds from the next decision on. Wider is a request that others vote on; it comes into
force with the deciding vote, if the gate says so once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.cli.fleet_options import RulesOption
from loop4.cli.voter import OperationsOption, operations_folder, voter

if TYPE_CHECKING:
    from loop4.domain import Json, Mode
    from loop4.graphs.mode_change import Changed
    from loop4.ledger.modes import ModeRow
    from loop4.policies.catalogue import Catalogue
    from loop4.policies.mode_change import ModeChange
    from loop4.policies.mode_table import ModeLine
    from loop4.policies.policy import Policy

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Show how far the fleet may go, narrow it, or ask for more.",
)

PlaceArgument = Annotated[
    str, typer.Argument(metavar="ENVIRONMENT[/SERVICE]", help="Where, as the catalogue names it.")
]
ClassArgument = Annotated[str, typer.Argument(metavar="CLASS", help="write or notify.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for the evidence and the others.")
]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far the fleet may go, narrow it, or ask for more."""
    if context.invoked_subcommand is not None:
        return
    from loop4.ledger import modes

    with open_ledger(data, db) as ledger, ledger.read() as tx:
        rows = modes.rows(tx)
    lines = modes_now(operations, rules, rows)
    if as_json:
        body = {"modes": [line.to_json() for line in lines], "set": [row_json(r) for r in rows]}
        typer.echo(json.dumps(body, indent=2))
        return
    for line in lines:
        typer.echo(plain(_told(line)))
    for row in rows:
        typer.echo(plain(row_line(row)))


@app.command("set")
def set_mode(
    place: PlaceArgument,
    tool_class: ClassArgument,
    mode: Annotated[
        str, typer.Argument(metavar="MODE", help="observe, suggest or act, narrowest first.")
    ],
    reason: ReasonOption,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a mode: a narrower one holds from the next decision on, a wider one asks others first."""
    from loop4.domain import Mode
    from loop4.errors import UsageError
    from loop4.policies.documents import unknown

    if mode not in tuple(Mode):
        raise UsageError(unknown("mode", mode, Mode))
    _change(place, tool_class, Mode(mode), reason, data, db, operations, rules, as_json=as_json)


@app.command()
def clear(
    place: PlaceArgument,
    tool_class: ClassArgument,
    reason: ReasonOption,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the word back to the policy files; where they are wider, others are asked first."""
    _change(place, tool_class, None, reason, data, db, operations, rules, as_json=as_json)


def modes_now(
    operations: Path | None, rules: Path | None, rows: Sequence[ModeRow]
) -> tuple[ModeLine, ...]:
    """The modes in force by the files as they stand now and what people set."""
    from loop4.policies.mode_table import mode_lines

    policy = policy_of(operations, rules).under([row.setting for row in rows])
    return mode_lines(policy, _catalogue(operations))


def row_json(row: ModeRow) -> dict[str, Json]:
    """What a person set, as JSON."""
    setting = row.setting
    return {
        "name": row.name,
        "environment": setting.environment,
        "service": setting.service,
        "class": setting.tool_class.value,
        "mode": setting.mode.value,
        "approved": setting.is_approved,
        "approval": row.approval_id,
        "set_by": row.set_by,
        "set_ms": row.set_ms,
        "problem": row.problem,
    }


def row_line(row: ModeRow) -> str:
    """What a person set, in a line."""
    by = f" under {row.approval_id}" if row.setting.is_approved else ""
    said = f"{row.name}: {row.setting.mode}, set by {row.set_by} at {utc(row.set_ms)}{by}"
    return f"{said}; {row.problem}" if row.problem else said


def _told(line: ModeLine) -> str:
    place = f"{line.environment}/{line.service}" if line.service else line.environment
    said = f"{place} {line.tool_class}: {line.mode}"
    if line.mode is not line.bound:
        said += f" (the files say {line.bound})"
    if line.ceiling is not line.bound:
        said += f"; an approval may widen it to {line.ceiling}"
    return said


def _change(
    place: str,
    tool_class: str,
    mode: Mode | None,
    reason: str,
    data: Path | None,
    db: str | None,
    operations: Path | None,
    rules: Path | None,
    *,
    as_json: bool,
) -> None:
    from loop4.errors import Loop4Error, UsageError
    from loop4.graphs.mode_change import change_mode

    if not reason.strip():
        raise UsageError("--reason: say why; it stands in the evidence")
    policy = policy_of(operations, rules)
    change = _read(place, tool_class, mode, policy, _catalogue(operations))
    person = voter(operations)
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        changed = change_mode(tx, policy, change, person, reason, _now_ms())
    if as_json:
        typer.echo(json.dumps(_changed_json(change, changed), indent=2))
    if changed.outcome == "refused":
        why = "; ".join(changed.reasons)
        error = Loop4Error(plain(f"{change.scope} stays {changed.before}: {why}"))
        raise typer.Exit(1) if as_json else error
    if not as_json:
        typer.echo(plain(_changed_line(change, changed)))


def _changed_json(change: ModeChange, changed: Changed) -> dict[str, Json]:
    request = changed.request
    return {
        "outcome": changed.outcome,
        "environment": change.environment,
        "service": change.service,
        "class": change.tool_class.value,
        "before": changed.before.value,
        "after": changed.after.value,
        "reasons": list(changed.reasons),
        "approval_id": request.approval.approval_id if request else "",
        "role": request.approval.role if request else "",
        "need": request.approval.need if request else 0,
        "expires_ms": request.approval.expires_ms if request else 0,
    }


def _changed_line(change: ModeChange, changed: Changed) -> str:
    request = changed.request
    if request is not None:
        approval = request.approval
        return (
            f"{change.scope} stays {changed.before} until {approval.need} x {approval.role} "
            f"approve {changed.after}: loop4 approvals approve {approval.approval_id} "
            f"(until {utc(approval.expires_ms)}; never by {approval.requester})"
        )
    if changed.outcome == "unchanged":
        return f"{change.scope} is {changed.before} already; nothing was changed"
    return f"{change.scope}: {changed.before} -> {changed.after}, from the next decision on"


def _read(
    place: str, tool_class: str, mode: Mode | None, policy: Policy, catalogue: Catalogue
) -> ModeChange:
    """The change that the words ask for. Raises UsageError for what is unknown."""
    from loop4.domain import ToolClass
    from loop4.errors import UsageError
    from loop4.ledger.modes import SETTABLE
    from loop4.policies.documents import unknown
    from loop4.policies.mode_change import ModeChange

    environment, mark, service = place.partition("/")
    known = policy.facts["environment"].values
    if environment not in known:
        raise UsageError(unknown("environment", environment, known))
    here = tuple(s.name for s in catalogue.services if s.environment == environment)
    if mark and service not in here:
        raise UsageError(f"{unknown('service', service, here)} in {environment}")
    if tool_class not in SETTABLE:
        raise UsageError(unknown("class", tool_class, SETTABLE))
    return ModeChange(environment, service, ToolClass(tool_class), mode, here)


def policy_of(operations: Path | None, rules: Path | None = None) -> Policy:
    """The policy as its files stand now."""
    from loop4.policies.load import bindings_of, load_policy
    from loop4.settings import load_settings

    folder = operations_folder(operations)
    return load_policy(rules or load_settings().rules, bindings_of(folder / "policies"))


def _catalogue(operations: Path | None) -> Catalogue:
    from loop4.policies.catalogue import load_catalogue

    return load_catalogue(operations_folder(operations) / "policies" / "services.yaml")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
