"""A recording of a world: what its back ends knew, when; no judgement of anybody on it.

It holds raw samples, spans, log lines, changes and what ran, the ticks of the fleet's schedule, the
answers people gave and the writes that were done. `recorded.py` plays it, `recording_file.py` reads
and writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from loop4.domain import JsonObject
from loop4.errors import InputError
from loop4.tools.backends.ports import Change, Inventory, LogRecord, Span
from loop4.tools.backends.series import NAME, STALE, Labels, SeriesStore, label_key


@dataclass(frozen=True, slots=True)
class RecordedSeries:
    """One series: ascending times and as many values."""

    labels: Labels
    times: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said to a request for approval, `delay_ms` after it was made."""

    person: str
    tool: str
    target: str
    approve: bool
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the world took. `mark` is the id that the change history shows for it."""

    at_ms: int
    tool: str
    target: str
    arguments: JsonObject
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording; every part is in the order of time."""

    environment: str
    started_ms: int
    ended_ms: int
    series: tuple[RecordedSeries, ...] = ()
    spans: tuple[Span, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    changes: tuple[Change, ...] = ()
    inventories: tuple[Inventory, ...] = ()
    ticks: tuple[int, ...] = ()
    answers: tuple[Answer, ...] = ()
    writes: tuple[Write, ...] = ()


@dataclass(slots=True)
class Recorder:
    """Raw pieces as they come, in any order and more than once; `recording` puts them in order.

    A span, a change or a sample that was given before is left out; log lines are kept as given.
    """

    environment: str
    started_ms: int
    _series: dict[Labels, dict[int, float]] = field(default_factory=dict)
    _spans: dict[tuple[str, str], Span] = field(default_factory=dict)
    _changes: dict[str, Change] = field(default_factory=dict)
    _logs: list[LogRecord] = field(default_factory=list)
    _inventories: list[Inventory] = field(default_factory=list)
    _ticks: set[int] = field(default_factory=set)
    _answers: list[Answer] = field(default_factory=list)
    _writes: list[Write] = field(default_factory=list)

    def samples(
        self, labels: Mapping[str, str], points: Iterable[tuple[int, float | None]]
    ) -> None:
        """Points of one series, `__name__` among its labels; None is the end of the series."""
        known = self._series.setdefault(label_key(labels.get(NAME, ""), labels), {})
        for at_ms, value in points:
            known.setdefault(at_ms, STALE if value is None else float(value))

    def store(self, store: SeriesStore) -> None:
        """Everything that a store holds."""
        for series in store.all_series():
            self.samples(dict(series.labels), zip(series.times, series.values, strict=True))

    def spans(self, spans: Iterable[Span]) -> None:
        """Spans, as a trace store gave them."""
        for span in spans:
            self._spans.setdefault((span.trace_id, span.span_id), span)

    def logs(self, records: Iterable[LogRecord]) -> None:
        """Log lines; ask for windows that do not overlap."""
        self._logs.extend(records)

    def changes(self, changes: Iterable[Change]) -> None:
        """Entries of the change history."""
        for change in changes:
            self._changes.setdefault(change.change_id, change)

    def inventory(self, inventory: Inventory) -> None:
        """What runs; kept only if it differs from the one before."""
        last = self._inventories[-1] if self._inventories else None
        if last is None or replace(last, at_ms=inventory.at_ms) != inventory:
            self._inventories.append(inventory)

    def tick(self, at_ms: int) -> None:
        """A moment at which the schedule woke the fleet."""
        self._ticks.add(at_ms)

    def answer(self, person: str, tool: str, target: str, *, approve: bool, delay_ms: int) -> None:
        """What a person answered."""
        self._answers.append(Answer(person, tool, target, approve, delay_ms))

    def write(
        self, at_ms: int, tool: str, target: str, arguments: JsonObject, *, mark: str = ""
    ) -> None:
        """A write that the world took."""
        self._writes.append(Write(at_ms, tool, target, arguments, mark))

    def recording(self, ended_ms: int) -> Recording:
        """All pieces in order."""
        series = []
        for labels in sorted(self._series):
            points = sorted(self._series[labels].items())
            series.append(
                RecordedSeries(labels, tuple(t for t, _ in points), tuple(v for _, v in points))
            )
        return Recording(
            environment=self.environment,
            started_ms=self.started_ms,
            ended_ms=ended_ms,
            series=tuple(series),
            spans=tuple(
                sorted(self._spans.values(), key=lambda s: (s.start_ms, s.trace_id, s.span_id))
            ),
            logs=tuple(sorted(self._logs, key=lambda record: record.at_ms)),
            changes=tuple(sorted(self._changes.values(), key=lambda c: (c.at_ms, c.change_id))),
            inventories=tuple(sorted(self._inventories, key=lambda inventory: inventory.at_ms)),
            ticks=tuple(sorted(self._ticks)),
            answers=tuple(self._answers),
            writes=tuple(sorted(self._writes, key=lambda write: write.at_ms)),
        )


def edit_samples(
    recording: Recording,
    metric: str,
    labels: Mapping[str, str],
    change: Callable[[int, float], float],
) -> Recording:
    """The recording with `change(at_ms, value)` for the samples of the series that carry `labels`.

    For "what if it had been less": nothing else is touched. Raises InputError if no series matches,
    since an edit without effect would prove nothing.
    """
    wanted = {(NAME, metric), *labels.items()}
    edited = 0
    result = []
    for series in recording.series:
        if wanted <= set(series.labels):
            edited += 1
            values = tuple(
                change(at_ms, value)
                for at_ms, value in zip(series.times, series.values, strict=True)
            )
            series = replace(series, values=values)
        result.append(series)
    if not edited:
        raise InputError(f"the recording holds no series {metric} with {dict(labels)!r}")
    return replace(recording, series=tuple(result))
