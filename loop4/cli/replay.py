"""`loop4 replay FILE`: the same graph on a recorded world; offline, unless a model is asked for."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from loop4.cli.data_folder import JsonOption
from loop4.cli.fleet_options import RulesOption, show
from loop4.cli.input_files import read_input
from loop4.cli.model_option import ModelOption, endpoint_for_command, planner_for_command
from loop4.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loop4.agents.planner.port import Planner
    from loop4.domain import Json
    from loop4.evals.injection import Injected
    from loop4.evals.replay import Replay
    from loop4.evals.with_model import Pair
    from loop4.tools.backends.recording import Recording

READ_PARTS = ("org", "policies", "work")  # of an operations folder; a repository may hold more
EARLIER = "the --json output of an earlier `loop4 replay`"
MOST_BYTES = 64 * 1024 * 1024
COMPARED = {"tool": str, "target": str, "effect": str, "decided": str, "facts": dict}


def command(
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Recordings: files, or names of shipped ones."),
    ],
    rules: RulesOption = None,
    operations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Policies to decide by; default: those of the lab."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="An earlier --json of a replay, to compare with."),
    ] = None,
    model: ModelOption = False,
    with_and_without: Annotated[
        bool,
        typer.Option("--compare", help="Replay without and with the model, and compare them."),
    ] = False,
    hostile: Annotated[
        bool,
        typer.Option("--hostile", help="Plant hostile text in the telemetry; look what gets out."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decide a recorded incident again and print every decision, what differs from an earlier
    replay, or what the model of LOOP4_MODEL or hostile telemetry changes. Exit code 1: it changes
    a decision, or with --hostile anything got out.
    """
    from loop4.evals.replay import compare

    by = Policies(operations, rules)
    recordings = [_found(file) for file in recordings]
    if hostile:
        if with_and_without or against is not None:
            raise UsageError(
                "--hostile makes its own comparison; leave out --compare and --against"
            )
        _lie(recordings, by, with_model=model, as_json=as_json)
        return
    if with_and_without:
        if against is not None:
            raise UsageError("--compare and --against cannot be used together; use one of them")
        _compare(recordings, by, as_json=as_json)
        return
    if len(recordings) > 1:
        raise UsageError(
            f"{len(recordings)} recordings, expected one; with --compare or --hostile they can be "
            "several"
        )
    earlier = _decisions(against) if against is not None else None
    replayed = asyncio.run(_replay_one(recordings[0], by, with_model=model))
    if earlier is None:
        show(replayed.to_json(), as_json=as_json, text=_text(replayed))
        return
    compared = compare(earlier, replayed.decisions)
    lines = [f"{compared.same} decisions are the same"]
    lines += [f"changed: {_line(c)}" for c in compared.changed]
    lines += [f"follows: was {f['was']}, is {f['is']}" for f in compared.following]
    show(compared.to_json(), as_json=as_json, text="\n".join(lines))


@dataclass(frozen=True, slots=True)
class Policies:
    """What is decided by; None is the lab's, or the shipped rules."""

    operations: Path | None
    rules: Path | None


def _found(file: Path) -> Path:
    """The file, or the shipped recording of that name."""
    if file.exists() or file.name != str(file):
        return file
    from importlib.resources import files

    shipped = Path(str(files("loop4.evals") / "incidents" / f"{file.name}.jsonl.gz"))
    return shipped if shipped.exists() else file


def _lie(recordings: Sequence[Path], by: Policies, *, with_model: bool, as_json: bool) -> None:
    """Print what the lies changed and what got out. Raises Exit with 1 if anything did."""
    from loop4.evals.injection import text_of

    told = asyncio.run(_lied_to(recordings, by, with_model=with_model))
    body: list[Json] = [t.to_json() for t in told]
    show({"recordings": body}, as_json=as_json, text="\n\n".join(text_of(t) for t in told))
    if any(t.problems for t in told):
        raise typer.Exit(code=1)


async def _lied_to(recordings: Sequence[Path], by: Policies, *, with_model: bool) -> list[Injected]:
    from loop4.evals.injection import injected
    from loop4.tools.backends.recording_file import read_recording

    found = []
    for file, recording in [(f, read_recording(f)) for f in recordings]:
        with tempfile.TemporaryDirectory(prefix="loop4-replay-") as folder:

            def folders(root: Path = Path(folder)) -> tuple[Path, Path]:
                place = Path(tempfile.mkdtemp(dir=root))
                _copy(by.operations, place / "operations")
                return place / "operations", place / "data"

            async with planner_for_command(wanted=with_model) as planner:
                found.append(
                    await injected(file.name, recording, folders, rules=by.rules, planner=planner)
                )
    return found


def _compare(recordings: Sequence[Path], by: Policies, *, as_json: bool) -> None:
    """Print the table. Raises Exit with 1 when a model changes a severity, an act or an effect."""
    from loop4.evals.with_model import table

    pairs = asyncio.run(_pairs(recordings, by))
    body: list[Json] = [p.to_json() for p in pairs]
    show({"recordings": body}, as_json=as_json, text=table(pairs))
    if not all(p.is_same for p in pairs):
        raise typer.Exit(code=1)


async def _pairs(recordings: Sequence[Path], by: Policies) -> list[Pair]:
    from loop4.evals.with_model import Pair
    from loop4.tools.backends.recording_file import read_recording

    endpoint_for_command()
    pairs = []
    for file, recording in [(f, read_recording(f)) for f in recordings]:
        began = time.monotonic()
        without = await _replay(recording, by, None)
        between = time.monotonic()
        async with planner_for_command(wanted=True) as planner:  # its budgets are per incident
            aided = await _replay(recording, by, planner)
        ended = time.monotonic()
        pairs.append(Pair(file.name, without, aided, between - began, ended - between))
    return pairs


async def _replay_one(file: Path, by: Policies, *, with_model: bool) -> Replay:
    from loop4.tools.backends.recording_file import read_recording

    recording = read_recording(file)
    async with planner_for_command(wanted=with_model) as planner:
        return await _replay(recording, by, planner)


async def _replay(recording: Recording, by: Policies, planner: Planner | None) -> Replay:
    """Replay on a copy of the operations folder: what is written in a replay is thrown away."""
    from loop4.evals.replay import replay

    with tempfile.TemporaryDirectory(prefix="loop4-replay-") as folder:
        root = Path(folder) / "operations"
        _copy(by.operations, root)
        data = Path(folder) / "data"
        return await replay(recording, operations=root, data=data, rules=by.rules, planner=planner)


def _copy(operations: Path | None, root: Path) -> None:
    from loop4.lab.folder import make_operations

    if operations is None:
        make_operations(root)
    elif operations.is_dir():
        for part in READ_PARTS:
            if (operations / part).is_dir():
                shutil.copytree(operations / part, root / part)
    else:
        raise UsageError(f"operations folder {str(operations)!r} is not there; name another")


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
    if replayed.model is not None:
        from loop4.evals.model_share import told

        lines += told(replayed.model)
    lines.append(f"digest {replayed.digest}")
    return "\n".join(lines)
