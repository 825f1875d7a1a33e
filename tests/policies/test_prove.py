"""What the shipped rules promise, proved; and what a proof says when a rule is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import z3

from loop4.domain import Effect, Mode
from loop4.policies import gate_model
from loop4.policies.cel import parse
from loop4.policies.documents import parse_documents
from loop4.policies.invariants import Broken, Invariant, Never, load_invariants
from loop4.policies.load import with_rules
from loop4.policies.policy import Policy
from loop4.policies.proof import Status
from loop4.policies.prove import Prover
from loop4.policies.rules import Binding, Match, Rule
from tests.policies.broken_promises import changed, check_mutants, rule_of

HEAD = "apiVersion: loop4/v1\nkind: Invariant\nmetadata: {name: t}\nspec:\n  invariants:\n"


@pytest.fixture(scope="module")
def invariants(shipped: Policy) -> tuple[Invariant, ...]:
    return load_invariants(shipped, ())


def named(invariants: tuple[Invariant, ...], name: str) -> Invariant:
    return next(invariant for invariant in invariants if invariant.name == name)


def invariant_of(policy: Policy, text: str) -> Invariant:
    document = f"{HEAD}  - {{name: mine, says: A promise., {text}}}\n"
    (found,) = (
        i
        for i in load_invariants(policy, parse_documents(document, "t.yaml", ("Invariant",)))
        if i.name == "mine"
    )
    return found


def test_every_shipped_invariant_is_proved(
    shipped: Policy, invariants: tuple[Invariant, ...]
) -> None:
    prover = Prover(shipped)
    proofs = [prover.prove(invariant) for invariant in invariants]
    assert [p.name for p in proofs if p.status is not Status.PROVED] == []
    assert len(proofs) >= 15


def test_no_premise_is_empty(shipped: Policy, invariants: tuple[Invariant, ...]) -> None:
    # a promise about nothing would be proved whatever the rules say
    prover, every = Prover(shipped), frozenset(Effect)
    for invariant in invariants:
        vacuous = replace(invariant, claim=Never(every), unless_approved=False)
        prover.solver.push()
        if invariant.broken is None:
            prover.solver.add(*prover._question(vacuous).terms)
        else:  # what is broken is denied, so only the premise can be asked for
            prover.solver.add(*prover._premise(invariant))
        assert prover.solver.check() == z3.sat, invariant.name
        prover.solver.pop()


@pytest.mark.parametrize(
    ("rule_id", "invariant", "word"),
    [
        ("wide-blast-radius", "wide-writes-ask", "traffic_share_bp is 2501 bp (25.01 %)"),
        ("two-sources", "no-autonomous-write-on-one-source", "evidence_sources is 1"),
        ("novel-failure", "without-a-runbook-a-person-owns-it", "runbook_match is none"),
        ("flapping", "after-repeated-failure-only-people-act", "failed_remediations is 3"),
        ("fleet-paused", "a-paused-fleet-writes-nothing", "fleet_paused is yes"),
        ("deploy-freeze", "a-freeze-holds-back-everything-new", "deploy_frozen is yes"),
        ("unknown-service", "unknown-services-are-left-alone", "service_known is no"),
        ("chaos-needs-staging", "staging-before-production-chaos", "staging_passed is no"),
        ("application-code", "application-code-is-never-changed", "asks for code.patch"),
        ("new-variant", "more-traffic-never-helps", "flags.set_variant"),
    ],
)
def test_a_rule_that_is_gone_is_told_in_the_operators_words(
    shipped: Policy,
    invariants: tuple[Invariant, ...],
    rule_id: str,
    invariant: str,
    word: str,
) -> None:
    proof = Prover(changed(shipped, rule_id, None)).prove(named(invariants, invariant))
    assert proof.status is Status.VIOLATED
    assert proof.counterexample is not None
    sentence = proof.counterexample.sentence
    assert word in sentence
    assert "the gate says" in sentence
    assert proof.says.rstrip(".") in sentence
    assert "\n" not in sentence


def test_a_mutant_that_breaks_a_promise_is_shown_on_the_real_gate(
    shipped: Policy, invariants: tuple[Invariant, ...]
) -> None:
    tried, caught = check_mutants(shipped, invariants, 47)
    assert tried > 12
    assert caught > tried // 4


def test_an_approval_that_lifted_a_denial_would_be_found(
    shipped: Policy, invariants: tuple[Invariant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    lifting = named(invariants, "an-approval-lifts-only-require-approval")
    real = gate_model.GateModel._approve

    def lifts_all(self: gate_model.GateModel, bound: gate_model.Effects) -> gate_model.Effects:
        found = real(self, bound)
        approved = self.symbols.is_approved
        return replace(
            found,
            allow=z3.Or(found.allow, approved),
            escalate=z3.And(found.escalate, z3.Not(approved)),
            deny=z3.And(found.deny, z3.Not(approved)),
        )

    monkeypatch.setattr(gate_model.GateModel, "_approve", lifts_all)
    proof = Prover(shipped).prove(lifting)
    # the model is wrong, the gate is right: that is told, and it is no success
    assert proof.status is Status.UNKNOWN
    assert "the model and the gate differ" in proof.detail


def test_what_z3_cannot_say_is_no_success(
    shipped: Policy, invariants: tuple[Invariant, ...]
) -> None:
    prover = Prover(shipped)
    prover.solver.set("rlimit", 1)
    proof = prover.prove(named(invariants, "wide-writes-ask"))
    assert proof.status is Status.UNKNOWN
    assert proof.detail.startswith("z3 gave up")


def test_a_proof_leaves_nothing_behind_in_the_solver(
    shipped: Policy, invariants: tuple[Invariant, ...]
) -> None:
    prover = Prover(changed(shipped, "wide-blast-radius", None))
    wide = named(invariants, "wide-writes-ask")
    before = len(prover.solver.assertions())
    assert prover.prove(wide).status is Status.VIOLATED
    assert len(prover.solver.assertions()) == before
    assert prover.prove(wide).status is Status.VIOLATED


def test_observe_is_proved_under_observe_only(shipped: Policy) -> None:
    observe = invariant_of(
        shipped, "match: {class: write}, mode: observe, never: [allow, require_approval, escalate]"
    )
    assert Prover(shipped).prove(observe).status is Status.PROVED
    assert Prover(shipped).prove(replace(observe, mode=Mode.ACT)).status is Status.VIOLATED


def test_bound_means_the_loaded_bindings(shipped: Policy) -> None:
    promise = invariant_of(
        shipped,
        "match: {class: write, environment: production}, mode: bound, never: allow, "
        "unless: approved",
    )
    assert Prover(shipped).prove(promise).status is Status.PROVED
    acting = with_rules(shipped, shipped.rules, [Binding("wide", Mode.ACT)])
    proof = Prover(acting).prove(promise)
    assert proof.status is Status.VIOLATED
    assert proof.counterexample is not None
    assert "in production (mode act)" in proof.counterexample.sentence


def test_a_broken_fact_is_proved_to_deny_for_each_way_to_break(shipped: Policy) -> None:
    for broken in Broken:
        promise = invariant_of(shipped, "never: [allow, require_approval, escalate]")
        assert Prover(shipped).prove(promise).status is Status.VIOLATED
        assert Prover(shipped).prove(replace(promise, broken=broken)).status is Status.PROVED


def test_a_rule_for_one_service_is_found(
    shipped: Policy, invariants: tuple[Invariant, ...]
) -> None:
    hole = Rule("hole", Match(frozenset(["code.patch"]), services=frozenset(["ledger"])), None,
                Effect.ALLOW, "why not")  # fmt: skip
    rules = [r for r in shipped.rules if r.rule_id != "application-code"]
    policy = with_rules(shipped, [*rules, hole], shipped.bindings)
    proof = Prover(policy).prove(named(invariants, "application-code-is-never-changed"))
    assert proof.counterexample is not None
    assert proof.counterexample.answer.effect is not Effect.DENY


def test_a_freeze_that_holds_back_rollbacks_is_found_by_comparison(
    shipped: Policy, invariants: tuple[Invariant, ...]
) -> None:
    freeze = rule_of(shipped, "deploy-freeze")
    assert freeze.when is not None
    too_wide = replace(freeze, when=parse("facts.deploy_frozen"))
    proof = Prover(changed(shipped, "deploy-freeze", too_wide)).prove(
        named(invariants, "a-freeze-never-holds-back-a-way-home")
    )
    assert proof.status is Status.VIOLATED
    assert proof.counterexample is not None
    assert proof.counterexample.other is not None
    assert "deploy_frozen is" in proof.counterexample.sentence
