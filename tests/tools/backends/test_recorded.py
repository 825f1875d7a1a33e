from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.errors import Conflict, QueryError, Refused, Unreachable
from loop4.tools.backends.ports import (
    Change,
    Instance,
    Inventory,
    LogRecord,
    Revision,
    Series,
    Span,
    Workload,
    WorkloadsReader,
)
from loop4.tools.backends.recorded import PATIENCE_MS, RecordedClock, RecordedWorld
from loop4.tools.backends.recorded_writer import RecordedWriter
from loop4.tools.backends.recording import Recorder, Recording

T = TypeVar("T")
ROLLED_BACK_MS = 60_000
RESTARTED_MS = 80_000


def run(coroutine: Coroutine[object, object, T]) -> T:
    return asyncio.run(coroutine)


def inventory(at_ms: int, *, current: int, version: str, mark: str = "") -> Inventory:
    revisions = tuple(
        Revision(number, f"1.{number}.0", f"digest-{number}", 0, 10_000 * (number == current))
        for number in (41, 42)
    )
    instance = Instance(
        "orders-1", "orders", current, f"1.{current}.0", "ready", False, 0, 0, 10_000, mark=mark
    )
    workload = Workload(
        "orders", version, 3, f"d-{current}", current, 1, at_ms, mark, revisions, (instance,)
    )
    return Inventory(at_ms, (workload,), ("bank",))


def recording() -> Recording:
    """Errors from 20 s on; a rollback at 60 s, a restart at 80 s; marks of that time."""
    recorder = Recorder("lab", 0)
    errors = 0
    for second in range(120):
        errors += 5 if 20 <= second < 60 else 0
        recorder.samples({"__name__": "errors_total"}, [(second * 1000, errors)])
        recorder.logs([LogRecord(second * 1000, "orders", "1", "orders-1", "INFO", "alive")])
    recorder.logs([LogRecord(21_000, "orders", "1", "orders-1", "ERROR", "failed")])
    for number, at_ms in enumerate((10_000, 21_000, 70_000)):
        recorder.spans(
            [
                Span(
                    "t",
                    str(number),
                    "",
                    "GET",
                    "orders",
                    "1",
                    "i",
                    "server",
                    "",
                    at_ms,
                    500,
                    number == 1,
                    200,
                )
            ]
        )
    recorder.inventory(inventory(0, current=42, version="5"))
    recorder.inventory(inventory(60_300, current=41, version="6", mark="then-1"))
    for at_ms, kind, mark in ((15_000, "deploy", ""), (ROLLED_BACK_MS, "rollback", "then-1")):
        recorder.changes(
            [
                Change(
                    kind,
                    at_ms,
                    kind,
                    "orders",
                    "",
                    41,
                    42,
                    "a",
                    "b",
                    "c",
                    "d",
                    10_000,
                    "x",
                    mark=mark,
                )
            ]
        )
    recorder.write(
        ROLLED_BACK_MS, "deployments.roll_back", "orders", {"to_revision": 41}, mark="then-1"
    )
    recorder.write(RESTARTED_MS, "workloads.restart", "orders-1", {"restarted_at_ms": 79_000})
    return recorder.recording(120_000)


def played(at_ms: int) -> tuple[RecordedWorld, RecordedClock]:
    clock = RecordedClock(at_ms)
    return RecordedWorld(recording(), clock), clock


def value(series: Sequence[Series]) -> float | None:
    return series[0].points[-1][1] if series else None


def roll_back(world: RecordedWorld, to_revision: int = 41, expected: str = "5") -> bool:
    return run(
        RecordedWriter(world).roll_back("orders", to_revision, expected=expected, mark="now-1")
    ).changed


def test_the_clock_never_goes_back() -> None:
    clock = RecordedClock(5)
    clock.advance_to(9)
    clock.advance_to(7)
    assert clock.now_ms() == 9


@given(now_ms=st.integers(0, ROLLED_BACK_MS - 1), asked_ms=st.integers(0, 120_000))
def test_nothing_from_the_future_is_ever_shown(now_ms: int, asked_ms: int) -> None:
    played_world, _ = played(now_ms)
    world = played_world.world()
    assert world.metrics is not None
    assert world.logs is not None
    assert world.traces is not None
    assert world.changes is not None
    for series in run(world.metrics.query_range("errors_total", 0, asked_ms, 20_000)):
        assert max(v for _, v in series.points) <= 5 * max(0, now_ms // 1000 - 19)
    assert all(r.at_ms <= now_ms for r in run(world.logs.records(0, asked_ms + 1)))
    assert all(s.start_ms + 500 <= now_ms for s in run(world.traces.spans(0, asked_ms + 1)))
    assert all(c.at_ms <= now_ms for c in run(world.changes.between(0, asked_ms + 1)))


def test_reads_follow_the_clock_and_the_ports_order_and_filters() -> None:
    world, clock = played(10_499)
    handles = world.world()
    assert handles.traces is not None
    assert handles.logs is not None
    assert run(handles.traces.spans(0, 99_000)) == ()
    clock.advance_to(30_000)
    assert [s.span_id for s in run(handles.traces.spans(0, 99_000))] == ["1", "0"]
    assert [s.span_id for s in run(handles.traces.spans(0, 99_000, errors_only=True))] == ["1"]
    assert [s.span_id for s in run(handles.traces.spans(0, 99_000, limit=1))] == ["1"]
    assert run(handles.traces.spans(0, 99_000, service="payments")) == ()
    newest = run(handles.logs.records(0, 99_000, limit=2))
    assert [r.at_ms for r in newest] == [30_000, 29_000]
    (failed,) = run(handles.logs.records(0, 99_000, min_severity="WARN"))
    assert failed.body == "failed"
    assert [r.at_ms for r in run(handles.logs.records(21_000, 22_000, limit=9))] == [21_000] * 2
    assert value(run(world.query("increase(errors_total[10s])", 30_000))) == pytest.approx(50)
    with pytest.raises(QueryError):
        run(world.query("topk(1, errors_total)", 30_000))


def test_the_inventory_is_as_of_now_and_there_is_none_before_the_first() -> None:
    world, _ = played(50_000)
    assert world.inventory().at_ms == 50_000
    assert world.workload("orders").current_revision == 42
    with pytest.raises(Refused, match="payments"):
        world.workload("payments")
    late = replace(recording(), inventories=(inventory(9_000, current=41, version="1"),))
    with pytest.raises(Unreachable, match="no data"):
        RecordedWorld(late, RecordedClock(5_000)).inventory()


def test_a_recorded_write_moves_the_clock_and_takes_effect_with_our_mark() -> None:
    world, clock = played(45_000)
    assert roll_back(world)
    assert clock.now_ms() == ROLLED_BACK_MS
    assert world.workload("orders").mark == "now-1"
    clock.advance_to(70_000)
    workload = world.workload("orders")
    assert (workload.current_revision, workload.mark) == (41, "now-1")
    assert workload.instances[0].mark == "now-1"
    changes = world.world().changes
    assert changes is not None
    assert [c.mark for c in run(changes.between(0, 99_000))] == ["", "now-1"]
    assert value(run(world.query("increase(errors_total[5s])", 70_000))) == 0
    assert not world.diverged


def test_a_late_write_lets_the_world_stand_still_until_it_is_made() -> None:
    world, clock = played(ROLLED_BACK_MS + 9_000)
    assert world.workload("orders").current_revision == 42
    assert value(run(world.query("errors_total", clock.now_ms()))) == 200
    changes = world.world().changes
    assert changes is not None
    assert [c.kind for c in run(changes.between(0, 99_000))] == ["deploy"]
    assert roll_back(world)
    assert clock.now_ms() == ROLLED_BACK_MS + 9_000
    assert world.workload("orders").current_revision == 41


def test_a_write_that_is_never_made_ends_the_data() -> None:
    world, clock = played(ROLLED_BACK_MS + PATIENCE_MS - 1)
    assert world.inventory()
    clock.advance_to(ROLLED_BACK_MS + PATIENCE_MS)
    assert roll_back(world), "too late: it reports success, as any write on another world"
    assert_no_data(world)
    assert "was not made" in world.diverged


def test_another_write_reports_success_and_ends_the_data() -> None:
    world, clock = played(45_000)
    scaled = run(RecordedWriter(world).scale("orders", 5, expected="5", mark="now-1"))
    assert scaled.changed
    assert clock.now_ms() == 45_000
    assert_no_data(world)
    assert roll_back(world), "a world without data still takes writes, as nobody can tell"
    assert_no_data(world)


def test_a_recorded_write_out_of_its_order_ends_the_data() -> None:
    world, _ = played(45_000)
    run(RecordedWriter(world).restart("orders-1", 45_000, expected="5", mark="now-1"))
    assert_no_data(world)


def assert_no_data(world: RecordedWorld) -> None:
    handles = world.world()
    assert handles.traces is not None
    assert handles.logs is not None
    assert handles.changes is not None
    assert world.diverged or world.present_ms() is None
    assert run(world.query("errors_total", 30_000)) == ()
    assert run(world.query_range("errors_total", 0, 30_000, 1000)) == ()
    assert run(handles.traces.spans(0, 99_000)) == ()
    assert run(handles.logs.records(0, 99_000)) == ()
    assert list(run(handles.changes.between(0, 99_000))) == []
    workloads: WorkloadsReader | None = handles.workloads
    assert workloads is not None
    with pytest.raises(Unreachable, match="no data"):
        run(workloads.inventory())


def test_a_restart_is_known_by_its_instance_whatever_its_time_and_done_once() -> None:
    world, clock = played(45_000)
    roll_back(world)
    clock.advance_to(70_000)
    writer = RecordedWriter(world)
    first = run(writer.restart("orders-1", 70_000, expected="6", mark="now-2"))
    again = run(writer.restart("orders-1", 70_000, expected="old", mark="now-2"))
    assert (first.changed, again.changed) == (True, False)
    assert clock.now_ms() == RESTARTED_MS
    assert world.workload("orders").instances[0].mark == "now-2"
    assert not world.diverged


def test_asking_for_what_already_is_changes_nothing() -> None:
    world, clock = played(45_000)
    assert not roll_back(world, to_revision=42, expected="whatever")
    scaled = run(RecordedWriter(world).scale("orders", 1, expected="whatever", mark="m"))
    assert not scaled.changed
    assert clock.now_ms() == 45_000
    assert not world.diverged


def test_a_stale_version_an_unknown_revision_and_an_unknown_instance_change_nothing() -> None:
    world, clock = played(45_000)
    with pytest.raises(Conflict, match="expected '4'"):
        roll_back(world, expected="4")
    with pytest.raises(Refused, match="revision 7"):
        roll_back(world, to_revision=7)
    with pytest.raises(Refused, match="orders-9"):
        run(RecordedWriter(world).restart("orders-9", 1, expected="5", mark="m"))
    assert clock.now_ms() == 45_000
    assert not world.diverged
    assert roll_back(world)


def test_two_plays_of_one_recording_answer_the_same() -> None:
    def play() -> list[str]:
        world, clock = played(0)
        seen = []
        for at_ms in range(0, 45_000, 5_000):
            clock.advance_to(at_ms)
            seen.append(repr(run(world.query("rate(errors_total[10s])", at_ms))))
            seen.append(repr(world.inventory()))
        roll_back(world)
        seen.append(repr(world.inventory()))
        return seen

    assert play() == play()
