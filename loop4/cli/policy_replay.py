"""`loop4 policy replay`: what past decisions would have been under other rules."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import open_ledger, plain, utc
from loop4.cli.policy_options import BindingsOption, JsonOption, RulesOption
from loop4.errors import InputError

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.ledger.ledger import Ledger
    from loop4.policies.replay import PastDecision, Replayed, Turned

_MOST_LINES = 50


def replay(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR|RECORDING",
            help="Data folder with past decisions, or a recording; default: settings.",
        ),
    ] = None,
    rules: RulesOption = None,
    bindings: BindingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every past decision again under these rules, on the facts and at the time of then, and
    list what would change. A recording is first decided under the shipped rules. Exit 0 whatever
    changes.
    """
    from loop4.policies.load import load_policy
    from loop4.policies.replay import PolicyReplay

    engine = PolicyReplay(load_policy(rules, bindings or ()))
    started = time.perf_counter()
    if data is not None and data.is_file():
        found = engine.run(_of_recording(data))
    else:
        with open_ledger(data) as ledger:
            found = engine.run(_of_ledger(ledger))
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(json.dumps(_as_json(found, seconds), indent=2))
        return
    typer.echo("\n".join(_lines(found, seconds)))


def _of_ledger(ledger: Ledger) -> Iterator[PastDecision]:
    from loop4.ledger.decisions import recorded_decisions
    from loop4.policies.replay import past_decision

    with ledger.read() as tx:
        for record in recorded_decisions(tx):
            past = past_decision(
                record.seq, record.at_ms, record.body, record.service, record.environment
            )
            if past is None:
                raise InputError(
                    f"evidence record {record.seq} is no decision as Loop4 writes them"
                )
            yield past


def _of_recording(file: Path) -> Iterator[PastDecision]:
    """The decisions of the fleet on the recorded world, under the rules of the lab."""
    import asyncio
    import shutil
    import tempfile

    from loop4.evals.replay import replay as decide_again
    from loop4.lab.folder import make_operations
    from loop4.tools.backends.recording_file import read_recording

    recording = read_recording(file)
    folder = Path(tempfile.mkdtemp(prefix="loop4-policy-replay-"))
    try:
        make_operations(folder / "operations")
        data = folder / "data"
        asyncio.run(decide_again(recording, operations=folder / "operations", data=data))
        with open_ledger(data) as ledger:
            yield from _of_ledger(ledger)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_json(found: Replayed, seconds: float) -> dict[str, Json]:
    return {
        "judged": found.judged,
        "seconds": round(seconds, 3),
        "changed": [turned.to_json() for turned in found.turned],
        "by_other_rules": found.by_other_rules,
        "unknown_tools": found.unknown_tools,
    }


def _lines(found: Replayed, seconds: float) -> list[str]:
    lines = [plain(_line(turned)) for turned in found.turned[:_MOST_LINES]]
    if len(found.turned) > _MOST_LINES:
        lines.append(f"... and {len(found.turned) - _MOST_LINES} more; --json lists all")
    kinds = Counter((str(t.decision.decided), str(t.becomes)) for t in found.turned)
    lines += [f"{count} from {was} to {becomes}" for (was, becomes), count in kinds.most_common()]
    lines.append(
        f"{found.judged} past decisions judged again in {seconds:.2f} s: {len(found.turned)} would "
        f"change, {found.by_other_rules} keep their effect by other rules"
    )
    return lines


def _line(turned: Turned) -> str:
    past = turned.decision
    then = ", ".join(past.rules) or "no rule"
    now = ", ".join(turned.rules) or "no rule"
    return (
        f"{past.seq} {utc(past.at_ms)} {past.tool} on {past.target or past.service}: "
        f"was {past.decided} ({then}), becomes {turned.becomes} ({now})"
    )
