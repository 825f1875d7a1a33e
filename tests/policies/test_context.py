"""The nine sources that must be read before every task."""

from __future__ import annotations

import os
from pathlib import Path

import loop4.lab
from loop4.policies.context import ContextSource, read_context

FILES = (
    "org/4-quality/policies/observability.md",
    "org/4-quality/policies/delivery.md",
    "org/4-quality/policies/security.md",
    "org/4-quality/policies/incident-response.md",
    "policies/targets/orders.yaml",
    "policies/runbooks/rollback.yaml",
    "work/decisions/0001-first.md",
    "work/retrospectives/_TEMPLATE-postmortem.md",
    "work/signals/digests/_TEMPLATE-signal-digest.md",
)
WRITTEN_S = 1_795_564_800
NOW_MS = (WRITTEN_S + 90) * 1000


def operations(root: Path) -> Path:
    for name in FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}\n", encoding="utf-8")
        os.utime(path, (WRITTEN_S, WRITTEN_S))
    return root


def source(root: Path, name: str) -> ContextSource:
    return next(s for s in read_context(root, NOW_MS).sources if s.name == name)


def test_a_full_folder_has_all_nine(tmp_path: Path) -> None:
    report = read_context(operations(tmp_path), NOW_MS)
    assert len(report.sources) == 9
    assert report.is_complete
    assert {s.age_s for s in report.sources} == {90}
    assert all(len(s.digest) == 64 for s in report.sources)


def test_an_empty_folder_has_nine_missing_ones(tmp_path: Path) -> None:
    report = read_context(tmp_path, NOW_MS)
    assert len(report.sources) == 9
    assert all(s.is_missing for s in report.sources)
    assert report.missing_required == (
        "quality_policies",
        "observability_policy",
        "delivery_policy",
        "health_targets",
        "runbooks",
        "incident_framework",
    )


def test_a_missing_optional_source_is_reported_but_lowers_nothing(tmp_path: Path) -> None:
    (operations(tmp_path) / FILES[7]).unlink()
    report = read_context(tmp_path, NOW_MS)
    assert report.is_complete
    assert source(tmp_path, "postmortem_template").is_missing


def test_a_blank_file_counts_as_missing(tmp_path: Path) -> None:
    (operations(tmp_path) / FILES[3]).write_text(" \n", encoding="utf-8")
    assert read_context(tmp_path, NOW_MS).missing_required == ("incident_framework",)


def test_a_changed_byte_changes_that_digest_alone(tmp_path: Path) -> None:
    before = {s.name: s.digest for s in read_context(operations(tmp_path), NOW_MS).sources}
    (tmp_path / FILES[4]).write_text("another target\n", encoding="utf-8")
    after = {s.name: s.digest for s in read_context(tmp_path, NOW_MS).sources}
    assert [name for name in before if before[name] != after[name]] == ["health_targets"]


def test_a_renamed_file_changes_the_digest_of_its_folder(tmp_path: Path) -> None:
    before = source(operations(tmp_path), "decisions").digest
    path = tmp_path / FILES[6]
    path.rename(path.with_name("0002-first.md"))
    assert source(tmp_path, "decisions").digest not in ("", before)


def test_a_link_out_of_the_folder_does_not_count(tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text("not of this organisation\n", encoding="utf-8")
    inside = operations(tmp_path / "operations")
    (inside / FILES[3]).unlink()
    (inside / FILES[3]).symlink_to(outside)
    assert read_context(inside, NOW_MS).missing_required == ("incident_framework",)


def test_the_record_names_every_source(tmp_path: Path) -> None:
    body = read_context(operations(tmp_path), NOW_MS).to_json()
    sources = body["sources"]
    assert isinstance(sources, list)
    assert len(sources) == 9
    assert body["missing_required"] == []


def test_the_labs_folder_has_all_nine() -> None:
    report = read_context(Path(loop4.lab.__path__[0]) / "operations", NOW_MS)
    assert [s.name for s in report.sources if s.is_missing] == []
