from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.errors import InputError
from loop4.lab.scenarios import SCENARIOS, DeployStep, FaultStep, draw
from loop4.lab.topology import SERVICES

NAMES = [scenario.name for scenario in SCENARIOS]
seeds = st.integers(0, 10_000)


@given(name=st.sampled_from(NAMES), seed=seeds)
def test_the_same_seed_draws_the_same_plan(name: str, seed: int) -> None:
    assert draw(name, seed) == draw(name, seed)


@given(name=st.sampled_from(["bad-deploy", "dependency-change"]), seed=seeds)
def test_a_guilty_deploy_stands_beside_an_innocent_one_of_another_service(
    name: str, seed: int
) -> None:
    plan = draw(name, seed)
    deploys = [step for step in plan.steps if isinstance(step, DeployStep)]
    fault = plan.steps[-1]
    assert isinstance(fault, FaultStep)
    assert fault.newest_revision
    guilty = next(d for d in deploys if d.service == fault.target.service)
    assert plan.culprit == f"service:{guilty.service}"
    assert len({d.service for d in deploys}) == 2
    assert max(d.after_s for d in deploys) <= 3
    low, high = (5000, 5000) if name == "bad-deploy" else (2000, 6000)
    assert low <= guilty.weight_bp <= high


@given(seed=seeds)
def test_an_outage_of_the_bank_ends_by_itself_and_no_change_of_ours_is_guilty(seed: int) -> None:
    plan = draw("dependency-down", seed)
    fault = plan.steps[-1]
    assert isinstance(fault, FaultStep)
    assert (plan.culprit, fault.target.service) == ("external:bank", "bank")
    assert 35 <= fault.lasts_s <= 45
    assert 5000 <= fault.profile.error_bp + fault.profile.hang_bp <= 9000


@given(seed=seeds)
def test_a_crash_loop_hits_one_replica_through_its_local_state(seed: int) -> None:
    plan = draw("crash-loop", seed)
    fault = plan.steps[-1]
    assert isinstance(fault, FaultStep)
    assert fault.profile.corrupt_state
    assert plan.culprit == f"instance:{fault.target.instance}"


@given(seed=seeds)
def test_quiet_has_an_innocent_deploy_and_no_fault(seed: int) -> None:
    plan = draw("quiet", seed)
    assert all(isinstance(step, DeployStep) for step in plan.steps)
    assert plan.culprit == ""


def test_seeds_reach_every_service() -> None:
    assert {draw("bad-deploy", seed).culprit for seed in range(30)} == {
        f"service:{name}" for name in SERVICES
    }


def test_an_unknown_scenario_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'bad-deply'.*bad-deploy, crash-loop"):
        draw("bad-deply", 1)
