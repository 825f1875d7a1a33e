"""`loop4 replay FILE`: the same graph on a recorded world, offline, with the model off."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from loop4.cli.data_folder import JsonOption
from loop4.cli.fleet_options import RulesOption, show
from loop4.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loop4.domain import Json
    from loop4.evals.replay import Replay


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
        replayed = asyncio.run(_replay(recording, Path(folder), operations, rules))
    if earlier is None:
        show(replayed.to_json(), as_json=as_json, text=_text(replayed))
        return
    compared = compare(earlier, replayed.decisions)
    lines = [f"{compared.same} decisions are the same"]
    lines += [f"changed: {_line(c)}" for c in compared.changed]
    lines += [f"follows: was {f['was']}, is {f['is']}" for f in compared.following]
    show(compared.to_json(), as_json=as_json, text="\n".join(lines))


async def _replay(
    recording: object, folder: Path, operations: Path | None, rules: Path | None
) -> Replay:
    import shutil

    from loop4.evals.replay import replay
    from loop4.lab.folder import make_operations
    from loop4.tools.backends.recording import Recording

    root = folder / "operations"
    if operations is None:
        make_operations(root)
    else:
        await asyncio.to_thread(shutil.copytree, operations, root)
    return await replay(
        cast("Recording", recording), operations=root, data=folder / "data", rules=rules
    )


def _decisions(file: Path) -> Sequence[Mapping[str, Json]]:
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        return cast("Sequence[Mapping[str, Json]]", body["decisions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{str(file)!r} is not the --json output of a replay; make one with "
            "`loop4 replay FILE --json`"
        ) from error


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
