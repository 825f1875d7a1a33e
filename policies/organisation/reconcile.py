"""Which of several numbers holds: the strictest, Loop4's own among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loop4.policies.organisation.claims import Claim, group
from loop4.policies.organisation.quantities import Unit
from loop4.policies.organisation.vocabulary import KINDS, LimitKind
from loop4.policies.policy import Policy
from loop4.policies.severity import SeverityPolicy
from loop4.policies.tree import Binary, Constant, Name, Tree

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that was bid for, and what holds.

    `value` None = nothing is granted (or, for what grants nothing, nothing is held). `own` is
    Loop4's number, None if it has none that is fixed. `claims` are all bids, `winner` the strictest
    one (None if Loop4's own is stricter, or nothing is resolved). `held_by` empty = recorded only.
    """

    key: str
    environment: str
    unit: Unit
    value: int | None
    own: int | None
    claims: tuple[Claim, ...]
    winner: Claim | None
    held_by: str

    @property
    def unresolved(self) -> tuple[Claim, ...]:
        """The bids without a number."""
        return tuple(claim for claim in self.claims if claim.unresolved)

    @property
    def is_conflict(self) -> bool:
        """Whether two bids of the organisation name different numbers."""
        return len({(c.value, c.unit) for c in self.claims if not c.unresolved}) > 1

    @property
    def is_looser(self) -> bool:
        """Whether every number of the organisation is looser than Loop4's own, which then holds."""
        return self.winner is None and self.value is not None


def reconcile(
    claims: Iterable[Claim], policy: Policy, severity: SeverityPolicy
) -> tuple[Limit, ...]:
    """One limit for each key and environment, in their order."""
    grouped = group(claims, lambda claim: (claim.key, claim.environment))
    return tuple(
        _limit(key, environment, tuple(bids), policy, severity)
        for (key, environment), bids in grouped.items()
    )


def _limit(
    key: str, environment: str, bids: tuple[Claim, ...], policy: Policy, severity: SeverityPolicy
) -> Limit:
    kind = KINDS.get(key)
    own = _own(key, kind, policy, severity)
    resolved = [bid for bid in bids if not bid.unresolved]
    is_lower = kind is None or kind.stricter == "lower"
    winner = _strictest(resolved, is_lower)
    held_by = kind.held_by if kind is not None else "the clocks of incidents"
    if environment and not (kind is not None and kind.is_rule):
        held_by = ""  # Loop4 holds these everywhere or not at all
    grants = kind is not None and kind.is_permission
    if grants and len(resolved) < len(bids):
        return Limit(key, environment, bids[0].unit, None, own, bids, None, held_by)
    if not resolved:
        return Limit(key, environment, bids[0].unit, own, own, bids, None, held_by)
    assert winner is not None  # noqa: S101  (there is at least one resolved bid)
    value, unit = winner.value, winner.unit
    is_own_stricter = own is not None and _order(own, Unit.COUNT, is_lower) < _order(
        value, unit, is_lower
    )
    if is_own_stricter:
        return Limit(key, environment, bids[0].unit, own, own, bids, None, held_by)
    return Limit(key, environment, unit, value, own, bids, winner, held_by)


def _strictest(bids: Sequence[Claim], is_lower: bool) -> Claim | None:
    return min(
        bids, key=lambda bid: (_order(bid.value, bid.unit, is_lower), bid.place), default=None
    )


def _order(value: int, unit: Unit, is_lower: bool) -> int:
    seconds = value * _DAY_S if unit is Unit.BUSINESS_DAYS else value
    return seconds if is_lower else -seconds


def _own(key: str, kind: LimitKind | None, policy: Policy, severity: SeverityPolicy) -> int | None:
    """Loop4's own number, read from the rules that are loaded where a rule holds it."""
    if kind is None:
        _, name, clock = key.split(".")
        rule = next(rule for sev, rule in severity.rules.items() if sev.value == name)
        duration = {"ack": rule.ack, "mitigate": rule.mitigate, "resolve": rule.resolve}[clock]
        return duration.seconds or duration.business_days * _DAY_S
    if key == "significant_impact_bp":
        return severity.significant_bp
    if not kind.baseline_rule:
        return kind.baseline
    rules = [rule for rule in policy.rules if rule.rule_id == kind.baseline_rule]
    return _threshold(rules[0].when, kind.fact) if rules and rules[0].when is not None else None


def _threshold(tree: Tree, fact: str) -> int | None:
    """The number that the condition compares the fact with."""
    if not isinstance(tree, Binary):
        return None
    if isinstance(tree.left, Name) and tree.left.name == fact and isinstance(tree.right, Constant):
        value = tree.right.value
        return value if type(value) is int else None
    found = _threshold(tree.left, fact)
    return _threshold(tree.right, fact) if found is None else found
