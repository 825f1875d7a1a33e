"""`loop4 policy import PATH` and `loop4 policy explain --agent X`.

The organisation's own policies as limits of the gate, and what an agent may then do.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from loop4.domain import ModeSetting


def import_organisation(
    path: Path, *, out: Path | None = None, rules: Path | None = None, as_json: bool = False
) -> None:
    """Print what the repository's numbers became; with `out`, write the limits file there.

    Raises PolicyError for a path without policies; nothing is written then.
    """
    from loop4.cli.data_folder import plain
    from loop4.policies.load import load_policy
    from loop4.policies.organisation.importing import import_repository
    from loop4.policies.organisation.limits_file import write_limits
    from loop4.policies.organisation.report import lines, to_json
    from loop4.policies.severity import load_severity

    now_ms = time.time_ns() // 1_000_000
    found = import_repository(path, load_policy(rules), load_severity(), now_ms)
    written = write_limits(found, out) if out is not None else None
    if as_json:
        body = {"report": to_json(found), "written": str(written) if written else ""}
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    for line in lines(found):
        typer.echo(plain(line))
    if written is not None:
        typer.echo()
        typer.echo(plain(f"written: {written}; the gate holds it from the next load on"))


def explain_agent(
    agent: str,
    operations: Path | None = None,
    rules: Path | None = None,
    data: Path | None = None,
    db: str | None = None,
    as_json: bool = False,
) -> None:
    """Print what an agent may run, when, and who is asked, from the rules that are loaded and the
    modes that a ledger sets; that of the settings if none is named, if there is one.

    Raises UsageError for an unknown agent, naming the nearest.
    """
    from loop4.cli.data_folder import plain
    from loop4.cli.voter import operations_folder
    from loop4.errors import UsageError
    from loop4.graphs.act import executable_tools
    from loop4.graphs.assemble import AGENTS, READ_TOOLS
    from loop4.policies.documents import unknown
    from loop4.policies.load import bindings_of, load_policy
    from loop4.policies.permissions import lines, permissions, to_json

    fleet = {one.name: one for one in AGENTS}
    if agent not in fleet:
        raise UsageError(unknown("agent", agent, fleet))
    folder = operations_folder(operations, required=False)
    files = bindings_of(folder / "policies") if folder is not None else ()
    policy = load_policy(rules, files, executors=executable_tools() | READ_TOOLS)
    found = permissions(policy.under(_settings(data, db)), agent, fleet[agent].may_propose)
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, ensure_ascii=False))
        return
    for line in lines(found):
        typer.echo(plain(line))


def _settings(data: Path | None, db: str | None) -> tuple[ModeSetting, ...]:
    """What people set in the ledger; nothing where there is none yet."""
    from loop4.cli.data_folder import ledger_place, open_ledger
    from loop4.ledger import modes

    place = ledger_place(data, db)
    if data is None and db is None and isinstance(place, Path) and not place.exists():
        return ()
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        return modes.read(tx)
