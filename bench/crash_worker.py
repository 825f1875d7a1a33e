"""`loop4 run` or `loop4 worker` that kills itself with SIGKILL at one point, once for its note.

    python bench/crash_worker.py POINT NOTE run --port 0 ...

The real command line over the real engine; only what is passed on the way is watched. The first of
all processes that reaches the point makes the file NOTE, with its process id, and is gone; those
that share the note live on. The shipped command line has no such switch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial, wraps
from pathlib import Path

from loop4.cli.main import main
from loop4.domain import Event
from loop4.graphs import session as sessions
from loop4.graphs.runner import Handled, Runner
from loop4.ledger import intents, runs
from loop4.service import Service

IN_THE_PAUSE_S = 0.3  # the leg before it is over and in every database
IN_THE_CALL_S = 0.3


class Reaper:
    """Ends this process at its point, unless another one died there."""

    def __init__(self, point: str, note: Path) -> None:
        self.point, self.note = point, note

    def passing(self, point: str) -> None:
        """A point of no return is passed."""
        if point == self.point:
            self.die()
        if (point, self.point) == ("after_intent", "in_the_call") and not self.note.exists():
            threading.Timer(IN_THE_CALL_S, self.die).start()

    def paused(self, runner: Runner, run_id: str) -> None:
        """A leg came to its pause: for a vote, or for the proof of an act."""
        with runner.legs.fleet.ledger.read() as tx:
            run = runs.get(tx, run_id)
            acts = [i for i in intents.list_all(tx, run_id=run_id) if "path" not in i.arguments]
        state = run.state if run is not None else None
        waits = state is runs.RunState.WAITING_APPROVAL and self.point == "approval_wait"
        sleeps = state is runs.RunState.SLEEPING and self.point == "wake_at" and bool(acts)
        if waits or sleeps:
            threading.Timer(IN_THE_PAUSE_S, self.die).start()

    def die(self) -> None:
        """SIGKILL, if nobody was first."""
        try:
            descriptor = os.open(self.note, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        os.write(descriptor, str(os.getpid()).encode())
        os.kill(os.getpid(), signal.SIGKILL)


def watch(reaper: Reaper) -> None:
    """Tell the reaper what this process passes."""
    sessions.open_session = partial(sessions.open_session, passing=reaper.passing)
    place, advance, voted = Runner.place, Runner.advance, Service.voted

    @wraps(place)
    async def watched_place(self: Runner, event: Event) -> Handled:
        handled = await place(self, event)
        reaper.paused(self, handled.run_id)
        return handled

    @wraps(advance)
    async def watched_advance(self: Runner, run_id: str) -> bool:
        moved = await advance(self, run_id)
        reaper.paused(self, run_id)
        return moved

    @wraps(voted)
    async def watched_voted(self: Service, run_id: str, key: str) -> None:
        reaper.passing("after_vote")
        await voted(self, run_id, key)

    Runner.place, Runner.advance = watched_place, watched_advance  # type: ignore[method-assign]
    Service.voted = watched_voted  # type: ignore[method-assign]


if __name__ == "__main__":
    watch(Reaper(sys.argv[1], Path(sys.argv[2])))
    sys.argv = ["loop4", *sys.argv[3:]]
    sys.exit(main())
