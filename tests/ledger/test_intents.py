from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Action, IntentState, JsonObject, Outcome, Reading
from loop4.errors import LedgerError
from loop4.ledger import evidence, intents
from loop4.ledger.intents import Intent, Reconcile, reconcile
from loop4.ledger.ledger import Ledger, Tx

ACTION = Action(
    action_id="act-1",
    incident_id="INC-1",
    tool="deployments.roll_back",
    target="orders",
    service="orders",
    environment="lab",
    arguments={"service": "orders", "to_revision": 41},
    target_revision="revision-digest",
    agent="remediation",
    requester="remediation",
)
BEFORE: JsonObject = {"revision": 42, "generation": 7}
DONE = Outcome(IntentState.DONE, "rolled back", before={"revision": 42}, after={"revision": 41})


def intend(tx: Tx, action: Action = ACTION, *, nonce: str = "nonce-1", fence: int = 1) -> bool:
    return intents.intend(
        tx,
        action,
        action_digest="digest",
        policy_version="policy",
        approval_id="ap-1",
        permit_nonce=nonce,
        precondition=BEFORE,
        fence=fence,
        run_id="run-1",
        now_ms=100,
    )


def known(tx: Tx, action_id: str = "act-1") -> Intent:
    intent = intents.get(tx, action_id)
    assert intent is not None
    return intent


def other(action_id: str, target: str = "orders", tool: str = ACTION.tool) -> Action:
    return Action(
        action_id, "INC-1", tool, target, "orders", "lab", {}, "r", "remediation", "remediation"
    )


def test_an_intent_is_written_with_all_that_recovery_needs(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert intend(tx)
        intent = known(tx)
    assert intent.state is IntentState.INTENDED
    assert (intent.tool, intent.target, intent.arguments) == (
        ACTION.tool,
        "orders",
        {"service": "orders", "to_revision": 41},
    )
    assert (intent.action_digest, intent.approval_id, intent.run_id) == ("digest", "ap-1", "run-1")
    assert (intent.precondition, intent.fence, intent.target_revision) == (
        BEFORE,
        1,
        "revision-digest",
    )
    assert intent.verified is None


def test_the_same_action_cannot_be_intended_twice(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert intend(tx)
    with ledger.transaction() as tx:
        assert not intend(tx, nonce="nonce-2")
        assert not intents.is_nonce_used(tx, "nonce-2")
        assert intents.settle(tx, "act-1", DONE, fence=1, now_ms=200)
        assert not intend(tx, nonce="nonce-3")


def test_a_permit_is_good_for_one_intent(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert intend(tx)
        assert not intend(tx, other("act-2"))
        assert intents.get(tx, "act-2") is None
        assert intents.is_nonce_used(tx, "nonce-1")
        assert not intents.claim(tx, "act-1", 2, permit_nonce="nonce-1")
        assert intents.claim(tx, "act-1", 2, permit_nonce="nonce-2")
        assert not intend(tx, other("act-3"), nonce="nonce-1")
        assert not intend(tx, other("act-3"), nonce="nonce-2")
        assert known(tx).permit_nonce == "nonce-2"


def test_several_intents_and_their_evidence_are_one_transaction(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for number in range(4):
            intend(tx, other(f"act-{number}"), nonce=f"nonce-{number}")
            evidence.append(
                tx, "intent", "INC-1", "run-1", {}, at_ms=100, action_id=f"act-{number}"
            )
    assert ledger.commits == 1
    with ledger.read() as tx:
        assert len(intents.list_intended(tx)) == 4


@pytest.mark.parametrize("ended", [IntentState.DONE, IntentState.FAILED, IntentState.UNKNOWN])
def test_an_outcome_is_recorded_once_and_is_final(ledger: Ledger, ended: IntentState) -> None:
    with ledger.transaction() as tx:
        intend(tx)
        assert intents.settle(tx, "act-1", Outcome(ended, "what was seen"), fence=1, now_ms=200)
        assert not intents.settle(tx, "act-1", DONE, fence=1, now_ms=300)
        assert not intents.claim(tx, "act-1", 9)
        intent = known(tx)
        assert (intent.state, intent.detail, intent.settled_ms) == (ended, "what was seen", 200)
        assert intents.list_intended(tx) == ()


def test_an_outcome_keeps_the_state_before_and_after(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        intend(tx)
        intents.settle(tx, "act-1", DONE, fence=1, now_ms=200)
        assert (known(tx).before, known(tx).after) == ({"revision": 42}, {"revision": 41})


def test_an_outcome_that_is_none_is_refused(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        intend(tx)
        with pytest.raises(LedgerError, match="done, failed or unknown"):
            intents.settle(tx, "act-1", Outcome(IntentState.INTENDED, ""), fence=1, now_ms=200)


def test_only_a_higher_fence_takes_an_act_over_and_the_lower_can_no_longer_settle(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        intend(tx, fence=5)
        assert not intents.claim(tx, "act-1", 4)
        assert not intents.claim(tx, "act-1", 5)
        assert intents.claim(tx, "act-1", 6)
        assert not intents.settle(tx, "act-1", DONE, fence=5, now_ms=200)
        assert not intents.settle(tx, "act-1", DONE, fence=7, now_ms=200)
        assert known(tx).state is IntentState.INTENDED
        assert intents.mark_unknown(tx, "act-1", "cannot be asked", fence=6, now_ms=200)
        assert known(tx).state is IntentState.UNKNOWN


def test_intents_can_be_listed_by_what_the_facts_need(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        intend(tx, other("a"), nonce="1")
        intend(tx, other("b", target="payments"), nonce="2")
        intend(tx, other("c", tool="oncall.page"), nonce="3")
        named = {
            "orders": intents.list_all(tx, target="orders"),
            "pages": intents.list_all(tx, tool="oncall.page", incident_id="INC-1"),
            "late": intents.list_all(tx, since_ms=101),
            "run": intents.list_all(tx, run_id="run-1", since_ms=100),
        }
    found = {name: [intent.action_id for intent in rows] for name, rows in named.items()}
    assert found == {"orders": ["a", "c"], "pages": ["c"], "late": [], "run": ["a", "b", "c"]}


def test_failed_remediations_are_those_that_failed_or_did_not_help(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for number, ended in enumerate(
            [IntentState.DONE, IntentState.FAILED, IntentState.UNKNOWN, IntentState.DONE]
        ):
            intend(tx, other(f"a{number}"), nonce=f"n{number}")
            intents.settle(tx, f"a{number}", Outcome(ended, ""), fence=1, now_ms=150)
        intents.set_verified(tx, "a0", Reading.FAIL, now_ms=160)
        intents.set_verified(tx, "a3", Reading.PASS, now_ms=160)
        intend(tx, other("still intended"), nonce="n9")
        assert intents.failed_remediations(tx, "orders", since_ms=0) == 3
        assert intents.failed_remediations(tx, "orders", since_ms=101) == 0
        assert intents.failed_remediations(tx, "payments", since_ms=0) == 0
        with pytest.raises(LedgerError, match="'nobody' is unknown"):
            intents.set_verified(tx, "nobody", Reading.PASS, now_ms=1)


def _intent(precondition: JsonObject) -> Intent:
    return Intent(
        action_id="act-1",
        incident_id="INC-1",
        run_id="run-1",
        tool=ACTION.tool,
        target="orders",
        service="orders",
        environment="lab",
        arguments={},
        action_digest="digest",
        target_revision="revision-digest",
        policy_version="policy",
        approval_id="",
        permit_nonce="nonce-1",
        precondition=precondition,
        fence=1,
        state=IntentState.INTENDED,
        detail="",
        before={},
        after={},
        intended_ms=100,
        settled_ms=0,
        verified=None,
        verified_ms=0,
    )


@pytest.mark.parametrize(
    ("mark", "seen", "expected"),
    [
        ("act-1", {"revision": 41, "generation": 8}, Reconcile.DONE),
        ("act-1", None, Reconcile.DONE),
        (None, {"generation": 7, "revision": 42}, Reconcile.RETRY),
        ("act-0", {"generation": 7, "revision": 42}, Reconcile.RETRY),
        (None, {"revision": 41, "generation": 8}, Reconcile.UNKNOWN),
        ("act-0", {"revision": 41, "generation": 8}, Reconcile.UNKNOWN),
        (None, {}, Reconcile.UNKNOWN),
        (None, None, Reconcile.UNKNOWN),
        ("", None, Reconcile.UNKNOWN),
    ],
)
def test_what_the_target_shows_says_what_happened(
    mark: str | None, seen: JsonObject | None, expected: Reconcile
) -> None:
    assert reconcile(_intent(BEFORE), mark, seen) is expected


def test_without_a_recorded_precondition_nothing_is_retried() -> None:
    assert reconcile(_intent({}), None, {}) is Reconcile.UNKNOWN


STATES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=3)


@given(STATES, st.sampled_from([None, "", "act-1", "act-2"]), st.none() | STATES)
def test_a_retry_needs_the_very_state_from_before_and_no_mark_of_ours(
    precondition: dict[str, int], mark: str | None, seen: dict[str, int] | None
) -> None:
    answer = reconcile(_intent(precondition), mark, seen)
    assert (answer is Reconcile.DONE) == (mark == "act-1")
    if answer is Reconcile.RETRY:
        assert seen == precondition != {}
