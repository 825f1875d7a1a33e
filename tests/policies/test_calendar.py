"""The calendar of freezes and planned work, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.errors import PolicyError
from loop4.policies.calendar import PAGES_PER_DAY, Calendar, CalendarFile, load_calendar

HEAD = "apiVersion: loop4/v1\nkind: DutyCalendar\nmetadata: {name: duty}\nspec:\n"
DAY_MS = 86_400_000
CHRISTMAS_MS = 1_798_135_200_000  # 2026-12-24T18:00:00Z


def write(tmp_path: Path, spec: str) -> Path:
    path = tmp_path / "calendar.yaml"
    path.write_text(HEAD + spec, encoding="utf-8")
    return path


def test_without_a_file_nothing_is_frozen_or_planned(tmp_path: Path) -> None:
    assert load_calendar(tmp_path / "calendar.yaml") == Calendar(pages_per_day=PAGES_PER_DAY)


def test_a_window_holds_for_what_it_names_from_its_start_up_to_its_end(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "  pages_per_day: 12\n"
        "  freezes:\n"
        "  - {name: holidays, from: '2026-12-24T18:00:00Z', until: '2026-12-27T06:00:00Z',\n"
        "     environments: [production], reason: few people}\n"
        "  maintenance:\n"
        "  - {name: move, from: '2026-12-24T18:00:00Z', until: '2026-12-24T19:00:00Z',\n"
        "     services: [orders]}\n",
    )
    calendar = load_calendar(path)
    assert calendar.pages_per_day == 12
    held = calendar.freeze("production", "orders", CHRISTMAS_MS)
    assert held is not None
    assert (held.name, held.reason) == ("holidays", "few people")
    assert calendar.freeze("production", "orders", CHRISTMAS_MS - 1) is None
    assert calendar.freeze("production", "orders", held.end_ms - 1) is held
    assert calendar.freeze("production", "orders", held.end_ms) is None
    assert calendar.freeze("staging", "orders", CHRISTMAS_MS) is None
    assert calendar.planned("staging", "orders", CHRISTMAS_MS) is not None
    assert calendar.planned("staging", "payments", CHRISTMAS_MS) is None
    assert calendar.planned("staging", "orders", CHRISTMAS_MS + DAY_MS) is None


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            "  freezes: [{name: a, from: soon, until: later}]\n",
            "found 'soon', expected a moment",
        ),
        (
            "  freezes: [{name: a, from: '2026-12-24T18:00:00Z', until: '2026-12-24T18:00:00Z'}]\n",
            "ends before it begins",
        ),
        ("  freezes: [{name: a, from: '2026-12-24T18:00:00Z'}]\n", "until"),
        ("  freeze: []\n", "freezes"),
        ("  pages_per_day: 0\n", "pages_per_day|0"),
        ("  freezes: [{name: '{{HOLIDAYS}}', from: x, until: y}]\n", "HOLIDAYS"),
    ],
)
def test_a_calendar_that_cannot_be_read_is_told_with_its_place(
    tmp_path: Path, spec: str, told: str
) -> None:
    with pytest.raises(PolicyError, match=told) as caught:
        load_calendar(write(tmp_path, spec))
    assert "calendar.yaml:" in str(caught.value)


def test_a_freeze_that_is_written_down_later_is_seen_at_the_next_look(tmp_path: Path) -> None:
    kept = CalendarFile(tmp_path / "calendar.yaml")
    assert kept.load().freezes == ()
    always = "from: '2020-01-01T00:00:00Z', until: '2120-01-01T00:00:00Z'"
    write(tmp_path, f"  freezes: [{{name: long, {always}}}]\n")
    assert [w.name for w in kept.load().freezes] == ["long"]
    assert kept.load() is kept.load()
    write(tmp_path, "  freezes: [nonsense\n")
    for _ in range(2):
        with pytest.raises(PolicyError):
            kept.load()
    (tmp_path / "calendar.yaml").unlink()
    assert kept.load() == Calendar()
