"""How a recording's parts become lines of JSON, and back. Columns and differences keep them small.

A line is an object with `kind`. Label names are values here, never keys, and a log line's severity
is its `level`: a recording has no key that could hold a judgement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import accumulate, islice
from typing import TypeVar

from loop4.domain import Json, JsonObject
from loop4.tools.backends.ports import (
    Change,
    Instance,
    Inventory,
    LogRecord,
    Revision,
    Span,
    Workload,
)
from loop4.tools.backends.recording import Answer, RecordedSeries, Recording, Write
from loop4.tools.backends.series import STALE, is_stale

FORBIDDEN_KEYS = frozenset(
    ("severity", "cause", "proposal", "verdict", "effect", "finding", "scenario", "fault")
)
_ROWS = 5000  # of a table in one line
_EXACT = 2**53  # integers up to here are exact doubles
_RENAMED = {"severity": "level"}
_OWN_ID = "span_id"

T = TypeVar("T", Span, LogRecord, Change, Answer, Revision, Instance)


class Malformed(ValueError):
    """A line does not hold what its kind promises."""


def lines_of(recording: Recording) -> Iterator[JsonObject]:
    """Every line between header and footer."""
    times: dict[tuple[int, ...], int] = {}
    for series in recording.series:
        if series.times not in times:
            times[series.times] = len(times)
            yield {"kind": "times", "id": times[series.times], "deltas": _deltas(series.times)}
        yield _series_line(series, times[series.times])
    for rows in _chunks(recording.spans):
        yield {"kind": "spans", "columns": _columns(Span, rows)}
    for records in _chunks(recording.logs):
        yield {"kind": "logs", "columns": _columns(LogRecord, records)}
    if recording.changes:
        yield {"kind": "changes", "columns": _columns(Change, recording.changes)}
    for inventory in recording.inventories:
        yield {"kind": "inventory", "inventory": asdict(inventory)}
    if recording.ticks:
        yield {"kind": "ticks", "deltas": _deltas(recording.ticks)}
    if recording.answers:
        yield {"kind": "answers", "columns": _columns(Answer, recording.answers)}
    for write in recording.writes:
        yield {"kind": "write", **asdict(write)}


class Parts:
    """Lines collected into a recording. `take` raises Malformed for one that cannot be read."""

    def __init__(self) -> None:
        self._times: list[tuple[int, ...]] = []
        self._series: list[RecordedSeries] = []
        self._spans: list[Span] = []
        self._logs: list[LogRecord] = []
        self._changes: list[Change] = []
        self._inventories: list[Inventory] = []
        self._ticks: list[int] = []
        self._answers: list[Answer] = []
        self._writes: list[Write] = []

    def take(self, line: JsonObject) -> None:
        """Read one line."""
        kind = line.get("kind")
        match kind:
            case "times":
                self._times.append(_sums(line.get("deltas")))
            case "series":
                self._series.append(self._read_series(line))
            case "spans":
                self._spans += _rows(Span, line)
            case "logs":
                self._logs += _rows(LogRecord, line)
            case "changes":
                self._changes += _rows(Change, line)
            case "inventory":
                self._inventories.append(_inventory(line.get("inventory")))
            case "ticks":
                self._ticks += _sums(line.get("deltas"))
            case "answers":
                self._answers += _rows(Answer, line)
            case "write":
                self._writes.append(_write(line))
            case _:
                raise Malformed(f"unknown kind {kind!r}")

    def recording(self, environment: str, started_ms: int, ended_ms: int) -> Recording:
        """Everything taken so far."""
        return Recording(
            environment,
            started_ms,
            ended_ms,
            tuple(self._series),
            tuple(self._spans),
            tuple(self._logs),
            tuple(self._changes),
            tuple(self._inventories),
            tuple(self._ticks),
            tuple(self._answers),
            tuple(self._writes),
        )

    def _read_series(self, line: JsonObject) -> RecordedSeries:
        labels, index, values = line.get("labels"), line.get("times"), line.get("values")
        if not isinstance(labels, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
            for pair in labels
        ):
            raise Malformed("labels are not pairs of text")
        if not isinstance(index, int) or not 0 <= index < len(self._times):
            raise Malformed(f"times {index!r} are not in the lines before")
        if "deltas" in line:
            numbers = tuple(float(number) for number in _sums(line["deltas"]))
        elif isinstance(values, list):
            numbers = tuple(_number(value) for value in values)
        else:
            raise Malformed("a series without values")
        if len(numbers) != len(self._times[index]):
            raise Malformed(f"{len(numbers)} values for {len(self._times[index])} times")
        return RecordedSeries(
            tuple((pair[0], pair[1]) for pair in labels), self._times[index], numbers
        )


def forbidden_key(value: Json) -> str:
    """The first key that could hold a judgement, anywhere inside; empty if there is none."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            found = key if key.lower() in FORBIDDEN_KEYS else forbidden_key(inner)
            if found:
                return found
    elif isinstance(value, list | tuple):
        for inner in value:
            found = forbidden_key(inner)
            if found:
                return found
    return ""


def _series_line(series: RecordedSeries, times: int) -> JsonObject:
    line: dict[str, Json] = {
        "kind": "series",
        "labels": [list(pair) for pair in series.labels],
        "times": times,
    }
    if all(_is_plain_integer(value) for value in series.values):
        line["deltas"] = _deltas([int(value) for value in series.values])
    else:
        line["values"] = [_shown(value) for value in series.values]
    return line


def _is_plain_integer(value: float) -> bool:
    return (
        math.isfinite(value)
        and value.is_integer()
        and abs(value) < _EXACT
        and (value != 0 or math.copysign(1, value) > 0)
    )


def _shown(value: float) -> Json:
    if math.isfinite(value):
        return value
    if is_stale(value):
        return None
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _number(value: Json) -> float:
    if value is None:
        return STALE
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if value in ("NaN", "+Inf", "-Inf"):
        return float(str(value))
    raise Malformed(f"{value!r} is not a sample")


def _deltas(numbers: Sequence[int]) -> list[int]:
    return [b - a for a, b in zip((0, *numbers), numbers, strict=False)]


def _sums(deltas: Json) -> tuple[int, ...]:
    if not isinstance(deltas, list) or not all(type(d) is int for d in deltas):
        raise Malformed("deltas are not whole numbers")
    return tuple(accumulate(int(delta) for delta in deltas))


def _chunks(rows: Sequence[T]) -> Iterator[tuple[T, ...]]:
    rest = iter(rows)
    while chunk := tuple(islice(rest, _ROWS)):
        yield chunk


def _columns(kind: type[T], rows: Sequence[T]) -> JsonObject:
    columns: dict[str, Json] = {}
    for field in fields(kind):
        values = [getattr(row, field.name) for row in rows]
        if field.name == "parent_id":
            values = _parents([str(getattr(row, _OWN_ID)) for row in rows], values)
        columns[_RENAMED.get(field.name, field.name)] = _column(values)
    return columns


def _parents(own: Sequence[str], parents: Sequence[str]) -> list[str | int]:
    """A parent that stands in the same table is named by its distance, not by its random id."""
    row_of = {span_id: row for row, span_id in enumerate(own)}
    return [row_of[name] - row if name in row_of else name for row, name in enumerate(parents)]


def _column(values: list[Json]) -> JsonObject:
    if all(type(value) is int for value in values):
        return {"deltas": _deltas([value for value in values if isinstance(value, int)])}
    words = {value: None for value in values if isinstance(value, str)}
    if len(words) * 2 <= len(values) and all(isinstance(value, str) for value in values):
        index = {word: number for number, word in enumerate(words)}
        return {"words": list(index), "at": [index[str(value)] for value in values]}
    return {"plain": values}


def _rows(kind: type[T], line: JsonObject) -> list[T]:
    columns = line.get("columns")
    if not isinstance(columns, Mapping):
        raise Malformed("a table without columns")
    names = {field.name: _RENAMED.get(field.name, field.name) for field in fields(kind)}
    missing = sorted(set(names.values()) - set(columns))
    if missing:
        raise Malformed(f"no column {missing[0]!r}")
    values = {name: _values(columns[column]) for name, column in names.items()}
    if len({len(column) for column in values.values()}) > 1:
        raise Malformed("columns of different length")
    if "parent_id" in values:
        values["parent_id"] = _named_parents(values["parent_id"], values[_OWN_ID])
    return [
        _record(kind, dict(zip(values, row, strict=True)))
        for row in zip(*values.values(), strict=True)
    ]


def _values(column: Json) -> list[Json]:
    if isinstance(column, Mapping):
        if "deltas" in column:
            return list(_sums(column["deltas"]))
        plain, words, at = column.get("plain"), column.get("words"), column.get("at")
        if isinstance(plain, list):
            return plain
        if isinstance(words, list) and isinstance(at, list):
            if all(type(index) is int and 0 <= index < len(words) for index in at):
                return [words[index] for index in at]
    raise Malformed("a column without values")


def _named_parents(parents: list[Json], span_ids: list[Json]) -> list[Json]:
    named: list[Json] = []
    for row, parent in enumerate(parents):
        if type(parent) is int:
            if not 0 <= row + parent < len(span_ids):
                raise Malformed("a parent outside its table")
            named.append(span_ids[row + parent])
        else:
            named.append(parent)
    return named


_TYPES: Mapping[str, type] = {"str": str, "int": int, "bool": bool}


def _record(kind: type[T], values: Mapping[str, Json]) -> T:
    """The dataclass from exactly its fields, each of exactly its type."""
    wanted = {field.name: _TYPES[str(field.type)] for field in fields(kind)}
    if set(values) != set(wanted):
        raise Malformed(f"{kind.__name__} with the fields {sorted(values)}")
    for name, value in values.items():
        if type(value) is not wanted[name]:
            raise Malformed(f"{kind.__name__}.{name} is {value!r}")
    return kind(**values)  # type: ignore[arg-type]  # names and types are checked above


def _inventory(value: Json) -> Inventory:
    content = _mapping(value, "inventory")
    at_ms, externals = content.get("at_ms"), content.get("externals", [])
    if type(at_ms) is not int or not isinstance(externals, list):
        raise Malformed("an inventory without at_ms or externals")
    workloads = tuple(_workload(item) for item in _list(content.get("workloads")))
    return Inventory(at_ms, workloads, tuple(str(name) for name in externals))


def _workload(value: Json) -> Workload:
    content = dict(_mapping(value, "workload"))
    revisions = tuple(
        _record(Revision, _mapping(r, "revision")) for r in _list(content.pop("revisions", None))
    )
    instances = tuple(
        _record(Instance, _mapping(i, "instance")) for i in _list(content.pop("instances", None))
    )
    wanted = {f.name: str(f.type) for f in fields(Workload) if str(f.type) in _TYPES}
    if set(content) != set(wanted):
        raise Malformed(f"a workload with the fields {sorted(content)}")
    for name, found in content.items():
        if type(found) is not _TYPES[wanted[name]]:
            raise Malformed(f"workload.{name} is {found!r}")
    return Workload(  # the names and types of `content` are checked above
        **content,  # type: ignore[arg-type]
        revisions=revisions,
        instances=instances,
    )


def _write(line: JsonObject) -> Write:
    at_ms, tool, target = line.get("at_ms"), line.get("tool"), line.get("target")
    arguments, mark = line.get("arguments"), line.get("mark", "")
    if (
        type(at_ms) is not int
        or not isinstance(tool, str)
        or not isinstance(target, str)
        or not isinstance(mark, str)
    ):
        raise Malformed("a write without time, tool or target")
    return Write(at_ms, tool, target, _mapping(arguments, "arguments"), mark)


def _mapping(value: Json, what: str) -> JsonObject:
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is {value!r}")
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise Malformed(f"expected a list, found {value!r}")
    return value
