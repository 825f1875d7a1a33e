"""A worker that stops itself right after the effect: `python -m tests.graphs.sleeper ROOT MS`.

When it goes on, the time is what `ROOT/toy.json` says by then: past its lease of so many ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from loop4.errors import LeaseLost
from loop4.graphs.legs import Worker
from loop4.graphs.runner import Runner
from tests.graphs.mortal import new_stage


async def main(root: Path, lease_ms: int) -> None:
    stage = new_stage(root)

    def passing(point: str) -> None:
        if point == "after_effect":
            os.kill(os.getpid(), signal.SIGSTOP)
            stage.toy.clock.at_ms = json.loads((root / "toy.json").read_text())["clock_ms"]

    stage.bad_deploy()
    async with stage.opened(passing=passing, shared=True) as play:
        mine = Runner(play.session.fleet, play.session.runner.legs.saver, Worker("a", lease_ms))
        play.patrol.runner = mine
        await play.until(play.pending)
        play.vote(play.pending()[0].approval.approval_id)
        try:
            await mine.advance(play.open_runs()[0].run_id)
        except LeaseLost as error:
            print(f"refused: {error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
