from __future__ import annotations

import gzip
import hashlib
import json
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop4.domain import Json
from loop4.errors import InputError, Refused, Unreachable
from loop4.tools.backends.ports import (
    Change,
    Instance,
    Inventory,
    LogRecord,
    Revision,
    Span,
    Workload,
)
from loop4.tools.backends.recorded import RecordedClock
from loop4.tools.backends.recording import (
    Answer,
    RecordedSeries,
    Recorder,
    Recording,
    Write,
    edit_samples,
)
from loop4.tools.backends.recording_file import capture, read_recording, write_recording
from loop4.tools.backends.recording_lines import FORBIDDEN_KEYS
from loop4.tools.backends.series import STALE, SeriesStore, is_stale

texts = st.text(max_size=12)
moments = st.integers(0, 2**45)
numbers = st.one_of(
    st.integers(-(2**54), 2**54).map(float),
    st.floats(allow_nan=False),
    st.sampled_from([-0.0, math.inf, -math.inf]),
)
spans = st.builds(
    Span, *[texts] * 9, moments, moments, st.booleans(), st.integers(0, 599), text=texts
)
logs = st.builds(LogRecord, moments, *[texts] * 5, trace_id=texts)
changes = st.builds(
    Change,
    texts,
    moments,
    *[texts] * 3,
    st.integers(),
    st.integers(),
    *[texts] * 4,
    st.integers(0, 10_000),
    texts,
    mark=texts,
    text=texts,
)
revisions = st.builds(Revision, st.integers(), texts, texts, moments, st.integers(0, 10_000))
instances = st.builds(
    Instance,
    texts,
    texts,
    st.integers(),
    texts,
    texts,
    st.booleans(),
    st.integers(),
    moments,
    st.integers(0, 10_000),
    mark=texts,
)
workloads = st.builds(
    Workload,
    texts,
    texts,
    st.integers(),
    texts,
    st.integers(),
    st.integers(),
    moments,
    texts,
    st.lists(revisions, max_size=2).map(tuple),
    st.lists(instances, max_size=2).map(tuple),
)
inventories = st.builds(
    Inventory,
    moments,
    st.lists(workloads, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
)


@st.composite
def series(draw: st.DrawFn) -> RecordedSeries:
    times = draw(st.lists(moments, max_size=6, unique=True).map(sorted))
    values = draw(st.lists(numbers, min_size=len(times), max_size=len(times)))
    labels = draw(st.dictionaries(texts, texts, max_size=3))
    return RecordedSeries(tuple(sorted(labels.items())), tuple(times), tuple(values))


def lists_of(elements: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(elements, max_size=4).map(tuple)


recordings = st.builds(
    Recording,
    texts,
    moments,
    moments,
    lists_of(series()),
    lists_of(spans),
    lists_of(logs),
    lists_of(changes),
    lists_of(inventories),
    lists_of(moments),
    lists_of(st.builds(Answer, texts, texts, texts, st.booleans(), moments)),
    lists_of(
        st.builds(
            Write,
            moments,
            texts,
            texts,
            st.dictionaries(
                texts.filter(lambda key: key.lower() not in FORBIDDEN_KEYS),
                st.one_of(texts, st.integers(-(2**60), 2**60), st.booleans()),
                max_size=3,
            ),
            mark=texts,
        )
    ),
)


@settings(max_examples=150, deadline=None)
@given(recording=recordings)
def test_what_is_written_is_what_is_read(
    recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("recording", numbered=True) / "r.jsonl.gz"
    write_recording(path, recording)
    there = read_recording(path)
    assert there == recording
    for ours, theirs in zip(recording.series, there.series, strict=True):
        assert list(map(repr, ours.values)) == list(map(repr, theirs.values))
    first = path.read_bytes()
    write_recording(path, there)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["r.jsonl.gz"]


def small() -> Recording:
    recorder = Recorder("lab", 1000)
    recorder.samples({"__name__": "up", "service": "orders"}, [(1000, 1), (2000, None), (3000, 0)])
    recorder.samples({"__name__": "nan"}, [(1000, math.nan)])
    recorder.spans([SPAN, replace(SPAN, span_id="b", parent_id="a"), SPAN])
    recorder.logs([LogRecord(1500, "orders", "1", "orders-1", "ERROR", "failed", "t")])
    recorder.inventory(Inventory(1000, (), ("bank",)))
    recorder.inventory(Inventory(2000, (), ("bank",)))
    recorder.inventory(Inventory(3000, (), ()))
    recorder.tick(3000)
    recorder.tick(1000)
    recorder.answer("dana", "deployments.roll_back", "orders", approve=True, delay_ms=800)
    recorder.write(2500, "deployments.roll_back", "orders", {"to_revision": 41}, mark="act-1")
    return recorder.recording(4000)


SPAN = Span("t", "a", "", "GET /", "orders", "1", "orders-1", "server", "", 1100, 20, True, 500)


def test_a_recorder_keeps_each_thing_once_and_in_the_order_of_time() -> None:
    recording = small()
    assert [s.span_id for s in recording.spans] == ["a", "b"]
    assert [i.at_ms for i in recording.inventories] == [1000, 3000]
    assert recording.ticks == (1000, 3000)
    up = recording.series[1]
    assert up.labels == (("__name__", "up"), ("service", "orders"))
    assert is_stale(up.values[1])


def test_the_end_of_a_series_and_a_nan_come_back_as_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write_recording(path, small())
    nan, up = read_recording(path).series
    assert math.isnan(nan.values[0])
    assert not is_stale(nan.values[0])
    assert is_stale(up.values[1])
    assert (up.values[0], up.values[2]) == (1.0, 0.0)


def changed(path: Path, change: Callable[[list[dict[str, Json]]], None]) -> Path:
    """The file with its lines changed and a footer that fits them."""
    lines = [json.loads(line) for line in gzip.open(path, "rb")]
    change(lines)
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:-1])
    lines[-1] |= {"lines": len(lines) - 1, "digest": hashlib.sha256(body).hexdigest()}
    path.write_bytes(gzip.compress(body + json.dumps(lines[-1]).encode() + b"\n"))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl.gz"
    write_recording(path, small())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read_recording(path)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_file_that_was_not_changed_after_all_is_read(path: Path) -> None:
    recording = read_recording(path)
    assert repr(read_recording(changed(path, lambda lines: None))) == repr(recording)


def test_every_truncated_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert "truncated" in message or "damaged" in message or "empty" in message, length


def test_a_file_without_its_last_lines_is_truncated(path: Path) -> None:
    lines = list(gzip.open(path, "rb"))
    for count in range(1, len(lines)):
        path.write_bytes(gzip.compress(b"".join(lines[:count])))
        assert "truncated" in refusal(path)


def test_any_changed_byte_is_refused_or_changes_nothing(path: Path) -> None:
    whole = path.read_bytes()
    original = repr(read_recording(path))
    rng = random.Random(4)  # noqa: S311  (a choice of bytes, no secret)
    for _ in range(150):
        index = rng.randrange(len(whole))
        path.write_bytes(
            whole[:index] + bytes([whole[index] ^ 1 << rng.randrange(8)]) + whole[index + 1 :]
        )
        with suppress(InputError):
            assert repr(read_recording(path)) == original


def test_a_changed_sample_under_the_old_footer_is_damage(path: Path) -> None:
    text = gzip.decompress(path.read_bytes()).replace(b'"failed"', b'"passed"')
    path.write_bytes(gzip.compress(text))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"PK\x03\x04",
        gzip.compress(b""),
        gzip.compress(b"x\n"),
        gzip.compress(b"[]\n"),
        gzip.compress(b'{"format":"other"}\n'),
    ],
)
def test_a_foreign_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "recording" in refusal(path)


def test_a_line_after_the_footer_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + gzip.compress(b'{"kind":"ticks","deltas":[1]}\n'))
    assert "follows the footer" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "nowhere.gz")
    assert "cannot be read" in refusal(tmp_path)


def test_a_later_version_is_refused_with_what_to_do(path: Path) -> None:
    def later(lines: list[dict[str, Json]]) -> None:
        lines[0]["version"] = 2

    message = refusal(changed(path, later))
    assert "version 2" in message
    assert "version 1" in message


@pytest.mark.parametrize("key", sorted(FORBIDDEN_KEYS))
def test_a_recording_that_holds_a_judgement_is_neither_read_nor_written(
    path: Path, key: str
) -> None:
    before = path.read_bytes()
    judged = Write(1, "t", "x", {"nested": {key.upper(): "orders"}})
    with pytest.raises(InputError, match="judgement"):
        write_recording(path, replace(small(), writes=(judged,)))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]

    def judge(lines: list[dict[str, Json]]) -> None:
        lines[0][key] = "x"

    assert key in refusal(changed(path, judge))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("series", "labels", {"a": "b"}),
        ("series", "times", 99),
        ("times", "deltas", [1.5]),
        ("spans", "columns", {}),
        ("logs", "columns", None),
        ("inventory", "inventory", {"at_ms": "now"}),
        ("write", "at_ms", None),
        ("write", "arguments", []),
        ("ticks", "deltas", "x"),
        ("answers", "kind", "opinions"),
    ],
)
def test_a_line_that_does_not_hold_what_it_should_is_named(
    path: Path, kind: str, field: str, value: Json
) -> None:
    def spoil(lines: list[dict[str, Json]]) -> None:
        next(line for line in lines if line.get("kind") == kind)[field] = value

    assert ", line " in refusal(changed(path, spoil))


def test_a_capture_is_there_after_the_block_and_a_second_one_is_refused(tmp_path: Path) -> None:
    path, clock = tmp_path / "r.jsonl.gz", RecordedClock(1000)
    with capture(path, "lab", clock) as recorder:
        recorder.tick(1500)
        with pytest.raises(Refused, match="another process"), capture(path, "lab", clock):
            raise AssertionError("two recorders on one path")
        clock.advance_to(2000)
        assert not path.exists()
    assert read_recording(path) == Recording("lab", 1000, 2000, ticks=(1500,))
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl.gz"]


def test_a_capture_that_fails_leaves_what_was_there_before(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConnectionError), capture(path, "lab", RecordedClock(1)):
        raise ConnectionError("the world went away")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_killed_writers_rest_does_not_stop_the_next(path: Path) -> None:
    path.with_name(f".{path.name}.part").write_bytes(b"half")
    write_recording(path, small())
    assert repr(read_recording(path)) == repr(small())


def test_a_path_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not exist") as refused:
        write_recording(tmp_path / "nowhere" / "r.gz", small())
    assert "\n" not in str(refused.value)


def test_edited_samples_change_the_matching_series_alone() -> None:
    recording = small()
    edited = edit_samples(recording, "up", {"service": "orders"}, lambda at_ms, value: value * 2)
    assert edited.series[1].values[0] == 2.0
    assert repr(edited.series[0]) == repr(recording.series[0])
    assert replace(edited, series=()) == replace(recording, series=())
    with pytest.raises(InputError, match="no series"):
        edit_samples(recording, "up", {"service": "nobody"}, lambda at_ms, value: value)


def test_ninety_seconds_of_a_busy_lab_stay_small(tmp_path: Path) -> None:
    """400 series every half second, 34 requests/s; 1 in 3 leaves 7 spans and 2 lines."""
    rng = random.Random(1)  # noqa: S311  (made-up traffic, no secret)
    store, recorder = SeriesStore(), Recorder("lab", 0)
    for number in range(400):
        labels = {"service": f"s{number % 3}", "instance": f"i{number % 9}", "le": str(number)}
        total = 0
        for tick in range(180):
            total += rng.randrange(6)
            store.append("http_request_duration_seconds_bucket", labels, tick * 500, total)
    recorder.store(store)
    for request in range(90 * 34 // 3):
        trace, parent = f"{rng.getrandbits(128):032x}", ""
        for depth in range(7):
            own, at_ms = f"{rng.getrandbits(64):016x}", request * 88 + depth
            recorder.spans(
                [
                    Span(
                        trace,
                        own,
                        parent,
                        "call payments",
                        f"s{depth % 3}",
                        "1.41.0",
                        f"i{depth}",
                        "server",
                        "",
                        at_ms,
                        rng.randrange(90),
                        False,
                        200,
                    )
                ]
            )
            parent = own
        recorder.logs(
            [
                LogRecord(
                    request * 88,
                    "s1",
                    "1.41.0",
                    "i1",
                    "ERROR",
                    "checkout failed: upstream payments answered 502",
                    trace,
                )
            ]
            * 2
        )
    write_recording(tmp_path / "r", recorder.recording(90_000))
    assert (tmp_path / "r").stat().st_size < 600_000, (tmp_path / "r").stat().st_size


def test_a_stale_marker_in_a_store_is_recorded_as_one() -> None:
    store, recorder = SeriesStore(), Recorder("lab", 0)
    store.append("up", {}, 1, 1.0)
    store.mark_stale("up", {}, 2)
    recorder.store(store)
    (only,) = recorder.recording(3).series
    assert only.values[0] == 1.0
    assert is_stale(only.values[1])
    assert is_stale(STALE)
