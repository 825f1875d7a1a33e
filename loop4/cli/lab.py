"""`loop4 lab scenarios | up | inject | record`: run, break and record the small real system."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Run, break and record the small real system.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
CHECK_S = 1.0


@app.command()
def scenarios(as_json: JsonOption = False) -> None:
    """List what can go wrong in the lab."""
    from loop4.lab.scenarios import SCENARIOS

    if as_json:
        rows = [
            {"name": s.name, "description": s.description, "steps": list(s.steps)}
            for s in SCENARIOS
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for scenario in SCENARIOS:
        typer.echo(f"{scenario.name}: {scenario.description}")
        for step in scenario.steps:
            typer.echo(f"  - {step}")


@app.command()
def up(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Its folder; a new temporary one by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the lab's noise.")] = 0,
    port: Annotated[
        int, typer.Option(min=0, max=65532, help="First of four ports; 0: free ones.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run the lab until Ctrl-C; prints where to find it."""
    from loop4.lab.lab import Lab

    signal.signal(signal.SIGTERM, _end)
    folder = directory or Path(tempfile.mkdtemp(prefix="loop4-lab-"))
    with Lab.start(folder.resolve(), seed, port=port) as lab:
        if as_json:
            typer.echo(json.dumps({"lab": str(lab.connection), "edge_url": lab.edge_url}))
        else:
            typer.echo(f"customers come in at {lab.edge_url}")
            typer.echo(f"the fleet finds it by {lab.connection}")
            typer.echo(f"break it: loop4 lab inject SCENARIO --dir {folder}")
            typer.echo("Ctrl-C ends it")
        while True:
            time.sleep(CHECK_S)
            lab.check()


@app.command()
def inject(
    scenario: Annotated[str, typer.Argument(help="A name from `loop4 lab scenarios`.")],
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="The folder of a running lab.")
    ],
    seed: Annotated[int, typer.Option(help="Draws service, versions, size and onset.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Begin a scenario in a running lab. It takes its course; this returns at once."""
    from loop4.lab.lab import inject_into

    inject_into(directory, scenario, seed)
    if as_json:
        typer.echo(json.dumps({"scenario": scenario, "seed": seed}))
        return
    typer.echo(f"{scenario} (seed {seed}) has begun; see {directory / 'injector.jsonl'}")


@app.command()
def record(
    scenario: Annotated[str, typer.Argument(help="A name from `loop4 lab scenarios`.")],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The recording to write.")
    ],
    seed: Annotated[int, typer.Option(help="Draws service, versions, size and onset.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Play a scenario live with the fleet on it, and record the raw world. Takes a minute."""
    import asyncio

    from loop4.lab.recorder import record as play
    from loop4.lab.scenarios import draw

    draw(scenario, seed)
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="loop4-record-") as folder:
        result = asyncio.run(play(scenario, seed, target, Path(folder)))
    size = target.stat().st_size
    if as_json:
        typer.echo(json.dumps({"file": str(target), "bytes": size, "scenario": scenario}))
        return
    typer.echo(f"{target}: {size} bytes; live it was {result.severity}, {result.cause}")


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the lab as Ctrl-C does."""
    raise KeyboardInterrupt
