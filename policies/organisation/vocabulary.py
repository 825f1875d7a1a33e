"""The limits that Loop4 knows how to hold, and the words in which policies state them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from loop4.policies.organisation.quantities import QUANTITY, UNIT_NAMES, Unit

VARIABLE = r"\{\{\s*[^{}]{0,80}?\s*\}\}"
_FILLED_IN = rf"[\w.]{{0,12}}{VARIABLE}[\w.]{{0,12}}(?<!\.)(?:\s?(?:{UNIT_NAMES})(?![A-Za-z]))?"
_Q = rf"(?P<q>{_FILLED_IN}|{QUANTITY})"
_ABOVE = r"(?:more than|above|over|exceed(?:s|ing)?|greater than|>|≥|>=)"
_AT_MOST = r"(?:at most|no more than|not more than|up to|maximum of|a maximum of|<=|≤|limit of)"
_AT_LEAST = r"(?:at least|no fewer than|minimum of|a minimum of|>=|≥)"


@dataclass(frozen=True, slots=True)
class LimitKind:
    """One limit. `stricter` says which way is tighter. `held_by` says in words what holds it; empty
    means that Loop4 records the number and nothing enforces it.

    `pattern` finds it in a statement, its number in the group q. `baseline_rule` names the shipped
    rule whose condition on `fact` is Loop4's own number; `baseline` is one without a rule.
    """

    key: str
    unit: Unit
    stricter: Literal["lower", "higher"]
    pattern: re.Pattern[str]
    fact: str = ""
    baseline_rule: str = ""
    baseline: int | None = None
    held_by: str = ""

    @property
    def is_permission(self) -> bool:
        """Whether something may be done because of this number: without it, it may not."""
        return self.key in _PERMISSIONS

    @property
    def is_rule(self) -> bool:
        """Whether a rule of its own holds it, which may name an environment."""
        return bool(self.fact) or self.key == "production_change_approvals"


def _kind(
    key: str,
    unit: Unit,
    stricter: Literal["lower", "higher"],
    pattern: str,
    *,
    fact: str = "",
    baseline_rule: str = "",
    baseline: int | None = None,
    held_by: str = "",
) -> LimitKind:
    compiled = re.compile(pattern, re.IGNORECASE)
    return LimitKind(key, unit, stricter, compiled, fact, baseline_rule, baseline, held_by)


_ALL = (
    _kind(
        "traffic_share_bp", Unit.SHARE_BP, "lower",
        rf"{_ABOVE}\s+{_Q}\s+(?:of\s+)?(?:the\s+|all\s+|live\s+|production\s+)*(?:traffic|requests)\b",
        fact="traffic_share_bp", baseline_rule="wide-blast-radius",
        held_by="a rule: above it a write needs the on-call",
    ),
    _kind(
        "restarts_1h", Unit.COUNT, "lower",
        rf"{_AT_MOST}\s+{_Q}\s+restarts?\b[^.;]*\bhour",
        fact="restarts_1h", held_by="a rule: from it on a restart goes to a person",
    ),
    _kind(
        "failed_remediations", Unit.COUNT, "lower",
        rf"after\s+{_Q}\s+failed\s+(?:remediations?|attempts?|fixes)\b",
        fact="failed_remediations", held_by="a rule: from it on only humans act",
    ),
    _kind(
        "evidence_sources", Unit.COUNT, "higher",
        rf"(?:{_AT_LEAST}\s+)?{_Q}\s+independent\s+(?:evidence\s+)?(?:sources|kinds of evidence)",
        fact="evidence_sources", baseline_rule="two-sources",
        held_by="a rule: below it an autonomous write is denied",
    ),
    _kind(
        "replicas_min", Unit.COUNT, "higher",
        rf"{_AT_LEAST}\s+{_Q}\s+(?:replicas|instances)\b",
        fact="replicas_after", held_by="a rule: scaling below it is denied",
    ),
    _kind(
        "approval_ttl_s", Unit.SECONDS, "lower",
        r"approvals?\b[^;]*\b(?:expires?|is valid|are valid|lapses?)"
        rf"\s+(?:after|within|for)\s+{_Q}",
        baseline=900, held_by="the lifetime of every approval",
    ),
    _kind(
        "approval_need", Unit.COUNT, "higher",
        rf"(?:{_AT_LEAST}\s+)?{_Q}\s+(?:approvers|people\s+(?:must\s+)?approve|approvals are)",
        baseline=1, held_by="the number of people whom every approval needs",
    ),
    _kind(
        "production_change_approvals", Unit.COUNT, "higher",
        rf"production\s+(?:deploy\w*|change\w*|release\w*)\b[^;]*\bapproval\s+(?:of|by|from)\s+{_Q}",
        held_by="a rule: a forward change in production needs so many people",
    ),
    _kind(
        "verify_within_s", Unit.SECONDS, "lower",
        r"(?:validated|validation|health evidence)\b[^;]*?"
        rf"\b(?:within|window\b[^;]*?\bis|is)\s+{_Q}",
        baseline=300, held_by="the time in which an act must be shown to have helped",
    ),
    _kind(
        "rollback_p99_ratio_bp", Unit.RATIO_BP, "lower",
        rf"p99\b[^;]*?(?:exceeds?|{_ABOVE})\s+(?:\*\*)?(?:{_Q}\s?(?:\*\*)?\s*(?:of\s+)?(?:its\s+|the\s+)?)?"
        r"(?:its\s+|the\s+)?target",
        baseline=10_000, held_by="health targets: Loop4 moves when a target is missed (1x)",
    ),
    _kind(
        "rollback_error_increase_bp", Unit.SHARE_BP, "lower",
        rf"error rate\b[^;,]*?{_ABOVE}\s+{_Q}\s+(?:above|over)",
    ),
    _kind(
        "rollback_health_failures_bp", Unit.SHARE_BP, "lower",
        rf"health.?checks?\b[^;]*?{_ABOVE}\s+{_Q}\s+of\s+(?:the\s+)?instances",
    ),
    _kind(
        "availability_bp", Unit.SHARE_BP, "higher",
        rf"availability\b[^;]*?{_AT_LEAST}\s+{_Q}",
        held_by="the load of health targets: a lower objective is refused",
    ),
    _kind(
        "latency_p99_ms", Unit.MILLISECONDS, "lower", rf"p99\b[^;]*?{_AT_MOST}\s+{_Q}",
    ),
    _kind(
        "significant_impact_bp", Unit.SHARE_BP, "lower",
        rf"significant\b[^;]*?\(?{_Q}\s+of\s+(?:edge\s+)?requests",
        held_by="severity: from it on customer impact is significant",
    ),
    _kind(
        "cost_ratio_bp", Unit.RATIO_BP, "lower",
        rf"(?:cost|spend)\w*\b[^;]*?{_ABOVE}\s+{_Q}\s+(?:of\s+)?(?:the\s+)?(?:normal|usual|baseline)",
        fact="cost_ratio_bp", baseline_rule="notify-of-cost",
    ),
)  # fmt: skip

_PERMISSIONS = frozenset(kind.key for kind in _ALL) - {
    "availability_bp",
    "latency_p99_ms",
    "significant_impact_bp",
    "cost_ratio_bp",
}

KINDS: Mapping[str, LimitKind] = MappingProxyType({kind.key: kind for kind in _ALL})

_SEVERITY = re.compile(r"\b(?:SEV(?:ERITY)?[ -]?|P)([0-4])\b", re.IGNORECASE)
ENVIRONMENT = re.compile(
    r"\b(?:in|on|for)\s+(?:the\s+)?(production|staging|development|lab)\b", re.I
)


def severity_of(text: str) -> str:
    """SEV1 to SEV4 for `SEV 2`, `P2`, `Severity-2`; P0 and SEV0 are SEV1. Empty if none, or two."""
    found = {max(1, int(digit)) for digit in _SEVERITY.findall(text)}
    return f"SEV{found.pop()}" if len(found) == 1 else ""
