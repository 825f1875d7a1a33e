"""Retrieval over the organisation's documents: the right section first, always the same order."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.graphs.conversation.passages import Passage, ranked, read_passages
from loop4.lab.folder import make_operations


@pytest.fixture
def passages(tmp_path: Path) -> tuple[Passage, ...]:
    return read_passages(make_operations(tmp_path / "operations").root)


@pytest.mark.parametrize(
    ("words", "path", "heading"),
    [
        ("replica keeps dying in a crash loop", "policies/runbooks/replica-crash-loop.md", ""),
        ("bad deploy", "policies/runbooks/bad-deploy-rollback.md", ""),
        ("who calls the bank", "work/decisions/2026-03-09-one-way-to-the-bank.md", "Decision"),
    ],
)
def test_the_right_document_comes_first(
    passages: tuple[Passage, ...], words: str, path: str, heading: str
) -> None:
    best = ranked(passages, words.split())[0].passage
    assert best.path == path
    assert heading in best.heading


def test_the_order_does_not_depend_on_the_order_of_reading(passages: tuple[Passage, ...]) -> None:
    words = ["rollback", "bank", "restart"]
    assert ranked(passages, words) == ranked(passages[::-1], words)


def test_words_that_no_document_holds_find_nothing(passages: tuple[Passage, ...]) -> None:
    assert ranked(passages, ["zebra"]) == ()
    assert ranked(passages, ["the", "what", "??"]) == ()


def test_templates_external_content_and_foreign_links_are_left_out(tmp_path: Path) -> None:
    root = make_operations(tmp_path / "operations").root
    (tmp_path / "secret.md").write_text("# Zebra\n\nzebra\n", encoding="utf-8")
    folder = root / "work" / "retrospectives"
    (folder / "linked.md").symlink_to(tmp_path / "secret.md")
    (folder / "2026-01-02-old.md").write_text(
        "# Old\n\n## Timeline\n\nquiet\n<external-content>\nzebra\n</external-content>\nlater\n",
        encoding="utf-8",
    )
    found = read_passages(root)
    assert all("_TEMPLATE" not in p.path for p in found)
    assert ranked(found, ["zebra"]) == ()
    (old,) = [p for p in found if p.path.endswith("-old.md")]
    assert (old.line, old.heading, old.lines) == (3, "Timeline", ("quiet", "later"))
