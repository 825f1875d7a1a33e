"""Schedules go on when the clock is set back.

The engine's schedules wait for times of the wall clock. Set back by an hour, they would stand still
for that hour: no sweep, no pump, no heartbeat. Until the clock has caught up with itself, the
duties are done here by the process's own clock, which only goes forward.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from loop4.domain import Clock
from loop4.policies.fleet_schedule import Duty

LOOK_S = 1.0
SLACK_MS = 2_000  # a clock that is slewed by less is left to the schedules

Tick = Callable[[str, int], Awaitable[str]]  # name of the duty, the time -> what came of it


@dataclass(slots=True)
class Metronome:
    """Watches the wall clock for one worker. `steady_s` is a clock that is never set."""

    duties: Sequence[Duty]
    clock: Clock
    tick: Tick
    steady_s: Callable[[], float] = time.monotonic
    _latest_ms: int = 0
    _is_behind: bool = False
    _done_s: dict[str, float] = field(default_factory=dict)

    async def keep(self, stop: asyncio.Event) -> None:
        """Look once a second until `stop`."""
        async with asyncio.TaskGroup() as ticking:
            while not stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_S)
                for name in self.due():
                    ticking.create_task(self._tick(name))

    def due(self) -> tuple[str, ...]:
        """The duties to do now: none while the clock is ahead of all that it showed before."""
        now_ms, now_s = self.clock.now_ms(), self.steady_s()
        self._latest_ms = max(self._latest_ms, now_ms)
        behind_ms = self._latest_ms - now_ms
        if behind_ms <= SLACK_MS:
            self._is_behind = False
            self._done_s.clear()
            return ()
        if not self._is_behind:
            self._is_behind = True
            print(
                f"loop4: the clock was set back by {behind_ms / 1000:.0f} s; until it has caught "
                "up, schedules go by this process's own clock",
                file=sys.stderr,
            )
        due = tuple(
            d.name
            for d in self.duties
            if now_s - self._done_s.get(d.name, float("-inf")) >= d.every_s
        )
        self._done_s.update(dict.fromkeys(due, now_s))
        return due

    async def _tick(self, name: str) -> None:
        await self.tick(name, self.clock.now_ms())
