"""Modes that people set while the fleet runs: `mode.ENVIRONMENT/SERVICE/CLASS` as rows of
`parameters`, `*` for every service.

A row that cannot be read holds the narrowest mode; none silences pages, which only the files can.
One that names an approval is approved only if the ledger holds that approval, used up, for this
scope and at least this mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from loop4.domain import ApprovalState, Json, Mode, ModeSetting, ToolClass
from loop4.ledger import approvals, parameters
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import parameters as table

PREFIX = "mode."
EVERY = "*"
SETTABLE = (ToolClass.WRITE, ToolClass.NOTIFY)
_ROWS = select(table).where(table.c.name.startswith(PREFIX)).order_by(table.c.name)
_WIDTH = (Mode.OBSERVE, Mode.SUGGEST, Mode.ACT)


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One row with who set it. `problem` says why it holds something else than what it says."""

    name: str
    setting: ModeSetting
    set_by: str
    set_ms: int
    approval_id: str = ""
    problem: str = ""


def rows(tx: Tx) -> tuple[ModeRow, ...]:
    """What is set, by name."""
    return tuple(
        _row(tx, row["name"], row["value"], row["set_by"], row["set_ms"]) for row in tx.rows(_ROWS)
    )


def read(tx: Tx) -> tuple[ModeSetting, ...]:
    """The settings in force, by name."""
    return tuple(row.setting for row in rows(tx))


def name_of(environment: str, service: str, tool_class: ToolClass) -> str:
    """The name of the row of one scope; `service` "" = every one."""
    return f"{PREFIX}{environment}/{service or EVERY}/{tool_class}"


def find(tx: Tx, environment: str, service: str, tool_class: ToolClass) -> ModeRow | None:
    """The row of exactly this scope, or None."""
    name = name_of(environment, service, tool_class)
    return next((row for row in rows(tx) if row.name == name), None)


def put(
    tx: Tx, setting: ModeSetting, *, by: str, reason: str, now_ms: int, approval_id: str = ""
) -> None:
    """Set the mode of one scope, whatever it was. Wider than the files it counts only with the
    approval that it names.
    """
    name = name_of(setting.environment, setting.service, setting.tool_class)
    value = f"{setting.mode} {approval_id}" if approval_id else str(setting.mode)
    parameters.put(tx, name, value, by=by, reason=reason, now_ms=now_ms)


def clear(
    tx: Tx,
    environment: str,
    service: str,
    tool_class: ToolClass,
    *,
    by: str,
    reason: str,
    now_ms: int,
) -> bool:
    """Unset the mode of one scope: the files hold again. False: it was not set."""
    name = name_of(environment, service, tool_class)
    return parameters.clear(tx, name, by=by, reason=reason, now_ms=now_ms)


def _row(tx: Tx, name: str, value: str, set_by: str, set_ms: int) -> ModeRow:
    environment, _, rest = name.removeprefix(PREFIX).partition("/")
    service, _, word = rest.partition("/")
    if not environment or not service or word not in SETTABLE:
        everywhere = ModeSetting("", "", ToolClass.WRITE, Mode.OBSERVE)
        problem = "its name cannot be read: every write is only observed"
        return ModeRow(name, everywhere, set_by, set_ms, problem=problem)
    scope = environment, "" if service == EVERY else service, ToolClass(word)
    said, _, approval_id = value.partition(" ")
    if scope[2] is ToolClass.NOTIFY and said not in (Mode.SUGGEST, Mode.ACT):
        setting, problem = ModeSetting(*scope, Mode.SUGGEST), "a mode does not silence the fleet"
        return ModeRow(name, setting, set_by, set_ms, problem=problem)
    if said not in tuple(Mode):
        setting = ModeSetting(*scope, Mode.OBSERVE)
        return ModeRow(name, setting, set_by, set_ms, problem=f"unknown mode {said!r}: observe")
    is_approved = bool(approval_id) and _is_granted(tx, approval_id, scope, Mode(said))
    problem = (
        f"approval {approval_id!r} does not stand behind it: never wider than the files"
        if approval_id and not is_approved
        else ""
    )
    setting = ModeSetting(*scope, Mode(said), is_approved)
    return ModeRow(name, setting, set_by, set_ms, approval_id, problem)


def _is_granted(tx: Tx, approval_id: str, scope: tuple[str, str, ToolClass], mode: Mode) -> bool:
    known = approvals.get(tx, approval_id)
    if known is None or known.approval.state is not ApprovalState.CONSUMED:
        return False
    asked = known.payload.get("action_requests")
    first = asked[0] if isinstance(asked, list) and asked else None
    arguments: Json = first.get("args") if isinstance(first, dict) else None
    if not isinstance(arguments, dict):
        return False
    granted = arguments.get("mode")
    return (
        tuple(arguments.get(k) for k in ("environment", "service", "class")) == scope
        and granted in _WIDTH
        and _WIDTH.index(mode) <= _WIDTH.index(Mode(str(granted)))
    )
