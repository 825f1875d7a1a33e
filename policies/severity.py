"""Severity by rule, the clocks that follow from it, and who is paged. Pure; numbers in the YAML."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from loop4.domain import Severity
from loop4.policies.documents import Node, read_documents

Impact = Literal["none", "limited", "significant", "unknown"]
ClockName = Literal["ack", "mitigate", "resolve"]

_KINDS = ("SeverityPolicy",)
_ON_CALL = ("primary", "secondary")
_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w|bd)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAY_MS = 86_400_000


class Postmortem(StrEnum):
    """When a postmortem is due: each time, when the incident repeats, or never."""

    ALWAYS = "always"
    REPEATED = "repeated"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Duration:
    """A time to answer in: `seconds`, or whole `business_days` (Monday to Friday, UTC)."""

    seconds: int = 0
    business_days: int = 0

    def after(self, start_ms: int) -> int:
        """The moment that lies this long after `start_ms`."""
        at_ms = start_ms + self.seconds * 1000
        left = self.business_days
        while left:
            at_ms += _DAY_MS
            left -= datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC).weekday() < 5
        return at_ms


@dataclass(frozen=True, slots=True)
class SeverityRule:
    """What one severity demands. `page` is woken at once, `page_on_miss` when `ack` runs out."""

    name: str
    ack: Duration
    mitigate: Duration
    resolve: Duration
    page: tuple[str, ...]
    page_on_miss: tuple[str, ...]
    customer_update: bool
    context_package: bool
    postmortem: Postmortem


@dataclass(frozen=True, slots=True)
class SeverityPolicy:
    """The thresholds of customer impact and one rule per severity."""

    significant_bp: int
    limited_bp: int
    rules: Mapping[Severity, SeverityRule]

    def rule(self, severity: Severity) -> SeverityRule:
        """What that severity demands."""
        return self.rules[severity]


@dataclass(frozen=True, slots=True)
class Assessment:
    """A severity and the sentence that says why."""

    severity: Severity
    impact: Impact
    reason: str


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When the three clocks run out."""

    ack_ms: int
    mitigate_ms: int
    resolve_ms: int


def load_severity(path: Path | None = None) -> SeverityPolicy:
    """The severity policy of a file, or the shipped one. Raises PolicyError with the place."""
    documents = read_documents(path or Path(__file__).with_name("severity.yaml"), _KINDS)
    if len(documents) > 1:
        raise documents[1].body.error("a second severity policy in one file; expected one")
    spec = documents[0].spec.fields(("impact", "severities"))
    impact = spec["impact"].fields(("significant_bp", "limited_bp"))
    significant_bp = impact["significant_bp"].integer(1, 10_000)
    limited_bp = impact["limited_bp"].integer(1, 10_000)
    if limited_bp > significant_bp:
        raise impact["limited_bp"].error(
            f"found {limited_bp}, which is above significant_bp {significant_bp}"
        )
    rules = spec["severities"].fields([severity.value for severity in Severity])
    return SeverityPolicy(
        significant_bp, limited_bp, {Severity(name): _rule(node) for name, node in rules.items()}
    )


def assess(
    policy: SeverityPolicy,
    *,
    targets_breached: int,
    customer_impact_bp: int | None,
    is_anomaly: bool,
) -> Assessment:
    """The severity of what is known now.

    `customer_impact_bp` None = nobody could measure it; it then counts as significant, so that
    missing data never makes an incident smaller.
    """
    impact, said = _impact(policy, customer_impact_bp)
    if targets_breached >= 2 and impact in ("significant", "unknown"):
        reason = f"{targets_breached} targets breached and {said}"
        return Assessment(Severity.SEV1, impact, reason)
    if targets_breached >= 1:
        count = "1 target" if targets_breached == 1 else f"{targets_breached} targets"
        return Assessment(Severity.SEV2, impact, f"{count} breached, {said}")
    if is_anomaly:
        return Assessment(Severity.SEV3, impact, f"an anomaly, no target breached, {said}")
    return Assessment(Severity.SEV4, impact, f"no target breached and no anomaly, {said}")


def deadlines(policy: SeverityPolicy, severity: Severity, detected_ms: int) -> Deadlines:
    """When the clocks of an incident run out; they start at the first credible detection."""
    rule = policy.rule(severity)
    return Deadlines(
        rule.ack.after(detected_ms),
        rule.mitigate.after(detected_ms),
        rule.resolve.after(detected_ms),
    )


def breached_clocks(
    limits: Deadlines,
    *,
    now_ms: int,
    acked_ms: int = 0,
    mitigated_ms: int = 0,
    resolved_ms: int = 0,
) -> tuple[ClockName, ...]:
    """The clocks that ran out, in order. A time of 0 = has not happened.

    A clock that was met, but late, ran out.
    """
    clocks: tuple[tuple[ClockName, int, int], ...] = (
        ("ack", limits.ack_ms, acked_ms),
        ("mitigate", limits.mitigate_ms, mitigated_ms),
        ("resolve", limits.resolve_ms, resolved_ms),
    )
    return tuple(name for name, limit_ms, met_ms in clocks if (met_ms or now_ms) > limit_ms)


def _impact(policy: SeverityPolicy, impact_bp: int | None) -> tuple[Impact, str]:
    if impact_bp is None:
        return "unknown", "customer impact could not be measured and counts as significant"
    if impact_bp >= policy.significant_bp:
        return "significant", (
            f"{impact_bp} bp of edge requests failed or were too slow, "
            f"significant from {policy.significant_bp} bp"
        )
    if impact_bp >= policy.limited_bp:
        return "limited", (
            f"{impact_bp} bp of edge requests failed or were too slow, "
            f"below {policy.significant_bp} bp"
        )
    return "none", "no customer impact measured"


def _rule(node: Node) -> SeverityRule:
    entry = node.fields(
        ("name", "clocks", "postmortem"),
        ("page", "page_on_miss", "customer_update", "context_package"),
    )
    clocks = entry["clocks"].fields(("ack", "mitigate", "resolve"))
    postmortem = entry["postmortem"].choice("postmortem", [when.value for when in Postmortem])
    return SeverityRule(
        name=entry["name"].text(),
        ack=duration(clocks["ack"]),
        mitigate=duration(clocks["mitigate"]),
        resolve=duration(clocks["resolve"]),
        page=_people(entry.get("page")),
        page_on_miss=_people(entry.get("page_on_miss")),
        customer_update="customer_update" in entry and entry["customer_update"].boolean(),
        context_package="context_package" in entry and entry["context_package"].boolean(),
        postmortem=Postmortem(postmortem),
    )


def _people(node: Node | None) -> tuple[str, ...]:
    return tuple(item.choice("on-call", _ON_CALL) for item in node.items()) if node else ()


def duration(node: Node) -> Duration:
    """The duration of a value like 15m, 4h, 1w or 3bd. Raises PolicyError with its place."""
    found = _DURATION.fullmatch(node.text())
    if not found:
        raise node.error(f"found {node.text()!r}, expected a duration like 15m, 4h, 1w or 3bd")
    amount, unit = int(found.group(1)), found.group(2)
    return Duration(business_days=amount) if unit == "bd" else Duration(amount * _UNIT_S[unit])
