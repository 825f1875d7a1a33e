"""Settings of modes narrow; only an approved one widens, and never beyond the files' ceiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Effect, Mode, ModeSetting, ToolClass
from loop4.errors import PolicyError
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.documents import parse_documents
from loop4.policies.gate import judge
from loop4.policies.invariants import load_invariants
from loop4.policies.load import load_policy
from loop4.policies.mode_change import ModeChange, effect_of
from loop4.policies.modes import in_force, is_wider
from loop4.policies.policy import Policy
from loop4.policies.proof import Status
from loop4.policies.prove import Prover
from loop4.policies.rules import STRICTNESS, Binding

WRITE, NOTIFY = ToolClass.WRITE, ToolClass.NOTIFY
MODES = st.sampled_from(STRICTNESS)
PLACES = st.sampled_from(("production", "staging", "lab"))
SERVICES = st.sampled_from(("", "orders", "payments"))
SETTINGS = st.lists(
    st.builds(
        ModeSetting, PLACES, SERVICES, st.sampled_from((WRITE, NOTIFY)), MODES, st.booleans()
    ),
    max_size=4,
    unique_by=lambda s: (s.environment, s.service, s.tool_class),
)
BINDINGS = st.lists(
    st.builds(
        lambda mode, widest, places: Binding(
            "b", mode, places, widest=max(mode, widest, key=STRICTNESS.index)
        ),
        MODES,
        MODES,
        st.none() | st.frozensets(PLACES, min_size=1),
    ),
    max_size=3,
)


def bound(policy: Policy, *bindings: Binding) -> Policy:
    return replace(policy, bindings=bindings)


@given(bindings=BINDINGS, settings=SETTINGS, place=PLACES, service=SERVICES)
def test_no_setting_goes_beyond_the_ceiling_and_unapproved_ones_not_beyond_the_files(
    shipped: Policy,
    bindings: list[Binding],
    settings: list[ModeSetting],
    place: str,
    service: str,
) -> None:
    files = bound(shipped, *bindings)
    mode = files.under(settings).mode_for(WRITE, place, service)
    assert not is_wider(mode, files.ceiling(WRITE, place, service))
    nobodys = [replace(s, is_approved=False) for s in settings]
    unapproved = files.under(nobodys).mode_for(WRITE, place, service)
    assert not is_wider(unapproved, files.bound_mode(WRITE, place, service))
    assert not is_wider(unapproved, mode)


@given(bindings=BINDINGS, settings=SETTINGS, more=SETTINGS, place=PLACES, service=SERVICES)
def test_a_further_unapproved_setting_never_widens(
    shipped: Policy,
    bindings: list[Binding],
    settings: list[ModeSetting],
    more: list[ModeSetting],
    place: str,
    service: str,
) -> None:
    files = bound(shipped, *bindings)
    nobodys = [replace(s, is_approved=False) for s in more]
    with_more = files.under([*settings, *nobodys]).mode_for(WRITE, place, service)
    assert not is_wider(with_more, files.under(settings).mode_for(WRITE, place, service))


@given(
    bindings=BINDINGS,
    settings=SETTINGS,
    place=PLACES,
    service=SERVICES,
    mode=st.none() | MODES,
    where=SERVICES,
)
def test_a_change_that_is_called_narrow_widens_nothing_anywhere(
    shipped: Policy,
    bindings: list[Binding],
    settings: list[ModeSetting],
    place: str,
    service: str,
    mode: Mode | None,
    where: str,
) -> None:
    files = bound(shipped, *bindings)
    change = ModeChange(place, service, WRITE, mode, ("orders", "payments"))
    effect = effect_of(files, settings, change)
    key = place, service, WRITE
    then = [s for s in settings if (s.environment, s.service, s.tool_class) != key]
    then += [] if mode is None else [ModeSetting(*key, mode, is_approved=True)]
    before = files.under(settings).mode_for(WRITE, place, where)
    after = files.under(then).mode_for(WRITE, place, where)
    if is_wider(after, before):
        assert effect.is_wider
        assert not is_wider(after, effect.after)


@pytest.mark.parametrize(
    ("files", "ceiling", "said", "is_approved", "holds"),
    [
        (Mode.SUGGEST, Mode.SUGGEST, Mode.OBSERVE, False, Mode.OBSERVE),
        (Mode.SUGGEST, Mode.ACT, Mode.ACT, False, Mode.SUGGEST),
        (Mode.SUGGEST, Mode.ACT, Mode.ACT, True, Mode.ACT),
        (Mode.SUGGEST, Mode.SUGGEST, Mode.ACT, True, Mode.SUGGEST),
        (Mode.OBSERVE, Mode.SUGGEST, Mode.ACT, True, Mode.SUGGEST),
        (Mode.ACT, Mode.ACT, Mode.SUGGEST, True, Mode.SUGGEST),
    ],
)
def test_file_ceiling_and_setting_make_one_mode(
    files: Mode, ceiling: Mode, said: Mode, is_approved: bool, holds: Mode
) -> None:
    setting = ModeSetting("lab", "", WRITE, said, is_approved)
    assert in_force(files, ceiling, [setting]) is holds
    assert in_force(files, ceiling, []) is files


def test_the_gate_judges_by_the_mode_in_force(shipped: Policy) -> None:
    files = bound(shipped, Binding("lab", Mode.ACT, frozenset({"lab"})))
    facts = safe_facts(files, "workloads.restart")
    action = safe_action(files, "workloads.restart", facts)

    def effect(*settings: ModeSetting) -> tuple[Effect, Mode]:
        verdict = judge(action, facts, files.under(settings), (), NOW_MS)
        assert verdict.policy_version == files.version
        return verdict.effect, verdict.mode

    assert effect() == (Effect.ALLOW, Mode.ACT)
    lab = ModeSetting("lab", "", WRITE, Mode.SUGGEST)
    orders = ModeSetting("lab", "orders", WRITE, Mode.OBSERVE)
    assert effect(lab) == (Effect.REQUIRE_APPROVAL, Mode.SUGGEST)
    assert effect(lab, orders) == (Effect.DENY, Mode.OBSERVE)
    assert effect(replace(orders, service="payments")) == (Effect.ALLOW, Mode.ACT)
    assert effect(replace(orders, tool_class=NOTIFY)) == (Effect.ALLOW, Mode.ACT)
    # nobody can tell where this holds, so it holds everywhere
    assert effect(replace(lab, environment="labb")) == (Effect.DENY, Mode.OBSERVE)
    # and silences no page
    nowhere = files.under([ModeSetting("labb", "", NOTIFY, Mode.OBSERVE)])
    assert nowhere.mode_for(NOTIFY, "lab", "orders") is Mode.ACT
    assert effect() == (Effect.ALLOW, Mode.ACT)


BINDINGS_YAML = """
apiVersion: loop4/v1
kind: PolicyBinding
metadata: {name: production}
spec:
  match: {environment: production}
  mode: suggest
"""


def test_a_binding_says_how_far_an_approval_may_widen(tmp_path: Path) -> None:
    path = tmp_path / "bindings.yaml"
    path.write_text(f"{BINDINGS_YAML}  widest: act\n")
    policy = load_policy(None, [path])
    assert policy.bound_mode(WRITE, "production", "") is Mode.SUGGEST
    assert policy.ceiling(WRITE, "production", "") is Mode.ACT
    assert policy.ceiling(WRITE, "lab", "") is Mode.OBSERVE
    path.write_text(BINDINGS_YAML)
    assert load_policy(None, [path]).ceiling(WRITE, "production", "") is Mode.SUGGEST


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("widest: observe", "widest observe is narrower than the mode itself (suggest)"),
        ("widest: all", "unknown mode 'all'"),
        ("widset: act", "unknown key 'widset'; did you mean 'widest'?"),
    ],
)
def test_a_ceiling_that_makes_no_sense_fails_the_load(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "bindings.yaml"
    path.write_text(f"{BINDINGS_YAML}  {line}\n")
    with pytest.raises(PolicyError) as raised:
        load_policy(None, [path])
    assert told in str(raised.value)
    assert f"{path}:8" in str(raised.value)


def test_a_proof_about_the_bindings_reckons_with_what_an_approval_may_widen(
    shipped: Policy, load_rules: Callable[[str], Policy]
) -> None:
    text = (
        "apiVersion: loop4/v1\nkind: Invariant\nmetadata: {name: t}\nspec:\n  invariants:\n"
        "  - {name: mine, says: A promise., match: {tools: [workloads.restart], "
        "environment: production}, mode: bound, never: allow, unless: approved}\n"
    )
    invariant = next(
        i
        for i in load_invariants(shipped, parse_documents(text, "t.yaml", ("Invariant",)))
        if i.name == "mine"
    )
    narrow = Binding("production", Mode.SUGGEST, frozenset({"production"}))
    assert Prover(bound(shipped, narrow)).prove(invariant).status is Status.PROVED
    wide = bound(shipped, replace(narrow, widest=Mode.ACT))
    assert Prover(wide).prove(invariant).status is Status.VIOLATED


def test_every_agent_is_denied_a_widening_whatever_the_mode(shipped: Policy) -> None:
    facts = safe_facts(shipped, "fleet.widen_mode")
    assert facts["requester_kind"].value == "agent"
    for mode in Mode:
        policy = bound(shipped, Binding("all", mode))
        verdict = judge(safe_action(policy, "fleet.widen_mode", facts), facts, policy, (), NOW_MS)
        assert verdict.effect is Effect.DENY
        assert "no-agent-frees-itself" in verdict.rules


def test_a_rule_that_lets_a_widening_through_asks_all_the_same(
    load_rules: Callable[[str], Policy],
) -> None:
    policy = load_rules(
        """
        - id: trusting
          match: {class: fleet}
          effect: allow
        """
    )
    facts = safe_facts(policy, "fleet.widen_mode")
    verdict = judge(safe_action(policy, "fleet.widen_mode", facts), facts, policy, (), NOW_MS)
    assert verdict.effect is Effect.REQUIRE_APPROVAL
    assert verdict.approval is not None
    assert verdict.approval.role == "policy-author"
