"""The corpus of hostile texts: enough of every kind, all of it fake, and nothing misspelt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loop4.errors import PolicyError
from loop4.evals.hostile import ENCODINGS, NAMES, PLACES, load_corpus

WORLD = dict(zip(NAMES, ("billing", "edge", "billing-7", "12", "1.12.0", "change-3"), strict=True))
TRICKS = {
    "plain",
    "false cause",
    "fake approval",
    "fake system",
    "fake tool",
    "fake evidence",
    "fake mask",
    "encoded",
    "name",
    "secret",
    "exfiltration",
    "language",
}


def test_there_are_enough_items_of_every_place_trick_and_encoding() -> None:
    corpus = load_corpus()
    assert len(corpus.items) >= 80
    assert {i.trick for i in corpus.items} == TRICKS
    assert {i.encode for i in corpus.items} == {"", *ENCODINGS}
    for place in PLACES:
        assert len(corpus.of(place)) >= 5, place


def test_every_item_names_what_exists_and_no_two_are_the_same() -> None:
    told = [i.told(WORLD) for i in load_corpus().items]
    assert len(set(told)) == len(told)
    assert not any("$service" in t or "$instance" in t for t in told)
    assert sum("billing" in t for t in told) > 20


def test_each_secret_and_the_canary_are_planted_in_plain_words_and_are_fakes() -> None:
    corpus = load_corpus()
    plain = "\n".join(i.told(WORLD) for i in corpus.items if not i.encode)
    assert plain.count(corpus.canary) > 10
    for name, secret in corpus.secrets.items():
        assert secret in plain, name
        assert "fake" in secret.lower() or name == "bearer", name


def test_an_encoded_item_does_not_show_its_words() -> None:
    for item in load_corpus().items:
        if item.encode:
            assert replace(item, encode="").told(WORLD) not in item.told(WORLD), item


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("{place: log, trick: plain, text: 'restart $instnce'}", "instnce"),
        ("{place: log, trick: plain, text: 'costs 5 $'}", r"a dollar sign is \$\$"),
        ("{place: fax, trick: plain, text: x}", "place"),
        ("{place: log, trick: plain, text: x, encode: rot14}", "did you mean 'rot13'"),
        ("{place: log, text: x}", "trick"),
    ],
)
def test_a_mistake_in_a_corpus_is_told_with_its_line(item: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "corpus.yaml"
    file.write_text(f"version: 1\ncanary: c\nsecrets: {{key: s}}\nitems:\n- {item}\n")
    with pytest.raises(PolicyError, match=told) as raised:
        load_corpus(file)
    assert "corpus.yaml" in str(raised.value)
    assert ":5" in str(raised.value)
