"""From a cause to the smallest safe act, or to none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from loop4.agents.agent import Report
from loop4.domain import SourceKind
from loop4.tools.backends.ports import Inventory, WorkloadsReader, World
from tests.agents.conftest import AGENTS, Case, make_case, run
from tests.agents.worlds import (
    BACK_ENDS,
    assert_grounded,
    bank_outage,
    crash_loop,
    with_an_innocent_change,
    without,
)


def asked(case: Case) -> Report:
    return run(case.playbook("remediation"))


def test_a_guilty_deploy_is_rolled_back_to_the_revision_before_it(case: Case) -> None:
    report = asked(case)
    (proposal,) = report.proposals
    assert (proposal.agent, proposal.tool, proposal.target, proposal.service) == (
        "remediation",
        "deployments.roll_back",
        "orders",
        "orders",
    )
    assert proposal.arguments == {"service": "orders", "to_revision": 41}
    assert proposal.runbook == "bad-deploy-rollback"
    assert proposal.reversible
    assert proposal.blast_radius_bp == 5_000
    assert report.findings == ()
    assert_grounded(case, report)


def test_the_roll_back_carries_the_way_back(case: Case) -> None:
    (proposal,) = asked(case).proposals
    assert proposal.inverse == {
        "tool": "deployments.roll_back",
        "arguments": {"service": "orders", "to_revision": 42},
    }


def test_only_the_guilty_change_is_rolled_back() -> None:
    (proposal,) = asked(make_case(change=with_an_innocent_change)).proposals
    assert proposal.target == "orders"


def test_a_revision_that_is_gone_cannot_be_rolled_back_to() -> None:
    @dataclass
    class Forgetful:
        inner: WorkloadsReader

        async def inventory(self) -> Inventory:
            seen = await self.inner.inventory()
            kept = tuple(
                replace(w, revisions=tuple(r for r in w.revisions if r.revision != 41))
                for w in seen.workloads
            )
            return replace(seen, workloads=kept)

    def forget(world: World) -> World:
        assert world.workloads is not None
        return replace(world, workloads=Forgetful(world.workloads))

    assert asked(make_case(change=forget)).proposals == ()


@pytest.mark.parametrize("name", [n for n in BACK_ENDS if n != "logs"])
def test_without_what_an_act_must_stand_on_nothing_is_proposed(name: str) -> None:
    report = asked(make_case(change=without(name)))
    assert report.proposals == ()
    assert report.missing


def test_without_logs_a_roll_back_still_stands_on_three_kinds_of_evidence() -> None:
    case = make_case(change=without("logs"))
    (proposal,) = asked(case).proposals
    kinds = {case.brief.reader.records[e].source for e in proposal.evidence}
    assert kinds == {SourceKind.METRICS, SourceKind.TRACES, SourceKind.CHANGES}


def test_for_a_dependency_of_others_nothing_is_proposed() -> None:
    assert asked(bank_outage()).proposals == ()


def test_for_failures_that_nothing_explains_nothing_is_proposed() -> None:
    assert asked(bank_outage(answering=1.0)).proposals == ()


def test_where_nothing_is_wrong_nothing_is_proposed() -> None:
    assert asked(make_case(deploy=False)).proposals == ()


def test_a_replica_that_keeps_dying_is_restarted_once_at_this_very_moment() -> None:
    case = crash_loop()
    report = asked(case)
    (proposal,) = report.proposals
    assert (proposal.tool, proposal.target, proposal.service) == (
        "workloads.restart",
        "orders-1",
        "orders",
    )
    assert proposal.arguments == {"instance": "orders-1", "restarted_at_ms": case.brief.now_ms}
    assert proposal.runbook == "replica-crash-loop"
    assert (proposal.reversible, proposal.inverse) == (False, None)
    assert_grounded(case, report)


@pytest.mark.parametrize("make", [make_case, crash_loop])
def test_without_a_runbook_the_proposal_claims_none(make: Callable[[], Case]) -> None:
    case = make()
    (proposal,) = asked(replace(case, brief=replace(case.brief, runbooks=()))).proposals
    assert proposal.runbook == ""


@pytest.mark.parametrize("make", [make_case, crash_loop])
def test_a_runbook_for_other_services_or_with_other_steps_is_not_claimed(
    make: Callable[[], Case],
) -> None:
    case = make()
    elsewhere = [replace(r, services=("payments",)) for r in case.brief.runbooks]
    for_people = [replace(r, steps=()) for r in case.brief.runbooks]
    for runbooks in (elsewhere, for_people):
        (proposal,) = asked(replace(case, brief=replace(case.brief, runbooks=runbooks))).proposals
        assert proposal.runbook == ""


def test_it_proposes_within_its_own_bounds(case: Case) -> None:
    proposed = {p.tool for c in (case, crash_loop()) for p in asked(c).proposals}
    assert proposed == AGENTS["remediation"].may_propose
