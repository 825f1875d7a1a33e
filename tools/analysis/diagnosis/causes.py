"""From observations to ranked causes: which change is guilty, or which instance, or something
outside, or nothing known.

Pure. A change is named guilty only when the errors begin in its service, the new version fails
materially more than the old one beside it, and it came before the errors did. When nothing old is
left beside it, it must fail more than the service before the change, and the failures must have
come with the change: a version that did well in its first stretch is not what broke later. Where
they end in calls to an external dependency, nothing then tells the two apart but its probes: it
must be seen to be well since the calls fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loop4.domain import SourceKind
from loop4.tools.analysis.compare import (
    MINIMUM_REQUESTS,
    Comparison,
    Difference,
    compare_failures,
)
from loop4.tools.analysis.diagnosis.observations import Counts, Observations
from loop4.tools.analysis.diagnosis.origin import Origin
from loop4.tools.backends.ports import Change

FORWARD_KINDS = frozenset({"deploy", "config", "flag", "weight"})
PROBE_FAILING_BP = 9_000  # a healthy dependency answers more than this share of probes
MINIMUM_PROBES = 5  # fewer since its calls fail do not show that a dependency is well
NOTHING = Counts()
BEFORE = "the service before the change"


class CauseKind(StrEnum):
    """What kind of thing a hypothesis blames."""

    GUILTY_CHANGE = "guilty_change"
    INSTANCE_FAULT = "instance_fault"
    EXTERNAL_DEPENDENCY = "external_dependency"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Acquittal:
    """A change that was looked at and is not blamed, with the reason."""

    change: Change
    reason: str


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One explanation. `subject` is a change id, an instance, a dependency or a service."""

    kind: CauseKind
    subject: str
    service: str
    reason: str
    confidence_bp: int
    sources: tuple[SourceKind, ...]
    change: Change | None = None
    difference: Difference | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Hypotheses, best first, and the changes that were acquitted."""

    hypotheses: tuple[Hypothesis, ...]
    acquitted: tuple[Acquittal, ...]

    @property
    def best(self) -> Hypothesis | None:
        """The leading hypothesis, or None when nothing was seen."""
        return self.hypotheses[0] if self.hypotheses else None


def diagnose(seen: Observations) -> Diagnosis:
    """Rank the explanations of what was seen; the same observations give the same answer."""
    hypotheses: list[Hypothesis] = []
    acquitted: list[Acquittal] = []
    candidates = [
        c
        for c in seen.changes
        if c.kind in FORWARD_KINDS
        and seen.onset_ms - seen.lookback_ms <= c.at_ms <= seen.onset_ms + 2_000
    ]
    began: Counter[str] = Counter()
    for origin in seen.origins:  # one place a replica: a service has as many as it has replicas
        began[origin.service] += origin.traces
    total = began.total()
    blamed_services = {service for service, traces in began.items() if traces * 5 >= total}
    for change in sorted(candidates, key=lambda c: (-c.at_ms, c.change_id)):
        verdict = _try_change(seen, change, blamed_services)
        if isinstance(verdict, Hypothesis):
            hypotheses.append(verdict)
        else:
            acquitted.append(verdict)
    hypotheses += _external(seen, total)
    hypotheses += _instances(seen)
    if not hypotheses and total:
        lead = _most(began)
        hypotheses.append(
            Hypothesis(
                CauseKind.UNKNOWN,
                lead,
                lead,
                f"{began[lead]} of {total} failing traces begin in {lead}, "
                "and no change, instance or dependency explains them",
                3_000,
                (SourceKind.TRACES,),
            )
        )
    hypotheses.sort(key=lambda h: (-h.confidence_bp, h.kind.value, h.subject))
    return Diagnosis(tuple(hypotheses), tuple(acquitted))


def stands_alone(by_version: Mapping[tuple[str, str], Counts], change: Change) -> bool:
    """Whether a change's new version serves and too little of the old one to compare them."""
    new = by_version.get((change.service, change.to_version), NOTHING)
    old = by_version.get((change.service, change.from_version), NOTHING)
    return old.total < MINIMUM_REQUESTS <= new.total


def _try_change(
    seen: Observations, change: Change, blamed_services: set[str]
) -> Hypothesis | Acquittal:
    if change.service not in blamed_services:
        return Acquittal(change, f"no failing trace begins in {change.service}")
    is_alone = stands_alone(seen.by_version, change)
    new = seen.by_version.get((change.service, change.to_version), NOTHING)
    old = seen.by_version.get((change.service, change.from_version), NOTHING)
    against = f"version {change.from_version} beside it"
    if is_alone:
        old = seen.before_change.get(change.change_id, NOTHING)
        against = BEFORE
    beside = _compare(new, old)
    if beside.verdict is Comparison.NO_DATA:
        return Acquittal(change, "too few requests on either side to compare the versions")
    if beside.verdict is Comparison.SAME:
        return Acquittal(
            change,
            f"version {change.to_version} fails no more than {against} "
            f"({beside.new_bp} against {beside.old_bp} bp)",
        )
    external = _failing_dependency(seen.origins, change)
    probe = seen.probes_bp.get(external) if external else None
    if probe is not None and probe < PROBE_FAILING_BP:
        return Acquittal(change, f"{external} itself answers only {probe} bp of its probes")
    doubt = _doubt(seen, change, external) if is_alone else ""
    if doubt:
        return Acquittal(change, doubt)
    reason = (
        f"{change.service} {change.to_version} fails {beside.new_bp} bp of its requests, "
        f"{against} {beside.old_bp} bp"
    )
    if external and probe is not None:
        reason += f"; its calls to {external} fail although {external} answers its probes"
    return Hypothesis(
        CauseKind.GUILTY_CHANGE,
        change.change_id,
        change.service,
        reason,
        9_000 if beside.low_bp > 500 else 7_500,
        (SourceKind.METRICS, SourceKind.TRACES, SourceKind.CHANGES),
        change=change,
        difference=beside,
    )


def _doubt(seen: Observations, change: Change, external: str) -> str:
    """Why a version with nothing old beside it is not to blame all the same; empty when nothing
    speaks for it. What a service meets later, it meets with whatever version it has.
    """
    stretch = seen.first_stretches.get(change.change_id)
    if stretch is not None:
        against = f"version {change.from_version} beside it"
        first = _compare(stretch.new, stretch.old)
        if first.verdict is Comparison.NO_DATA:
            against = BEFORE
            first = _compare(stretch.new, seen.before_change.get(change.change_id, NOTHING))
        if first.verdict is Comparison.NO_DATA:
            return (
                f"too few requests in the first {stretch.lasts_s} s of version "
                f"{change.to_version} to say that the failures came with it"
            )
        if first.verdict is Comparison.SAME:
            return (
                f"the failures did not come with it: in its first {stretch.lasts_s} s version "
                f"{change.to_version} failed no more than {against} "
                f"({first.new_bp} against {first.old_bp} bp)"
            )
    if not external:
        return ""
    answered_bp = _answered_since_bp(seen, external)
    if answered_bp is None:
        return f"too few probes of {external} since its calls fail to know whether it is well"
    if answered_bp < PROBE_FAILING_BP:
        return f"{external} answered only {answered_bp} bp of its probes since its calls fail"
    return ""


def _answered_since_bp(seen: Observations, dependency: str) -> int | None:
    """The share of probes answered since calls to a dependency fail; None for too few probes."""
    probes = seen.probes_since.get(dependency, NOTHING)
    if probes.total < MINIMUM_PROBES:
        return None
    return round((probes.total - probes.failed) / probes.total * 10_000)


def _compare(new: Counts, old: Counts) -> Difference:
    return compare_failures(new.failed, new.total, old.failed, old.total)


def _failing_dependency(origins: Sequence[Origin], change: Change) -> str:
    """The external dependency in whose calls most failing traces of the change's new version end;
    empty when most of them end in none. Without a trace of that version its whole service counts.

    What the old version met in an earlier outage says nothing of the new one.
    """
    mine = [o for o in origins if o.service == change.service]
    new = [o for o in mine if o.version == change.to_version]
    ended: Counter[str] = Counter()
    for origin in new or mine:
        ended[origin.external] += origin.traces
    return _most(ended)


def _most(traces: Mapping[str, int]) -> str:
    """The name with most traces; the alphabet breaks ties. Empty without any."""
    return min(traces, key=lambda name: (-traces[name], name), default="")


def _external(seen: Observations, total: int) -> list[Hypothesis]:
    found = []
    for dependency in sorted({o.external for o in seen.origins if o.external}):
        traces = sum(o.traces for o in seen.origins if o.external == dependency)
        if traces * 2 < total:
            continue
        probe = seen.probes_bp.get(dependency)
        services = sorted({o.service for o in seen.origins if o.external == dependency})
        calls = {k: v for k, v in seen.calls.items() if k[2] == dependency and v.total >= 10}
        alike = bool(calls) and all(c.failed * 20 >= c.total for c in calls.values())
        since_bp = _answered_since_bp(seen, dependency)
        if probe is not None and probe < PROBE_FAILING_BP:
            confidence, why = 8_800, f"{dependency} answers only {probe} bp of its probes"
        elif since_bp is not None and since_bp < PROBE_FAILING_BP:
            confidence = 8_800
            why = f"{dependency} answered only {since_bp} bp of its probes since then"
        elif alike and len(calls) > 1:
            confidence, why = 6_500, f"calls to {dependency} fail from every version alike"
        else:
            continue
        found.append(
            Hypothesis(
                CauseKind.EXTERNAL_DEPENDENCY,
                dependency,
                services[0],
                f"{traces} of {total} failing traces end in calls to {dependency}; {why}",
                confidence,
                (SourceKind.METRICS, SourceKind.TRACES),
                missing=() if probe is not None else (f"no probe of {dependency}",),
            )
        )
    return found


def _instances(seen: Observations) -> list[Hypothesis]:
    """Replicas that keep dying while their siblings of the same version are well."""
    found = []
    for sick in sorted(seen.instances, key=lambda i: i.instance):
        if sick.restarts < 2 and sick.state not in ("crashed", "backoff"):
            continue
        siblings = [
            i
            for i in seen.instances
            if i.service == sick.service
            and i.version == sick.version
            and i.instance != sick.instance
        ]
        well = [i for i in siblings if i.state == "ready" and i.restarts == 0]
        if not well or len(well) < len(siblings):
            continue
        found.append(
            Hypothesis(
                CauseKind.INSTANCE_FAULT,
                sick.instance,
                sick.service,
                f"{sick.instance} was respawned {sick.restarts} times and is {sick.state}; "
                f"{len(well)} siblings of version {sick.version} are well",
                8_500,
                (SourceKind.TOPOLOGY, SourceKind.METRICS),
            )
        )
    return found
