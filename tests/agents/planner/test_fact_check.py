"""The fact check: nothing that the facts do not say reaches a person."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.agents.planner.fact_check import FactCheck, SentenceStream, checked, split
from loop4.agents.planner.port import ProseFacts
from tests.agents.hostile import CANARY, HOSTILE, SECRETS

TEMPLATE = (
    "Since 2026-11-25 03:12 UTC, orders v2 fails 6000 bp of its requests. "
    "At the moment this concerns about 30 % of requests. The change chg-42 is the likely cause."
)
FACTS = ProseFacts(
    TEMPLATE,
    required=("2026-11-25 03:12 UTC", "30 %"),
    names=frozenset({"gateway", "orders", "payments", "bank"}),
)
CHECK = FactCheck(FACTS)

TRUE = [
    "Since 2026-11-25 03:12 UTC, orders v2 fails 6000 bp of its requests.",
    "About 30 % of requests fail at the moment.",
    "The likely cause is the change chg-42.",
    "Requests to orders fail, and chg-42 is the likely cause.",
    "60 % of the requests of orders v2 fail.",  # 6000 bp
]
FALSE = {
    "a number": "About 31 % of requests fail at the moment.",
    "a number with another unit": "About 30 minutes of requests fail.",
    "a right number for another thing": "6000 users are affected by the change.",
    "a number in words": "Three requests fail because of the change.",
    "another service": "The requests of payments fail because of the change.",
    "another service in capitals": "Payments fails 6000 bp of its requests.",
    "an unknown name": "The requests of Billing fail at the moment.",
    "an unknown technology": "The change of the kafka requests is the likely cause.",
    "an id": "The change chg-43 is the likely cause.",
    "a version": "The requests of orders v3 fail at the moment.",
    "an act": "The change of orders was rolled back at the moment.",
    "an approval": "The change of orders was approved at the moment.",
    "an outcome": "The requests of orders have recovered at the moment.",
    "a promise": "We promise that requests to orders will not fail.",
    "a denial": "The change chg-42 is not the likely cause.",
    "a quantity": "All requests of orders fail at the moment.",
    "a date": "The change failed requests on Monday.",
    "a time": "Since 04:12 UTC requests of orders fail.",
    "a link": "The likely cause is at https://evil.example/report of orders.",
    "an address": "For the change of orders requests write to a@x.example.",
    "a secret": "The likely cause of the change is sk-abcdefghijklmnop1234.",
    "another script": "Запросы orders fail at the moment.",
    "another language": "Die Anfragen an orders schlagen seit heute morgen leider alle fehl.",
    "nonsense": "qwe rty uiop asdf.",
    "a person": "The change of orders by Dana is the likely cause.",
    "html": "The change <b>orders</b> is the likely cause.",
}

TIED = ProseFacts(
    "gateway 3.46.0 fails 1472 bp of its requests, version 3.45.0 beside it 0 bp. "
    "gateway was rolled back from revision 46 to 45. gateway calls orders, and orders calls "
    "payments. Of the requests of orders 12 fail, of those of payments 340 fail.",
    names=frozenset({"gateway", "orders", "payments", "bank"}),
)
TIED_TRUE = [
    *split(TIED.template),
    "Of the requests, 1472 bp of gateway 3.46.0 fail.",
    "gateway 3.46.0 fails 1472 bp of its requests.",
    "gateway 3.46.0 fails 14.72 % of its requests.",
    "The gateway was rolled back to revision 45.",
    "orders calls payments.",
]
TIED_FALSE = {
    "another version's failures": "gateway 3.45.0 fails 1472 bp of its requests.",
    "versions exchanged": "version 3.45.0 fails beside gateway 3.46.0.",
    "the wrong way round": "gateway was rolled back from revision 45 to 46.",
    "a call the wrong way round": "payments calls orders.",
    "another service's number": "Of the requests of orders 340 fail.",
    "a service that no fact ties to a share": "orders fails 1472 bp of its requests.",
}


@pytest.mark.parametrize("sentence", TIED_TRUE)
def test_what_the_facts_tie_together_stands(sentence: str) -> None:
    assert FactCheck(TIED).fault(sentence) == ""


@pytest.mark.parametrize("what", TIED_FALSE)
def test_right_words_in_a_wrong_relation_are_dropped(what: str) -> None:
    assert "the facts do not" in FactCheck(TIED).fault(TIED_FALSE[what])


@pytest.mark.parametrize("sentence", TRUE)
def test_what_the_facts_say_stands(sentence: str) -> None:
    assert CHECK.fault(sentence) == ""


@pytest.mark.parametrize("what", FALSE)
def test_what_the_facts_do_not_say_is_dropped(what: str) -> None:
    assert CHECK.fault(FALSE[what])


@pytest.mark.parametrize("planted", HOSTILE, ids=lambda h: f"{h.trick}-{h.text[:20]!r}")
def test_no_hostile_text_passes(planted: object) -> None:
    text = getattr(planted, "text", "")
    shown, sentences = checked(FACTS, text)
    assert all(s.reason for s in sentences)
    assert shown == TEMPLATE


@given(st.integers(0, 10**9), st.sampled_from(["", " %", " s", " bp", " requests", " ms"]))
def test_no_number_passes_that_is_not_a_fact(number: int, unit: str) -> None:
    known = {(6000, " bp"), (30, " %"), (60, " %"), (3000, " bp")}
    sentence = f"The change concerns {number}{unit} of orders."
    has_reason = bool(CHECK.fault(sentence))
    if unit:
        assert has_reason == ((number, unit) not in known)
    elif number not in {6000, 60, 30, 3000}:
        assert has_reason


@given(st.text(max_size=200))
def test_whatever_is_said_every_required_fact_is_in_the_text(said: str) -> None:
    shown, _ = checked(FACTS, said)
    assert all(required in shown for required in FACTS.required)


@given(st.lists(st.sampled_from([*TRUE, *FALSE.values()]), min_size=1), st.integers(1, 17))
def test_a_stream_in_pieces_is_judged_like_the_whole(sentences: list[str], size: int) -> None:
    text = " ".join(sentences)
    stream = SentenceStream(CHECK)
    pieces = [s for i in range(0, len(text), size) for s in stream.feed(text[i : i + size])]
    pieces += stream.finish()
    assert pieces == checked(FACTS, text)[1]


def test_a_loop_and_what_is_no_plain_sentence_are_dropped() -> None:
    said = f"{TRUE[0]} {TRUE[0]}\n# orders v2\n- *orders v2 fails*:\nThe facts are:\n{TRUE[0]}"
    shown, judged = checked(FACTS, said)
    assert shown.count(TRUE[0]) == 1
    assert [s.reason for s in judged] == [
        "",
        "says the same again",
        "is no plain sentence",
        "is no plain sentence",
        "is no plain sentence",
        "says the same again",
    ]


@given(st.lists(st.sampled_from([*TRUE, *FALSE.values()]), unique=True))
def test_only_sentences_that_stand_are_shown(sentences: list[str]) -> None:
    shown, judged = checked(FACTS, " ".join(sentences))
    for sentence in judged:
        if sentence.reason:
            assert sentence.text not in shown or sentence.text in TEMPLATE


def test_a_missing_required_fact_is_appended_in_the_templates_words() -> None:
    shown, _ = checked(FACTS, "The likely cause is the change chg-42.")
    assert shown.startswith("The likely cause is the change chg-42.")
    assert split(TEMPLATE)[0] in shown
    assert split(TEMPLATE)[1] in shown


def test_a_template_passes_its_own_check() -> None:
    for sentence in split(TEMPLATE):
        assert CHECK.fault(sentence) == ""


def test_a_sentence_is_judged_within_a_tenth_of_a_second() -> None:
    long = ("orders requests fail at the moment because of chg-42 and " * 7)[:399]
    started = time.perf_counter()
    for _ in range(20):
        CHECK.fault(long)
    assert (time.perf_counter() - started) / 20 < 0.1


def test_no_secret_and_no_canary_is_ever_shown() -> None:
    said = " ".join([*(h.text for h in HOSTILE), *SECRETS])
    shown, _ = checked(FACTS, said)
    assert CANARY not in shown
    assert not any(secret in shown for secret in SECRETS)


TURNED = (
    (
        "393 of 395 failing traces end in calls to bank.",
        "393 failing traces end in calls from bank.",
    ),
    ("gateway went from revision 45 to revision 44.", "gateway went to revision 45."),
    (
        "payments-availability has 5 % left.\norders has 90 % left.",
        "payments-availability has 90 % left.",
    ),
    (
        "orders-availability has 90 % left.\npayments-availability has 5 % left.",
        "payments-availability has 90 % left.",
    ),
)
KEPT = (
    ("393 of 395 failing traces end in calls to bank.", "Calls to bank end in 393 failing traces."),
    ("gateway went from revision 45 to revision 44.", "gateway went to revision 44 at the moment."),
    (
        "orders-availability has 90 % left.\npayments-availability has 5 % left.",
        "5 % of payments-availability is left.",
    ),
    ("requests from orders to bank fail.", "The requests to bank fail."),
)


@pytest.mark.parametrize(("template", "said"), TURNED)
def test_another_direction_or_target_is_dropped(template: str, said: str) -> None:
    names = frozenset({"bank", "gateway", "orders", "payments"})
    assert FactCheck(ProseFacts(template, names=names)).fault(said)


@pytest.mark.parametrize(("template", "said"), KEPT)
def test_the_same_direction_and_target_stand(template: str, said: str) -> None:
    names = frozenset({"bank", "gateway", "orders", "payments"})
    check = FactCheck(ProseFacts(template, names=names))
    assert check.fault(said) == ""
    assert all(check.fault(s) == "" for s in split(template))
