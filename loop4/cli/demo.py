"""`loop4 demo`: break a small real system and watch the fleet mend it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.model_option import ModelOption, endpoint_for_command, planner_for_command
from loop4.cli.output_file import check_place, write_whole
from loop4.cli.termination import terminable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loop4.cli.demo_run import Demo, DemoReport
    from loop4.lab.lab import Lab

DEFAULT = "bad-deploy"
SECOND = "crash-loop"


def command(
    scenario: Annotated[
        str, typer.Option(metavar="NAME", help="Only this one; see `loop4 lab scenarios`.")
    ] = "",
    seed: Annotated[int, typer.Option(metavar="N", help="Draws service, sizes and times.")] = 1,
    yes: Annotated[
        bool, typer.Option("--yes", help="Approve as the demo's on-call, without asking.")
    ] = False,
    headless: Annotated[
        bool, typer.Option("--headless", help="Plain lines, no live view.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to work; default: a new temporary folder."),
    ] = None,
    model: ModelOption = False,
) -> None:
    """Start the lab, inject a fault, and let the fleet detect, decide, ask, act, prove and
    report.
    """
    from loop4.cli.demo_run import Demo
    from loop4.lab.scenarios import draw

    draw(scenario or DEFAULT, seed)
    if model:
        endpoint_for_command()
    if json_file is not None:
        check_place(json_file)
    root = folder.resolve() if folder else Path(tempfile.mkdtemp(prefix="loop4-demo-"))
    is_live = sys.stdout.isatty() and not headless
    asks = sys.stdin.isatty() and not yes and not headless
    demo = Demo(root, seed=seed, is_live=is_live, asks=asks)
    names = (scenario,) if scenario else (DEFAULT, SECOND)
    with terminable():
        with demo.start_lab() as lab:
            report = asyncio.run(_run(demo, lab, names, with_model=model))
        if json_file is not None:
            write_whole(json_file, json.dumps(report.to_json(), indent=2) + "\n")
    raise typer.Exit(_code(report))


async def _run(demo: Demo, lab: Lab, names: Sequence[str], *, with_model: bool) -> DemoReport:
    async with planner_for_command(wanted=with_model) as planner:
        demo.planner = planner
        return await demo.run(lab, names)


def _code(report: DemoReport) -> int:
    """0 when every incident is resolved and the chain verifies."""
    return 0 if report.is_well else 1
