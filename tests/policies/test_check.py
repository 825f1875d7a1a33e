"""The type checker: a slip in a rule is a load error, never a rule that silently never matches."""

from __future__ import annotations

import pytest

from loop4.policies.cel import CelError, parse
from loop4.policies.check import check_condition
from loop4.policies.policy import Policy


@pytest.mark.parametrize(
    "text",
    [
        "facts.known_good",
        "true",
        "!facts.fleet_paused || facts.deploy_frozen == facts.forward_change",
        'facts.environment == "production"',
        '"lab" != facts.environment',
        'facts.severity in ["SEV1", "SEV2"]',
        "facts.tier in [1, 2]",
        "facts.known_good in [true]",
        "facts.replicas_after - facts.replicas_min + 1 >= -3",
        "facts.environment == facts.environment",
    ],
)
def test_well_typed_conditions_pass(text: str, shipped: Policy) -> None:
    check_condition(parse(text), shipped.facts)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("facts.trafic_share_bp > 1", 1, "unknown fact 'trafic_share_bp'; did you mean"),
        ("facts.known_good && facts.nothing_like_it", 21, "unknown fact 'nothing_like_it'"),
        ('facts.environment == "prod"', 22, "unknown value of 'environment' 'prod'"),
        ('facts.environment in ["lab", "prodution"]', 30, "did you mean 'production'"),
        ("facts.tier", 1, "expected a boolean"),
        ("facts.known_good > 1", 1, "needs int on both sides"),
        ("facts.known_good == 1", 21, "compares a bool 'known_good' with an int"),
        ("facts.tier == true", 15, "compares an int 'tier' with a bool"),
        ('facts.tier == "1"', 15, "compares an int 'tier' with a string"),
        ("facts.severity < facts.severity", 1, "needs int on both sides"),
        ('facts.severity > "SEV2"', 1, "needs int on both sides"),
        ("facts.severity == facts.environment", 19, "compares an enum 'severity'"),
        ("facts.tier && facts.known_good", 1, "needs bool on both sides"),
        ("!facts.tier", 2, "needs bool"),
        ("-facts.known_good == 1", 2, "needs int"),
        ("facts.tier in facts.tier", 15, "must be a list"),
        ("facts.tier in [1, true]", 19, "compares an int 'tier' with a bool"),
        ("[1, 2] == [1, 2]", 1, "only on the right of `in`"),
        ("1 < facts.tier < 3", 3, "needs int on both sides, found a bool"),
        ("facts.known_good + 1 == 2", 1, "needs int on both sides"),
    ],
)
def test_an_ill_typed_condition_is_refused_with_its_place(
    text: str, column: int, message: str, shipped: Policy
) -> None:
    with pytest.raises(CelError) as caught:
        check_condition(parse(text), shipped.facts)
    assert message in caught.value.message
    assert caught.value.offset + 1 == column
