"""Limits that tighten a loaded policy as a whole (kind PolicyLimits). None of them can loosen.

They stand beside the bindings and come from the import of an organisation's policies, where no rule
could say them: lifetimes and votes of approvals, clocks of incidents, floors of health targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loop4.domain import ApprovalNeed
from loop4.errors import PolicyError
from loop4.policies.documents import Document, Node
from loop4.policies.rules import Rule
from loop4.policies.severity import Duration, SeverityPolicy, SeverityRule, duration
from loop4.policies.targets import Target

_DAY_S = 86_400
_CLOCKS = ("ack", "mitigate", "resolve")
_VERIFY = "verify_health_within_s"


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold on top of the rules; 0 or nothing = no limit.

    `until_ms`: from then on everything is denied until the organisation's policies are imported
    again, since an exception that they were read with has run out.
    """

    approval_ttl_s: int = 0
    approval_need: int = 0
    verify_within_s: int = 0
    objective_bp: int = 0
    significant_bp: int = 0
    clocks: Mapping[str, Mapping[str, Duration]] = field(default_factory=dict)
    until_ms: int = 0

    def need(self, need: ApprovalNeed) -> ApprovalNeed:
        """The need with at most the longest lifetime and at least the fewest votes."""
        ttl_s = min(need.ttl_s, self.approval_ttl_s) if self.approval_ttl_s else need.ttl_s
        return ApprovalNeed(need.role, max(need.need, self.approval_need), ttl_s)

    def rules(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """The rules with their approvals and obligations inside the limits."""
        return tuple(self._rule(rule) for rule in rules)

    def _rule(self, rule: Rule) -> Rule:
        obligations = dict(rule.obligations)
        if self.verify_within_s and _VERIFY in obligations:
            obligations[_VERIFY] = min(obligations[_VERIFY], self.verify_within_s)
        approval = None if rule.approval is None else self.need(rule.approval)
        return replace(rule, approval=approval, obligations=obligations)

    def severity(self, policy: SeverityPolicy) -> SeverityPolicy:
        """The severity policy with the stricter clock of each, and the lower impact threshold."""
        significant_bp = policy.significant_bp
        if self.significant_bp:
            significant_bp = min(significant_bp, self.significant_bp)
        rules = {sev: self._clocks(sev.value, rule) for sev, rule in policy.rules.items()}
        return SeverityPolicy(significant_bp, min(policy.limited_bp, significant_bp), rules)

    def _clocks(self, name: str, rule: SeverityRule) -> SeverityRule:
        clocks = self.clocks.get(name, {})
        return replace(
            rule,
            ack=stricter(rule.ack, clocks.get("ack")),
            mitigate=stricter(rule.mitigate, clocks.get("mitigate")),
            resolve=stricter(rule.resolve, clocks.get("resolve")),
        )

    def targets(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """The same targets. Raises PolicyError for an availability below the floor."""
        for target in targets:
            if target.is_availability and target.objective_bp < self.objective_bp:
                raise PolicyError(
                    f"target {target.name!r} is {target.objective_bp} bp; the organisation's floor "
                    f"for availability is {self.objective_bp} bp",
                    path=target.file,
                    line=target.line,
                )
        return tuple(targets)


NO_LIMITS = Limits()


def stricter(one: Duration, other: Duration | None) -> Duration:
    """The duration that is never longer than either. n business days last at least n days."""
    if other is None:
        return one
    if one.business_days and other.business_days:
        return min(one, other, key=lambda found: found.business_days)
    if not one.business_days and not other.business_days:
        return min(one, other, key=lambda found: found.seconds)
    seconds = one.seconds or other.seconds
    days = one.business_days or other.business_days
    return Duration(min(seconds, days * _DAY_S))


def policy_limits(documents: Sequence[Document]) -> Limits:
    """The limits of a document; none without one. Raises PolicyError for two, or a bad one."""
    if not documents:
        return NO_LIMITS
    if len(documents) > 1:
        raise documents[1].body.error("a second PolicyLimits; expected one")
    fields = documents[0].spec.fields(
        (), ("approval", "verify_within_s", "objective_bp", "significant_bp", "clocks", "until_ms")
    )
    approval = fields["approval"].fields((), ("ttl_s", "need")) if "approval" in fields else {}
    clocks = fields["clocks"].mapping() if "clocks" in fields else {}
    return Limits(
        approval_ttl_s=_number(approval.get("ttl_s"), 7 * _DAY_S),
        approval_need=_number(approval.get("need"), 10),
        verify_within_s=_number(fields.get("verify_within_s"), 7 * _DAY_S),
        objective_bp=_number(fields.get("objective_bp"), 10_000),
        significant_bp=_number(fields.get("significant_bp"), 10_000),
        clocks={name: _durations(name, node, fields["clocks"]) for name, node in clocks.items()},
        until_ms=_number(fields.get("until_ms"), 2**47),
    )


def _number(node: Node | None, high: int) -> int:
    return 0 if node is None else node.integer(1, high)


def _durations(name: str, node: Node, clocks: Node) -> dict[str, Duration]:
    if name not in ("SEV1", "SEV2", "SEV3", "SEV4"):
        raise clocks.keys[name].error(f"severity {name!r}; expected SEV1 to SEV4")
    return {clock: duration(value) for clock, value in node.fields((), _CLOCKS).items()}
