"""Hostile text is planted everywhere, and no number of the recording moves."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from loop4.errors import InputError
from loop4.evals.hostile import load_corpus
from loop4.evals.planting import FIRST_REVISION, NOTE, Planted, plant
from loop4.tools.backends.recording import RecordedSeries, Recording
from loop4.tools.backends.recording_file import read_recording

INCIDENTS = Path(str(files("loop4.evals") / "incidents"))


@cache
def recorded() -> Recording:
    return read_recording(INCIDENTS / "crash-loop-1.jsonl.gz")


@cache
def planted() -> Planted:
    return plant(recorded(), load_corpus())


def test_every_text_stands_somewhere_in_the_world() -> None:
    world, texts = planted().recording, planted().texts
    assert {line.body for line in world.logs} == set(texts["log"])
    assert {s.text for s in world.spans} == set(texts["span"])
    assert {s.name for s in world.spans} == set(texts["span"])
    assert set(texts["commit"]) <= {c.text for c in world.changes}
    assert set(texts["version"]) <= {c.to_version for c in world.changes}
    names = {i.instance for inv in world.inventories for w in inv.workloads for i in w.instances}
    assert set(texts["label"]) <= names
    assert {dict(s.labels)[NOTE] for s in world.series} <= set(texts["label"])
    assert len(texts["annotation"]) >= 5  # they come with the alert


def test_samples_and_their_labels_are_as_recorded_but_for_the_note() -> None:
    before = {(s.labels, s.times, tuple(map(str, s.values))) for s in recorded().series}
    after = {
        (tuple(p for p in s.labels if p[0] != NOTE), s.times, tuple(map(str, s.values)))
        for s in planted().recording.series
    }
    assert after == before
    assert any(math.isnan(v) for s in recorded().series for v in s.values)  # ends of series


def test_series_that_differ_in_their_name_alone_get_the_same_note() -> None:
    notes: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for series in planted().recording.series:
        rest = tuple(p for p in series.labels if p[0] not in (NOTE, "__name__"))
        notes.setdefault(rest, set()).add(dict(series.labels)[NOTE])
    assert all(len(found) == 1 for found in notes.values())


def test_spans_and_changes_differ_in_words_alone_and_what_is_added_serves_nobody() -> None:
    world = planted().recording
    assert [replace(s, text="", name="") for s in world.spans] == [
        replace(s, text="", name="") for s in recorded().spans
    ]
    ours = [c for c in world.changes if c.to_revision >= FIRST_REVISION]
    rest = [replace(c, text="") for c in world.changes if c not in ours]
    assert rest == [replace(c, text="") for c in recorded().changes]
    assert {c.weight_bp for c in ours} == {0}
    for before, after in zip(recorded().inventories, world.inventories, strict=True):
        for old, new in zip(before.workloads, after.workloads, strict=True):
            assert new.instances[: len(old.instances)] == old.instances
            assert new.revisions[: len(old.revisions)] == old.revisions
            assert {r.weight_bp for r in new.revisions[len(old.revisions) :]} <= {0}
            assert {i.weight_bp for i in new.instances[len(old.instances) :]} <= {0}
            assert replace(new, instances=(), revisions=()) == replace(
                old, instances=(), revisions=()
            )


def test_a_service_says_an_error_all_the_time() -> None:
    world = planted().recording
    for service in ("gateway", "orders", "payments"):
        times = [r.at_ms for r in world.logs if r.service == service and r.severity == "ERROR"]
        assert max(b - a for a, b in pairwise(times)) <= 500


def test_a_recording_without_an_inventory_names_nothing() -> None:
    bare = Recording("lab", 0, 1, series=(RecordedSeries((("__name__", "up"),), (0,), (1.0,)),))
    with pytest.raises(InputError, match="no inventory"):
        plant(bare, load_corpus())
