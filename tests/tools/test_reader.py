"""An agent's only handle on the world: each read is judged, recorded once, and never raises."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from loop4.domain import SourceKind
from loop4.errors import Refused, Unreachable
from loop4.policies.load import load_policy
from loop4.tools.backends.ports import Change, Inventory, LogRecord, World
from loop4.tools.backends.promql import EmbeddedMetrics
from loop4.tools.backends.series import SeriesStore
from loop4.tools.reader import Reader, Scope

T = TypeVar("T")
NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
POLICY = load_policy()


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


@dataclass
class FixedClock:
    at_ms: int = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms


@dataclass
class Sources:
    """Answers with nothing, with one record, or with an error; counts the questions."""

    error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        self._ask("logs")
        return [LogRecord(end_ms - 1, service, "v1", f"{service}-1", "ERROR", "boom")]

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        self._ask("changes")
        return []

    async def inventory(self) -> Inventory:
        self._ask("inventory")
        return Inventory(NOW_MS, (), ())

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


def reader_over(sources: Sources, *, since_ms: int = NOW_MS - HOUR_MS) -> Reader:
    world = World(
        metrics=EmbeddedMetrics(SeriesStore()),
        traces=None,
        logs=sources,
        changes=sources,
        workloads=sources,
    )
    scope = Scope("INC-2026-001", "lab", frozenset({"orders", "payments"}), since_ms)
    return Reader(world, POLICY, FixedClock(), scope)


def test_an_answered_read_is_a_value_with_a_record() -> None:
    sources = Sources()
    reader = reader_over(sources)
    read = run(reader.logs(NOW_MS - 1000, NOW_MS, service="orders"))
    assert read.value is not None
    assert (read.missing, read.denied) == ("", "")
    record = reader.records[read.evidence]
    assert (record.tool, record.source, record.at_ms) == ("logs.records", SourceKind.LOGS, NOW_MS)
    assert record.summary == "1 records"
    assert "boom" not in str(record)


def test_a_service_outside_the_incident_is_denied_and_nobody_is_asked() -> None:
    sources = Sources()
    reader = reader_over(sources)
    read = run(reader.logs(NOW_MS - 1000, NOW_MS, service="billing"))
    assert read.value is None
    assert read.denied
    assert reader.records[read.evidence].denied == read.denied
    assert sources.asked == []


def test_data_older_than_the_incident_is_denied() -> None:
    sources = Sources()
    reader = reader_over(sources)
    inside = run(reader.changes(NOW_MS - HOUR_MS, NOW_MS))
    outside = run(reader.changes(NOW_MS - HOUR_MS - 1, NOW_MS))
    assert inside.denied == ""
    assert outside.denied
    assert sources.asked == ["changes"]


def test_more_than_a_week_at_once_is_denied_with_the_numbers() -> None:
    sources = Sources()
    week_ms = 604_800_000
    reader = reader_over(sources, since_ms=0)
    read = run(reader.logs(NOW_MS - week_ms - 1000, NOW_MS, service="orders"))
    assert "604801" in read.denied
    assert "604800" in read.denied
    assert sources.asked == []


def test_no_data_is_a_value_of_its_own() -> None:
    reader = reader_over(Sources())
    read = run(reader.query('sum(rate(http_requests_total{service="orders"}[10s]))', NOW_MS))
    assert read.value is None
    assert read.denied == ""
    assert "nothing" in read.missing


def test_a_source_that_is_not_configured_is_missing() -> None:
    read = run(reader_over(Sources()).spans(NOW_MS - 1000, NOW_MS))
    assert (read.value, read.denied) == (None, "")
    assert "no back end is configured" in read.missing


@pytest.mark.parametrize("error", [Unreachable("no answer from logs"), Refused("not you")])
def test_a_failing_back_end_is_missing_data_and_no_crash(error: Exception) -> None:
    reader = reader_over(Sources(error=error))
    read = run(reader.logs(NOW_MS - 1000, NOW_MS, service="orders"))
    assert read.value is None
    assert str(error) in read.missing
    assert reader.records[read.evidence].summary == read.missing


def test_a_query_that_the_engine_refuses_is_missing_data() -> None:
    read = run(reader_over(Sources()).query("topk(3, up)", NOW_MS))
    assert read.value is None
    assert read.missing.startswith("metrics: ")


def test_the_same_question_twice_is_one_read_and_one_record() -> None:
    sources = Sources()
    reader = reader_over(sources)

    async def twice() -> None:
        first, second = await asyncio.gather(
            reader.logs(NOW_MS - 1000, NOW_MS, service="orders"),
            reader.logs(NOW_MS - 1000, NOW_MS, service="orders"),
        )
        assert first is second

    run(twice())
    assert sources.asked == ["logs"]
    assert len(reader.records) == 1


def test_another_question_is_another_record() -> None:
    reader = reader_over(Sources())
    run(reader.logs(NOW_MS - 1000, NOW_MS, service="orders"))
    run(reader.logs(NOW_MS - 1000, NOW_MS, service="payments"))
    assert len(reader.records) == 2
