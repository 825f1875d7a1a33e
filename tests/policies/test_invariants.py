"""Invariant documents: what they may say, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.domain import Effect, Mode
from loop4.errors import PolicyError
from loop4.policies.documents import parse_documents
from loop4.policies.invariants import (
    BOUND,
    Direction,
    Invariant,
    Never,
    NoBetterWith,
    load_invariants,
)
from loop4.policies.policy import Policy

HEAD = "apiVersion: loop4/v1\nkind: Invariant\nmetadata: {name: t}\nspec:\n  invariants:\n"


def read(policy: Policy, text: str, folder: Path | None = None) -> dict[str, Invariant]:
    documents = parse_documents(f"{HEAD}  - {{{text}}}\n", "t.yaml", ("Invariant",))
    return {i.name: i for i in load_invariants(policy, documents, folder)}


def test_the_shipped_ones_come_with_an_organisations_own(shipped: Policy) -> None:
    found = read(shipped, "name: mine, says: Mine., never: allow")
    assert found["mine"].match.tools == frozenset(shipped.tools)
    assert found["mine"].claim == Never(frozenset([Effect.ALLOW]))
    assert "wide-writes-ask" in found


def test_every_never_do_and_every_limit_of_the_design_is_promised(shipped: Policy) -> None:
    names = {invariant.name for invariant in load_invariants(shipped, ())}
    assert {
        "application-code-is-never-changed",
        "nothing-unrecorded-is-put-into-service",
        "product-decisions-stay-with-people",
        "no-rollout-beyond-its-plan",
        "no-alert-is-muted-unasked",
        "no-autonomous-write-on-one-source",
        "no-chaos-in-production-unasked",
        "staging-before-production-chaos",
        "wide-writes-ask",
        "without-a-runbook-a-person-owns-it",
        "after-repeated-failure-only-people-act",
        "restarts-beyond-the-budget-ask",
        "a-freeze-holds-back-everything-new",
        "a-freeze-never-holds-back-a-way-home",
        "a-paused-fleet-writes-nothing",
        "an-approval-lifts-only-require-approval",
        "observe-changes-nothing",
        "unknown-services-are-left-alone",
        "no-autonomous-write-without-the-whole-context",
        "unusable-facts-deny",
    } <= names


def test_another_folder_replaces_the_shipped_ones(shipped: Policy, tmp_path: Path) -> None:
    assert set(read(shipped, "name: mine, says: Mine., never: allow", tmp_path)) == {"mine"}


def test_modes_and_directions_are_read(shipped: Policy) -> None:
    bound = read(shipped, "name: mine, says: S., mode: bound, never: allow")["mine"]
    assert bound.mode == BOUND
    act = read(
        shipped, "name: mine, says: S., mode: act, no_better_with: {traffic_share_bp: more}"
    )["mine"]
    assert act.mode is Mode.ACT
    assert act.claim == NoBetterWith("traffic_share_bp", Direction.MORE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("says: S., never: allow", "key 'name' is missing"),
        ("name: m, never: allow", "key 'says' is missing"),
        ("name: m, says: S.", "found none, expected exactly one of never"),
        ("name: m, says: S., never: allow, asks: on-call", "found never and asks"),
        ("name: m, says: S., never: alow", "unknown effect 'alow'; did you mean 'allow'"),
        ("name: m, says: S., asks: on-cal", "did you mean 'on-call'"),
        ("name: m, says: S., never: allow, unles: approved", "did you mean 'unless'"),
        ("name: m, says: S., never: allow, unless: asked", "unknown word 'asked'"),
        ("name: m, says: S., never: allow, mode: acting", "did you mean 'act'"),
        ("name: m, says: S., never: allow, broken: facts", "did you mean 'fact'"),
        ("name: m, says: S., unchanged_by: [deploy_froze]", "did you mean 'deploy_frozen'"),
        ("name: m, says: S., no_better_with: {tiers: more}", "did you mean 'tier'"),
        ("name: m, says: S., no_better_with: {tier: up}", "unknown direction 'up'"),
        ("name: m, says: S., no_better_with: {fleet_paused: more}", "expected true or false"),
        ("name: m, says: S., no_better_with: {runbook_match: some}", "value of 'runbook_match'"),
        ("name: m, says: S., no_better_with: {}", "found 0 facts, expected one"),
        ("name: m, says: S., when: facts.teir > 1, never: allow", "did you mean 'tier'"),
        ("name: m, says: S., when: facts.tier > 1, never: allow", "does not declare"),
        ("name: m, says: S., match: {tools: [code.pach]}, never: allow", "did you mean"),
        ("name: wide-writes-ask, says: S., never: allow", "stands twice; give yours another name"),
    ],
)
def test_a_slip_is_an_error_with_its_place(shipped: Policy, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as error:
        read(shipped, text)
    assert error.value.path == "t.yaml"
    assert error.value.line == 6
    assert error.value.column > 1


def test_a_slip_inside_a_condition_is_told_by_column(shipped: Policy) -> None:
    text = 'name: m, says: S., match: {class: write}, when: "facts.tier > 1 && facts.teir > 1"'
    with pytest.raises(PolicyError) as error:
        read(shipped, f"{text}, never: allow")
    line = f"  - {{{text}"
    assert error.value.column == line.index("facts.teir") + 1
