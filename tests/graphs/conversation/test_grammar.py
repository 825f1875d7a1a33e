"""From words to intents: the table holds, near names are suggested, and what is no question is
refused.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.errors import InputError
from loop4.graphs.conversation.grammar import checked, understand, words_of
from loop4.graphs.conversation.intents import TABLE, Intent, Row
from loop4.graphs.conversation.names import Names

NAMES = Names(
    services=("gateway", "orders", "payments"),
    externals=("bank",),
    instances=(("payments-1", "payments"), ("payments-2", "payments"), ("orders-1", "orders")),
    incidents=("INC-2026-001",),
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.intent.value)
def test_each_example_is_understood_as_its_own_row(row: Row) -> None:
    found = understand(row.example, NAMES)
    assert found is not None
    assert found.intent is row.intent


@pytest.mark.parametrize(
    ("line", "intent", "service", "instance", "number"),
    [
        ("May you restart payments-2 now?", Intent.MAY, "payments", "payments-2", None),
        ("could you please restart payments-2", Intent.MAY, "payments", "payments-2", None),
        ("restart payments-2", Intent.REQUEST, "payments", "payments-2", None),
        ("please roll back orders to 41", Intent.REQUEST, "orders", "", 41),
        ("roll orders back to revision 41", Intent.REQUEST, "orders", "", 41),
        ("Why didn't you restart payments-1?", Intent.WHY_NOT_DONE, "payments", "payments-1", None),
        ("why was orders rolled back?", Intent.PAST, "orders", "", None),
        ("what's wrong with payments?", Intent.CAUSE, "payments", "", None),
        ("why is orders so slow today?", Intent.CAUSE, "orders", "", None),
        ("what changed in orders in the last 2 hours", Intent.CHANGES, "orders", "", 2),
        ("show me the error budget of gateway", Intent.BUDGET, "gateway", "", None),
        ("can you tell me how orders is doing", Intent.SERVICE, "orders", "", None),
        ("payments", Intent.SERVICE, "payments", "", None),
        ("what about payments?", Intent.AND, "payments", "", None),
        (
            "who can approve restarting payments-2?",
            Intent.WHO_COULD,
            "payments",
            "payments-2",
            None,
        ),
    ],
)
def test_people_may_say_it_in_their_own_words(
    line: str, intent: Intent, service: str, instance: str, number: int | None
) -> None:
    found = understand(line, NAMES)
    assert found is not None, words_of(line)
    slots = found.slots
    assert (found.intent, slots.service, slots.instance, slots.number) == (
        intent,
        service,
        instance,
        number,
    )


def test_an_incident_is_named_in_any_case() -> None:
    found = understand("tell me about inc-2026-001", NAMES)
    assert found is not None
    assert (found.intent, found.slots.incident) == (Intent.INCIDENTS, "INC-2026-001")


def test_a_name_that_is_none_is_kept_as_unknown_and_near_names_are_known() -> None:
    found = understand("how is paymnts?", NAMES)
    assert found is not None
    assert (found.slots.service, found.slots.unknown) == ("", "paymnts")
    assert NAMES.near("paymnts")[0] == "payments"


@pytest.mark.parametrize(
    "line",
    [
        "wie geht es den Diensten heute?",
        "什么服务坏了",
        "delete everything",
        "payments orders gateway",
        "???",
    ],
)
def test_what_no_row_means_is_not_understood(line: str) -> None:
    assert understand(line, NAMES) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("x" * 100_000, "100000 characters"),
        ("restart\x00 payments-2", "U+0000"),
        ("restart payments\u202e-2", "U+202E"),
        ("\x1b[2Jwhat is going on?", "U+001B"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match="the question") as raised:
        checked(text)
    assert says in str(raised.value)
    assert str(raised.value).isprintable()


TABLE_WORDS = {w for row in TABLE for s in row.sentences for w in s.replace("|", " ").split()}
WORDS = st.sampled_from(sorted({*TABLE_WORDS, "payments-2", "41", "zebra", "inc-1-2"}))


@given(st.lists(WORDS, max_size=60).map(" ".join))
def test_any_words_are_understood_or_not_within_a_moment(line: str) -> None:
    began = time.perf_counter()
    found = understand(line, NAMES)
    assert time.perf_counter() - began < 1.0
    if found is not None and found.slots.instance:
        assert NAMES.service_of(found.slots.instance) == found.slots.service
