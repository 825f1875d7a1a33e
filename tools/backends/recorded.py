"""A recorded world, played: its back ends show what had happened by the clock's present, no more.

A write (`recorded_writer.py`) that the recording holds too moves the clock to the recorded moment
and takes effect. Until it is made, the world stands still just before that moment, for
`PATIENCE_MS`; after that, or after a write that was never recorded, the world has gone another way
than the recording and every read answers no data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from loop4.domain import Clock, JsonObject
from loop4.errors import Refused, Unreachable
from loop4.tools.backends.ports import (
    Change,
    Inventory,
    LogRecord,
    Series,
    Span,
    Workload,
    World,
)
from loop4.tools.backends.promql import compiled
from loop4.tools.backends.recording import Recording, Write
from loop4.tools.backends.series import SeriesStore, StoredSeries

PATIENCE_MS = 30_000
_FOREVER_MS = 10**15
_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
_NOT_COMPARED = ("restarted_at_ms", "service", "instance")  # times, and what the target says too


class MovableClock(Clock, Protocol):
    """A clock that the world moves forward when a recorded write is made."""

    def advance_to(self, at_ms: int) -> None:
        """Make `at_ms` the present, unless it is past already."""
        ...


@dataclass(slots=True)
class RecordedClock:
    """Recorded time as the present; it never goes back."""

    at_ms: int

    def now_ms(self) -> int:
        """The present."""
        return self.at_ms

    def advance_to(self, at_ms: int) -> None:
        """Make `at_ms` the present, unless it is past already."""
        self.at_ms = max(self.at_ms, at_ms)


class RecordedWorld:
    """All read ports over one recording, and the writes made on it."""

    def __init__(
        self, recording: Recording, clock: MovableClock, *, patience_ms: int = PATIENCE_MS
    ) -> None:
        self.recording = recording
        self.clock = clock
        self.diverged = ""
        self.made: list[Write] = []  # every write that was made here, recorded or not
        self._patience_ms = patience_ms
        self._pending = list(recording.writes)
        self._done = _Done()
        self._store = SeriesStore(retention_ms=_FOREVER_MS)
        self._samples = sorted(
            (at_ms, index, value)
            for index, series in enumerate(recording.series)
            for at_ms, value in zip(series.times, series.values, strict=True)
        )
        self._stored: dict[int, StoredSeries] = {}
        self._next_sample = 0

    def world(self) -> World:
        """This world's read handles; it is also the metrics port itself."""
        return World(
            metrics=self,
            traces=_Traces(self),
            logs=_Logs(self),
            changes=_Changes(self),
            workloads=_Workloads(self),
        )

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        """Instant query over what had been scraped by now."""
        query = compiled(expression)
        return query.instant(self._store, at_ms) if self._fed() else ()

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        """Range query over what had been scraped by now."""
        query = compiled(expression)
        return query.range(self._store, start_ms, end_ms, step_ms) if self._fed() else ()

    def present_ms(self) -> int | None:
        """The recorded moment that is visible now; None once the world has gone another way."""
        now_ms = self.clock.now_ms()
        if not self.diverged and self._pending:
            due = self._pending[0]
            if now_ms >= due.at_ms + self._patience_ms:
                self.diverged = f"the recorded {due.tool} on {due.target} was not made"
            elif now_ms >= due.at_ms:
                return due.at_ms - 1
        return None if self.diverged else now_ms

    def workload(self, service: str) -> Workload:
        """The service as it runs now. Raises Refused if there is none, Unreachable for no data."""
        workload = self.inventory().workload(service)
        if workload is None:
            raise Refused(f"the recorded world has no service {service!r}")
        return workload

    def inventory(self) -> Inventory:
        """What runs now, with the marks of the writes made here. Raises Unreachable for no data."""
        present_ms = self.present_ms()
        if present_ms is None:
            raise Unreachable(f"no data: {self.diverged}")
        seen = [i for i in self.recording.inventories if i.at_ms <= present_ms]
        if not seen:
            raise Unreachable("no data: the recording holds no inventory up to now")
        workloads = tuple(self._done.shown(workload) for workload in seen[-1].workloads)
        return replace(seen[-1], at_ms=self.clock.now_ms(), workloads=workloads)

    def changes(self, present_ms: int) -> list[Change]:
        """The history up to a moment, with the marks of the writes made here."""
        return [
            replace(change, mark=self._done.renamed.get(change.mark, change.mark))
            for change in self.recording.changes
            if change.at_ms <= present_ms
        ]

    def make(self, tool: str, target: str, arguments: JsonObject, service: str, mark: str) -> None:
        """Make a write: a recorded one takes effect, any other sends the world another way.

        Arguments are compared without times, and without what the target says already.
        """
        self.made.append(Write(self.clock.now_ms(), tool, target, arguments, mark))
        wanted = _comparable(arguments)
        found = next(
            (
                write
                for write in self._pending
                if (write.tool, write.target) == (tool, target)
                and _comparable(write.arguments) == wanted
            ),
            None,
        )
        if self.present_ms() is None:
            return
        if found is None or found is not self._pending[0]:
            self.diverged = f"{tool} on {target} is not what was done in the recording"
            return
        self._pending.pop(0)
        self.clock.advance_to(found.at_ms)
        self._done.note(found, service, mark)

    def _fed(self) -> bool:
        """Scrape up to now; False once there is no data."""
        present_ms = self.present_ms()
        if present_ms is None:
            return False
        samples, series = self._samples, self.recording.series
        while self._next_sample < len(samples) and samples[self._next_sample][0] <= present_ms:
            at_ms, index, value = samples[self._next_sample]
            if index not in self._stored:
                self._stored[index] = self._store.series_with(series[index].labels)
            self._store.append_to(self._stored[index], at_ms, value)
            self._next_sample += 1
        return True


@dataclass(slots=True)
class _Done:
    """What the writes made here left behind: our marks in place of the recorded ones."""

    services: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def note(self, write: Write, service: str, mark: str) -> None:
        """Keep the mark of a write that took effect."""
        if write.tool == "workloads.restart":
            self.instances[write.target] = mark
        else:
            self.services[service] = mark
        if write.mark:
            self.renamed[write.mark] = mark

    def shown(self, workload: Workload) -> Workload:
        """The workload with our marks on it."""
        instances = tuple(
            replace(i, mark=self.instances.get(i.instance, self.renamed.get(i.mark, i.mark)))
            for i in workload.instances
        )
        mark = self.services.get(workload.service, self.renamed.get(workload.mark, workload.mark))
        return replace(workload, mark=mark, instances=instances)


class _Traces:
    def __init__(self, world: RecordedWorld) -> None:
        self._world = world

    async def spans(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        errors_only: bool = False,
        limit: int = 1000,
    ) -> Sequence[Span]:
        """Spans that have ended by now."""
        present_ms = self._world.present_ms()
        if present_ms is None:
            return ()
        found = [
            span
            for span in self._world.recording.spans
            if start_ms <= span.start_ms < end_ms
            and span.start_ms + span.duration_ms <= present_ms
            and (not service or span.service == service)
            and (span.is_error or not errors_only)
        ]
        return tuple(found[: -limit - 1 : -1]) if limit > 0 else ()


class _Logs:
    def __init__(self, world: RecordedWorld) -> None:
        self._world = world

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        """Lines written by now."""
        present_ms = self._world.present_ms()
        if present_ms is None:
            return ()
        levels = _LEVELS[_LEVELS.index(min_severity) :] if min_severity in _LEVELS else ()
        found = [
            record
            for record in self._world.recording.logs
            if start_ms <= record.at_ms < end_ms
            and record.at_ms <= present_ms
            and (not service or record.service == service)
            and (not levels or record.severity in levels)
        ]
        return tuple(found[: -limit - 1 : -1]) if limit > 0 else ()


class _Changes:
    def __init__(self, world: RecordedWorld) -> None:
        self._world = world

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        """Changes made by now."""
        present_ms = self._world.present_ms()
        return [
            change
            for change in (self._world.changes(present_ms) if present_ms is not None else ())
            if start_ms <= change.at_ms < end_ms and (not service or change.service == service)
        ]


class _Workloads:
    def __init__(self, world: RecordedWorld) -> None:
        self._world = world

    async def inventory(self) -> Inventory:
        """What runs now; Unreachable once there is no data."""
        return self._world.inventory()


def _comparable(arguments: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if name not in _NOT_COMPARED}
