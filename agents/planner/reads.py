"""The read tools as a model sees them: the run's own `Reader`, with short answers.

Every answer is judged, recorded and digested by the Reader; what is shown is a part of it with a
pointer to the evidence. Free text comes as masked templates inside a fence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from loop4.agents.agent import Brief
from loop4.agents.planner.evidence import EvidenceBook, Names
from loop4.agents.planner.masking import Masker
from loop4.agents.planner.shapes import Tool, object_of, one_of, text, whole
from loop4.agents.planner.telemetry_text import clean, fenced, quoted, templates
from loop4.domain import JsonObject
from loop4.tools.backends.ports import Change, Inventory, LogRecord, Series, Span
from loop4.tools.reader import Read

LONGEST_LOOK_S = 900
SERIES_SHOWN = 12
ROWS_SHOWN = 14
SPANS_READ = 4_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer for the model. `trusted` is its part without free text: what claims may quote."""

    evidence: str
    text: str
    trusted: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a read needs: the brief, the names, and the run's masks and evidence names."""

    brief: Brief
    names: Names
    masker: Masker
    book: EvidenceBook
    cap: int


def wire_name(tool: str) -> str:
    """The name of a policy tool in a call: endpoints allow no dots."""
    return tool.replace(".", "_")


def read_tools(names: Names) -> list[Tool]:
    """The read tools of this incident; none that has nothing to name."""
    back = whole(5, LONGEST_LOOK_S)
    tools = [
        Tool(
            wire_name("metrics.query"),
            "one PromQL query at the present moment",
            object_of(expression=text(300)),
        ),
        Tool(
            wire_name("metrics.query_range"),
            "one PromQL query over the last seconds_back seconds",
            object_of(expression=text(300), seconds_back=back),
        ),
        Tool(
            wire_name("traces.spans"),
            "spans of the last seconds_back seconds, counted by service, version and status",
            object_of(seconds_back=back, errors_only=one_of(["yes", "no"])),
        ),
        Tool(
            wire_name("changes.between"),
            "deploys and configuration changes of the last seconds_back seconds",
            object_of(seconds_back=back),
        ),
        Tool(wire_name("workloads.inventory"), "what runs now", object_of()),
    ]
    if names.services:
        tools.append(
            Tool(
                wire_name("logs.records"),
                "error logs of one service, as templates with counts",
                object_of(service=one_of(names.services), seconds_back=back),
            )
        )
    return tools


async def run_read(desk: Desk, name: str, arguments: JsonObject) -> Shown:
    """Read and show. `arguments` must fit the tool's shape; a denial or a gap is shown as one."""
    brief, reader = desk.brief, desk.brief.reader
    now_ms = brief.now_ms
    seconds = arguments.get("seconds_back")
    start_ms = now_ms - 1000 * (seconds if isinstance(seconds, int) else 60)
    asked = str(arguments.get("expression", ""))
    expression = desk.masker.unmask(asked)  # what was masked stays so on record
    shown = asked if expression != asked else ""
    match name:
        case "metrics_query":
            return await _shown(desk, reader.query(expression, now_ms, shown=shown), _instant)
        case "metrics_query_range":
            step_ms = max(1000, (now_ms - start_ms) // 60 // 1000 * 1000)
            return await _shown(
                desk,
                reader.query_range(expression, start_ms, now_ms, step_ms, shown=shown),
                _range,
            )
        case "traces_spans":
            only = arguments.get("errors_only") == "yes"
            return await _shown(
                desk, reader.spans(start_ms, now_ms, errors_only=only, limit=SPANS_READ), _spans
            )
        case "changes_between":
            return await _shown(desk, reader.changes(start_ms, now_ms), _changes)
        case "workloads_inventory":
            return await _shown(desk, reader.inventory(), _inventory)
        case _:
            service = str(arguments.get("service", ""))
            return await _shown(desk, reader.logs(start_ms, now_ms, service=service), _logs)


Render = Callable[[Desk, T], tuple[list[str], str]]


async def _shown(desk: Desk, asked: Awaitable[Read[T]], render: Render[T]) -> Shown:
    read = await asked
    name = desk.book.show(read.evidence)
    if read.value is None:
        word = "denied" if read.denied else "no data"
        why = quoted(read.denied or read.missing, desk.masker)
        return Shown(name, f"{name} ({read.source.value}): {word}: {why}")
    lines, trusted = render(desk, read.value)
    kept: list[str] = []
    room = desk.cap
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            kept.append(f"... {len(lines) - len(kept)} more lines; all of it is evidence {name}")
            break
        kept.append(line)
    head = f"{name} ({read.source.value}):"
    return Shown(name, f"{head}\n{fenced(read.source.value, kept)}", trusted)


def _labels(desk: Desk, labels: Mapping[str, str]) -> str:
    shown = (
        f"{clean(k, 30)}={quoted(v, desk.masker, 50)}"
        for k, v in sorted(labels.items())
        if k != "__name__"
    )
    return ", ".join(shown) or "all"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _instant(desk: Desk, value: Sequence[Series]) -> tuple[list[str], str]:
    rows = [(s.labels, s.points[-1][1]) for s in value if s.points]
    lines = [f"{_labels(desk, labels)}: {_number(v)}" for labels, v in rows[:SERIES_SHOWN]]
    if len(rows) > SERIES_SHOWN:
        lines.append(f"... {len(rows) - SERIES_SHOWN} more series; ask with fewer labels")
    return lines, " ".join(_number(v) for _, v in rows[:SERIES_SHOWN])


def _range(desk: Desk, value: Sequence[Series]) -> tuple[list[str], str]:
    lines, numbers = [], []
    for series in [s for s in value if s.points][:SERIES_SHOWN]:
        points = [v for _, v in series.points]
        four = [_number(v) for v in (points[0], points[-1], min(points), max(points))]
        numbers += four
        lines.append(
            f"{_labels(desk, series.labels)}: first {four[0]}, last {four[1]}, "
            f"least {four[2]}, most {four[3]}"
        )
    return lines, " ".join(numbers)


def _spans(desk: Desk, value: Sequence[Span]) -> tuple[list[str], str]:
    counts = Counter(
        (s.service, s.version, s.kind, s.peer, "error" if s.is_error else "ok", s.status)
        for s in value
    )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines, numbers = [], [str(len(value))]
    for (service, version, kind, peer, word, status), count in ranked[:ROWS_SHOWN]:
        where = f"{quoted(service, desk.masker, 40)} {quoted(version, desk.masker, 30)}"
        to = f" to {quoted(peer, desk.masker, 40)}" if peer else ""
        lines.append(f"{count} x {where} {clean(kind, 12)}{to}: {word} {status}")
        numbers += [str(count), str(status)]
    said = [s.text for s in value if s.text]
    lines += [f"{n} x text: {shape}" for n, shape in templates(said[:500], desk.masker)[:4]]
    return lines, " ".join(numbers)


def _logs(desk: Desk, value: Sequence[LogRecord]) -> tuple[list[str], str]:
    found = templates((r.body for r in value), desk.masker)
    lines = [f"{len(value)} records"] + [f"{count} x {shape}" for count, shape in found]
    return lines, " ".join([str(len(value)), *(str(count) for count, _ in found)])


def _changes(desk: Desk, value: Sequence[Change]) -> tuple[list[str], str]:
    lines, numbers = [], []
    for c in list(value)[-ROWS_SHOWN:]:
        ago = (desk.brief.now_ms - c.at_ms) // 1000
        lines.append(
            f"{quoted(c.change_id, desk.masker, 40)}: {clean(c.kind, 12)} "
            f"{quoted(c.service, desk.masker, 40)} from {quoted(c.from_version, desk.masker, 30)} "
            f"(revision {c.from_revision}) to {quoted(c.to_version, desk.masker, 30)} "
            f"(revision {c.to_revision}), weight {c.weight_bp} bp, {ago} s ago"
            + (f"; text: {quoted(c.text, desk.masker, 120)}" if c.text else "")
        )
        numbers += [str(c.from_revision), str(c.to_revision), f"{c.weight_bp} bp", f"{ago} s"]
    return lines, " ".join(numbers)


def _inventory(desk: Desk, value: Inventory) -> tuple[list[str], str]:
    lines, numbers = [], []
    for w in value.workloads:
        if w.service not in desk.names.services:
            continue
        revisions = ", ".join(
            f"{r.revision} ({quoted(r.version, desk.masker, 30)}, {r.weight_bp} bp)"
            for r in w.revisions[-4:]
        )
        lines.append(f"{w.service}: revision {w.current_revision} wanted; has {revisions}")
        for i in w.instances:
            ejected = ", ejected" if i.ejected else ""
            lines.append(
                f"  {quoted(i.instance, desk.masker, 60)}: {clean(i.state, 12)}, "
                f"{i.restarts} restarts{ejected}"
            )
            numbers.append(str(i.restarts))
        numbers += [str(r.revision) for r in w.revisions] + [
            f"{r.weight_bp} bp" for r in w.revisions
        ]
    return lines, " ".join(numbers)


def arguments_of(raw: object) -> JsonObject:
    """Checked arguments as an object."""
    return cast("JsonObject", raw) if isinstance(raw, Mapping) else {}
