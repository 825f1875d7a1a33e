"""The one page past the gate: fixed text, rarely, and only when the ledger fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.tools.emergency import EVERY_MS, TEXT, page_emergency

NOW_MS = 1_790_000_000_000 // EVERY_MS * EVERY_MS


def test_one_page_goes_out_in_fifteen_minutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert page_emergency(tmp_path, NOW_MS)
    assert not page_emergency(tmp_path, NOW_MS + EVERY_MS - 1)
    assert page_emergency(tmp_path, NOW_MS + EVERY_MS)
    pages = sorted((tmp_path / "work" / "incidents").glob("EMERGENCY-*.md"))
    assert [p.read_text(encoding="utf-8") for p in pages] == [TEXT, TEXT]
    assert capsys.readouterr().err.count("EMERGENCY") == 2


def test_a_folder_that_cannot_be_written_leaves_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    assert page_emergency(blocked, NOW_MS)
    assert "cannot be written" in capsys.readouterr().err
