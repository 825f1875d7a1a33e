"""What can go wrong in the lab, as a table, and how a seed turns a row into exact steps.

The plan of a run is for the injector, the tests and the benchmarks. Nothing of it is readable by
the fleet.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from loop4.errors import InputError
from loop4.lab.faults import Profile, Target
from loop4.lab.topology import BANK, REPLICAS, SERVICES

PEOPLE = ("dana", "kim", "ravi", "lena")
EXCEPTIONS = (
    "KeyError: 'currency'",
    "TypeError: unsupported operand type(s) for +: 'Decimal' and 'NoneType'",
    "OperationalError: no such column: customer_tier",
    "AttributeError: 'NoneType' object has no attribute 'total'",
)
RELEASE_NOTES = (
    "tidy up price rounding",
    "new log format",
    "update of the base image",
    "smaller response bodies",
    "retry settings from the catalogue",
)


@dataclass(frozen=True, slots=True)
class DeployStep:
    """A person deploys: the next revision of `service` gets `weight_bp` of its traffic."""

    after_s: float
    service: str
    weight_bp: int
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class FaultStep:
    """A fault begins. With `newest_revision` it hits only the revision deployed last in this run,
    `after_s` after that revision takes traffic; it ends by itself after `lasts_s` (0: never).
    """

    after_s: float
    target: Target
    profile: Profile
    newest_revision: bool = False
    lasts_s: float = 0.0


Step = DeployStep | FaultStep


@dataclass(frozen=True, slots=True)
class Plan:
    """One scenario with all choices made. `culprit` is "service:orders", "instance:orders-2",
    "external:bank" or "" (nothing is wrong). `after_s` of a step counts from the step before.
    """

    scenario: str
    seed: int
    steps: tuple[Step, ...]
    culprit: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table. `steps` is for reading; `draw` makes the exact ones."""

    name: str
    description: str
    steps: tuple[str, ...]
    draw: Callable[[random.Random], tuple[tuple[Step, ...], str]]


def draw(name: str, seed: int) -> Plan:
    """The exact plan of a scenario for a seed; the same for the same input. Raises InputError."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            rng = random.Random(f"{name}:{seed}")  # noqa: S311  (a choice, not a secret)
            steps, culprit = scenario.draw(rng)
            return Plan(name, seed, steps, culprit)
    known = ", ".join(scenario.name for scenario in SCENARIOS)
    raise InputError(f"there is no scenario {name!r}; there are {known}")


def _deploy(rng: random.Random, service: str, weight_bp: int, after_s: float) -> DeployStep:
    actor, text = rng.choice(PEOPLE), rng.choice(RELEASE_NOTES)
    return DeployStep(round(after_s, 1), service, weight_bp, actor, text)


def _other(rng: random.Random, service: str) -> str:
    return rng.choice([name for name in SERVICES if name != service])


def _guilty_deploy(
    rng: random.Random, service: str, weight_bp: int, profile: Profile
) -> tuple[Step, ...]:
    """A deploy that goes bad soon after it takes traffic, and an innocent one of another service
    beside it, before or after, in seeded order.
    """
    guilty_is_first = rng.random() < 0.5
    gap_s = rng.uniform(0.5, 3.0)
    guilty = _deploy(rng, service, weight_bp, 0.0 if guilty_is_first else gap_s)
    innocent_weight = rng.choice((2000, 3000, 5000))
    innocent = _deploy(
        rng, _other(rng, service), innocent_weight, gap_s if guilty_is_first else 0.0
    )
    onset_s = round(rng.uniform(0.0, 3.0), 1)
    fault = FaultStep(onset_s, Target(service), profile, newest_revision=True)
    return (guilty, innocent, fault) if guilty_is_first else (innocent, guilty, fault)


def _bad_deploy(rng: random.Random) -> tuple[tuple[Step, ...], str]:
    service = rng.choice(list(SERVICES))
    profile = Profile(error_bp=rng.randrange(4000, 7001, 100), exception=rng.choice(EXCEPTIONS))
    return _guilty_deploy(rng, service, 5000, profile), f"service:{service}"


def _crash_loop(rng: random.Random) -> tuple[tuple[Step, ...], str]:
    service = rng.choice(list(SERVICES))
    instance = f"{service}-{rng.randint(1, REPLICAS)}"
    fault = FaultStep(
        round(rng.uniform(0.0, 3.0), 1),
        Target(service, 0, instance),
        Profile(corrupt_state=True),
    )
    if rng.random() < 0.5:
        return (fault,), f"instance:{instance}"
    return (_deploy(rng, _other(rng, service), 2000, 0), fault), f"instance:{instance}"


def _dependency_down(rng: random.Random) -> tuple[tuple[Step, ...], str]:
    innocent = _deploy(rng, rng.choice(list(SERVICES)), rng.choice((2000, 5000)), 0)
    share_bp = rng.randrange(5000, 9001, 100)
    if rng.random() < 0.5:
        profile = Profile(error_bp=share_bp)
    else:
        profile = Profile(hang_bp=share_bp)
    fault = FaultStep(
        round(rng.uniform(2.0, 5.0), 1),
        Target(BANK),
        profile,
        lasts_s=round(rng.uniform(35.0, 45.0), 1),
    )
    return (innocent, fault), f"external:{BANK}"


def _dependency_change(rng: random.Random) -> tuple[tuple[Step, ...], str]:
    profile = Profile(
        dependency_bp=rng.randrange(8000, 10_001, 100),
        dependency_mode=rng.choice(("status", "timeout")),
    )
    weight_bp = rng.randrange(2000, 6001, 100)
    return _guilty_deploy(rng, "payments", weight_bp, profile), "service:payments"


def _quiet(rng: random.Random) -> tuple[tuple[Step, ...], str]:
    service = rng.choice(list(SERVICES))
    return (_deploy(rng, service, rng.choice((2000, 5000)), rng.uniform(0.0, 4.0)),), ""


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "bad-deploy",
        "a new version at 50 % of a service's traffic fails 40-70 % of its requests",
        (
            "deploy one service at 50 %",
            "within 3 s of taking traffic the new version starts to fail",
            "an innocent deploy of another service, seconds before or after",
        ),
        _bad_deploy,
    ),
    Scenario(
        "crash-loop",
        "one replica crashes on damaged local state that survives each respawn",
        (
            "sometimes an innocent deploy of another service",
            "the local journal of one replica is damaged; it crashes at every start",
            "only a clean start (a deliberate restart) helps",
        ),
        _crash_loop,
    ),
    Scenario(
        "dependency-down",
        "the external bank fails or hangs for 50-90 % of calls and recovers by itself",
        (
            "an innocent deploy of one of our services",
            "seconds later the bank answers 503, or not at all",
            "the bank recovers after 35-45 s",
        ),
        _dependency_down,
    ),
    Scenario(
        "dependency-change",
        "a payments version with a broken bank configuration: its own calls fail, the bank is fine",
        (
            "deploy payments at 20-60 %",
            "within 3 s of taking traffic its calls to the bank fail",
            "an innocent deploy of another service, seconds before or after",
        ),
        _dependency_change,
    ),
    Scenario(
        "quiet",
        "nothing is wrong: noise and an innocent deploy",
        ("deploy one service at 20 or 50 %",),
        _quiet,
    ),
)
