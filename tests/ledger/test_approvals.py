from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.domain import Approval, ApprovalState, JsonObject, RequesterKind
from loop4.errors import LedgerError
from loop4.ledger import approvals, evidence, outbox
from loop4.ledger.approvals import VoteResult
from loop4.ledger.ledger import Ledger

Race: TypeAlias = "Callable[[Sequence[Sequence[object]]], list[list[str]]]"

ASKED = Approval(
    approval_id="ap-0",
    action_id="act-0",
    action_digest="digest",
    policy_version="policy",
    state=ApprovalState.PENDING,
    requester="remediation",
    role="on-call",
    need=1,
    requested_ms=1,
    expires_ms=1000,
)
PAYLOAD: JsonObject = {"action_requests": [{"name": "deployments.roll_back", "args": {}}]}


def ask(ledger: Ledger, approval: Approval = ASKED) -> None:
    with ledger.transaction() as tx:
        assert approvals.request(tx, approval, incident_id="INC-1", run_id="run-1", payload=PAYLOAD)


def cast(
    ledger: Ledger,
    person: str = "dana",
    *,
    approve: bool = True,
    roles: Sequence[str] = ("on-call",),
    now_ms: int = 10,
    kind: RequesterKind = RequesterKind.PERSON,
) -> VoteResult:
    with ledger.transaction() as tx:
        return approvals.vote(tx, "ap-0", person, roles, approve, now_ms, kind=kind)


def state(ledger: Ledger) -> ApprovalState:
    with ledger.read() as tx:
        known = approvals.get(tx, "ap-0")
    assert known is not None
    return known.approval.state


def consume(
    ledger: Ledger, *, digest: str = "digest", policy: str = "policy", now_ms: int = 20
) -> bool:
    with ledger.transaction() as tx:
        return approvals.consume(tx, "ap-0", digest, policy, now_ms)


def woken(ledger: Ledger) -> list[str]:
    with ledger.read() as tx:
        return [row.key for row in outbox.due(tx, 10**9)]


def test_a_request_is_stored_once_with_what_the_person_is_shown(ledger: Ledger) -> None:
    ask(ledger)
    with ledger.transaction() as tx:
        assert not approvals.request(tx, ASKED, incident_id="x", run_id="y", payload={})
        known = approvals.get(tx, "ap-0")
        assert known is not None
        assert known.approval == ASKED
        assert (known.incident_id, known.run_id, known.payload) == ("INC-1", "run-1", PAYLOAD)
        assert approvals.pending(tx) == approvals.list_all(tx) == (known,)
        assert approvals.of_action(tx, "act-0") == (ASKED,)


def test_an_id_that_is_bound_to_another_action_is_refused(ledger: Ledger) -> None:
    ask(ledger)
    with pytest.raises(LedgerError, match="bound to another action"):
        ask(ledger, replace(ASKED, action_digest="other"))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ASKED, need=0),
        replace(ASKED, role=""),
        replace(ASKED, expires_ms=1),
        replace(ASKED, state=ApprovalState.APPROVED),
    ],
)
def test_a_request_that_no_vote_is_needed_for_is_refused(ledger: Ledger, wrong: Approval) -> None:
    with pytest.raises(LedgerError, match="'ap-0'"):
        ask(ledger, wrong)


def test_one_vote_approves_and_wakes_the_run_in_the_same_transaction(ledger: Ledger) -> None:
    ask(ledger)
    before = ledger.commits
    result = cast(ledger)
    assert (result.accepted, result.reason) == (True, "")
    assert state(ledger) is ApprovalState.APPROVED
    assert woken(ledger) == ["resume:run-1:ap-0:approved"]
    assert ledger.commits == before + 1


def test_a_vote_whose_transaction_fails_neither_counts_nor_wakes(ledger: Ledger) -> None:
    ask(ledger)

    def crash() -> None:
        with ledger.transaction() as tx:
            assert approvals.vote(tx, "ap-0", "dana", ["on-call"], True, 10).accepted
            raise KeyError("crash")

    with pytest.raises(KeyError):
        crash()
    assert state(ledger) is ApprovalState.PENDING
    assert woken(ledger) == []
    with ledger.read() as tx:
        assert evidence.verify(tx).records == 0


@pytest.mark.parametrize(
    ("voter", "reason"),
    [
        ({"roles": ("developer",)}, "needs the role 'on-call'"),
        ({"roles": ()}, "roles held: none"),
        ({"person": "remediation"}, "requested this action"),
        ({"person": " Remediation"}, "requested this action"),
        ({"kind": RequesterKind.AGENT}, "only a person may vote"),
        ({"person": " "}, "only a person may vote"),
        ({"now_ms": 1000}, "expired"),
    ],
)
@pytest.mark.parametrize("approve", [True, False])
def test_a_vote_that_must_not_count_is_refused_and_becomes_evidence(
    ledger: Ledger, voter: dict[str, object], reason: str, approve: bool
) -> None:
    ask(ledger)
    result = cast(ledger, approve=approve, **voter)  # type: ignore[arg-type]  # parametrised
    assert not result.accepted
    assert reason in result.reason
    with ledger.read() as tx:
        record = evidence.list_records(tx, "INC-1", {"vote"})[0]
        assert evidence.verify(tx).ok
    assert (record.run_id, record.action_id) == ("run-1", "act-0")
    assert record.body["accepted"] is False
    assert record.body["reason"] == result.reason
    assert record.body["approve"] is approve
    assert not consume(ledger)


def test_a_vote_on_an_unknown_request_is_refused_and_becomes_evidence(ledger: Ledger) -> None:
    result = cast(ledger)
    assert (result.accepted, result.reason) == (False, "approval 'ap-0' is unknown")
    assert result.approval is None
    with ledger.read() as tx:
        assert evidence.list_records(tx)[0].body["state"] == "unknown"


def test_a_late_vote_expires_the_request_and_wakes_the_run(ledger: Ledger) -> None:
    ask(ledger)
    assert not cast(ledger, now_ms=1000).accepted
    assert state(ledger) is ApprovalState.EXPIRED
    assert woken(ledger) == ["resume:run-1:ap-0:expired"]


def test_a_quorum_needs_that_many_different_people(ledger: Ledger) -> None:
    ask(ledger, replace(ASKED, need=2))
    assert cast(ledger, "dana").accepted
    assert state(ledger) is ApprovalState.PENDING
    assert "voted already" in cast(ledger, "dana").reason
    assert "voted already" in cast(ledger, "Dana").reason
    assert not consume(ledger)
    assert woken(ledger) == []
    assert cast(ledger, "lee").accepted
    assert state(ledger) is ApprovalState.APPROVED
    assert consume(ledger)


def test_one_rejection_closes_a_request_whatever_came_before(ledger: Ledger) -> None:
    ask(ledger, replace(ASKED, need=2))
    cast(ledger, "dana")
    assert cast(ledger, "lee", approve=False).accepted
    assert state(ledger) is ApprovalState.REJECTED
    assert "is rejected, not pending" in cast(ledger, "kim").reason
    assert not consume(ledger)
    assert woken(ledger) == ["resume:run-1:ap-0:rejected"]


def test_an_approval_is_consumed_once(ledger: Ledger) -> None:
    ask(ledger)
    assert not consume(ledger)
    cast(ledger)
    assert [consume(ledger) for _ in range(3)] == [True, False, False]
    assert state(ledger) is ApprovalState.CONSUMED


def test_an_approval_is_good_for_its_action_policy_and_time_only(ledger: Ledger) -> None:
    ask(ledger)
    cast(ledger)
    assert not consume(ledger, digest="other arguments")
    assert not consume(ledger, policy="other policy")
    assert not consume(ledger, now_ms=1000)
    assert consume(ledger, now_ms=999)


def test_expire_closes_what_is_late_and_nothing_else(ledger: Ledger) -> None:
    ask(ledger)
    ask(ledger, replace(ASKED, approval_id="ap-1", expires_ms=2000))
    with ledger.transaction() as tx:
        assert approvals.expire(tx, 999) == ()
        assert approvals.expire(tx, 1000) == ("ap-0",)
        assert approvals.expire(tx, 1000) == ()
        assert [known.approval.approval_id for known in approvals.pending(tx)] == ["ap-1"]
        assert evidence.list_records(tx)[0].kind == "approval_closed"
    assert woken(ledger) == ["resume:run-1:ap-0:expired"]


def test_an_approval_that_was_not_used_in_time_expires_and_wakes_again(ledger: Ledger) -> None:
    ask(ledger)
    cast(ledger)
    with ledger.transaction() as tx:
        outbox.done(tx, "resume:run-1:ap-0:approved", now_ms=11)
        assert approvals.expire(tx, 1000) == ("ap-0",)
    assert woken(ledger) == ["resume:run-1:ap-0:expired"]


@pytest.mark.parametrize("close", [approvals.withdraw, approvals.supersede])
@pytest.mark.parametrize("approved", [False, True])
def test_a_closed_request_takes_no_vote_and_cannot_be_consumed(
    ledger: Ledger, close: Callable[..., bool], approved: bool
) -> None:
    ask(ledger)
    if approved:
        cast(ledger)
    with ledger.transaction() as tx:
        assert close(tx, "ap-0", "the breach cleared", now_ms=15)
        assert not close(tx, "ap-0", "again", now_ms=16)
        assert not close(tx, "ap-9", "unknown", now_ms=16)
    assert not cast(ledger, "lee").accepted
    assert not consume(ledger)
    with ledger.read() as tx:
        known = approvals.get(tx, "ap-0")
    assert known is not None
    assert (known.reason, known.closed_ms) == ("the breach cleared", 15)


def test_five_people_who_approve_at_once_give_one_decision(place: Path | str, race: Race) -> None:
    with Ledger.open(place) as ledger:
        ask(ledger)
    words = race([("vote", place, "ap-0", f"person-{number}") for number in range(5)])
    assert sorted(word for printed in words for word in printed) == ["False"] * 4 + ["True"]
    with Ledger.open(place) as ledger:
        assert state(ledger) is ApprovalState.APPROVED
        assert woken(ledger) == ["resume:run-1:ap-0:approved"]
        with ledger.read() as tx:
            assert evidence.verify(tx).records == 5


def test_four_processes_that_consume_the_same_approvals_get_each_once(
    place: Path | str, race: Race
) -> None:
    with Ledger.open(place) as ledger, ledger.transaction() as tx:
        for number in range(40):
            name = f"ap-{number}"
            one = replace(ASKED, approval_id=name)
            approvals.request(tx, one, incident_id="", run_id="", payload={})
            if number % 2 == 0:
                approvals.vote(tx, name, "dana", ["on-call"], True, 10)
    words = race([("consume", place, 40)] * 4)
    assert sum(int(word) for printed in words for word in printed) == 20


PEOPLE = ("dana", "lee", "kim", "remediation")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    need=st.integers(1, 3),
    ballots=st.lists(
        st.tuples(
            st.sampled_from(PEOPLE),
            st.sampled_from([("on-call",), ("developer",), ()]),
            st.booleans(),
            st.integers(10, 1100),
        ),
        max_size=8,
    ),
)
def test_only_enough_timely_votes_of_the_role_and_no_rejection_approve(
    tmp_path_factory: pytest.TempPathFactory,
    need: int,
    ballots: list[tuple[str, tuple[str, ...], bool, int]],
) -> None:
    ballots = sorted(ballots, key=lambda ballot: ballot[3])
    with Ledger.open(tmp_path_factory.mktemp("votes") / "ledger.db") as ledger:
        ask(ledger, replace(ASKED, need=need))
        for person, roles, approve, now_ms in ballots:
            cast(ledger, person, approve=approve, roles=roles, now_ms=now_ms)
        counted: dict[str, bool] = {}
        for person, roles, approve, now_ms in ballots:
            decided = False in counted.values() or len(counted) == need
            if not decided and now_ms < 1000 and roles == ("on-call",) and person != "remediation":
                counted.setdefault(person, approve)
        expected = len(counted) == need and all(counted.values())
        assert consume(ledger, now_ms=max([10, *(b[3] for b in ballots if b[3] < 1000)])) == (
            expected and all(ballot[3] < 1000 for ballot in ballots)
        )
        with ledger.read() as tx:
            assert evidence.verify(tx).ok
            assert len(evidence.list_records(tx, kinds={"vote"})) == len(ballots)
