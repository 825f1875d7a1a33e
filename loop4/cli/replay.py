"""`loop4 replay FILE`: the same graph on a recorded world, offline, with the model off."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from loop4.cli.data_folder import JsonOption
from loop4.cli.fleet_options import RulesOption, show
from loop4.cli.input_files import read_input
from loop4.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loop4.domain import Json
    from loop4.evals.replay import Replay
    from loop4.tools.backends.recording import Recording

READ_PARTS = ("org", "policies", "work")  # of an operations folder; a repository may hold more
EARLIER = "the --json output of an earlier `loop4 replay`"
MOST_BYTES = 64 * 1024 * 1024
COMPARED = {"tool": str, "target": str, "effect": str, "decided": str, "facts": dict}


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    rules: RulesOption = None,
    operations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Policies to decide by; default: those of the lab."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="An earlier --json of a replay, to compare with."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide a recorded incident again and print every decision, or what differs from an earlier
    replay.
    """
    from loop4.evals.replay import compare
    from loop4.tools.backends.recording_file import read_recording

    earlier = _decisions(against) if against is not None else None
    recording = read_recording(file)
    with tempfile.TemporaryDirectory(prefix="loop4-replay-") as folder:
        replayed = _replay(recording, Path(folder), operations, rules)
    if earlier is None:
        show(replayed.to_json(), as_json=as_json, text=_text(replayed))
        return
    compared = compare(earlier, replayed.decisions)
    lines = [f"{compared.same} decisions are the same"]
    lines += [f"changed: {_line(c)}" for c in compared.changed]
    lines += [f"follows: was {f['was']}, is {f['is']}" for f in compared.following]
    show(compared.to_json(), as_json=as_json, text="\n".join(lines))


def _replay(
    recording: Recording, folder: Path, operations: Path | None, rules: Path | None
) -> Replay:
    """Replay on a copy of the operations folder: what is written in a replay is thrown away."""
    from loop4.evals.replay import replay
    from loop4.lab.folder import make_operations

    root = folder / "operations"
    if operations is None:
        make_operations(root)
    elif operations.is_dir():
        for part in READ_PARTS:
            if (operations / part).is_dir():
                shutil.copytree(operations / part, root / part)
    else:
        raise UsageError(f"operations folder {str(operations)!r} is not there; name another")
    return asyncio.run(replay(recording, operations=root, data=folder / "data", rules=rules))


def _decisions(file: Path) -> Sequence[Mapping[str, Json]]:
    """The decisions in the --json output of an earlier replay. Raises InputError for anything
    else.
    """
    body = read_input(str(file), expected=EARLIER, at_most=MOST_BYTES)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON ({error}); expected {EARLIER}") from error
    decisions = content.get("decisions") if isinstance(content, dict) else None
    if not isinstance(decisions, list):
        raise InputError(f"{file} holds no list of decisions; expected {EARLIER}")
    for index, decision in enumerate(decisions):
        if not isinstance(decision, dict) or not all(
            isinstance(decision.get(key), kind) for key, kind in COMPARED.items()
        ):
            raise InputError(
                f"{file}: decisions[{index}] lacks one of {', '.join(COMPARED)}; expected {EARLIER}"
            )
    return cast("Sequence[Mapping[str, Json]]", decisions)


def _line(changed: Mapping[str, Json]) -> str:
    return f"{changed['tool']} on {changed['target']}: was {changed['was']}, is {changed['is']}"


def _text(replayed: Replay) -> str:
    lines = []
    for incident in replayed.incidents:
        lines.append(
            f"{incident['incident']} {incident['service']}: {incident['severity']}, "
            f"{incident['cause']}, {incident['state']}"
        )
    for decision in replayed.decisions:
        rules = ", ".join(str(r) for r in cast("Sequence[Json]", decision["rules"]))
        lines.append(
            f"  {decision['effect']:<16} {decision['tool']} on {decision['target']}  [{rules}]"
        )
    lines.append(f"digest {replayed.digest}")
    return "\n".join(lines)
