"""The signal agent: what an incident says about the product, for the discovery loop."""

from __future__ import annotations

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import investigate
from loop4.domain import EventKind, Finding, Signal, SignalType, SourceKind
from loop4.tools.analysis.diagnosis.causes import CauseKind

_OBSERVATIONS = {
    CauseKind.GUILTY_CHANGE.value: (
        "a change reached production traffic although its own telemetry showed the fault at once",
        "Ask for an automated comparison with the running version before a rollout widens.",
    ),
    CauseKind.INSTANCE_FAULT.value: (
        "one replica kept dying from its own local state until it was started clean",
        "Ask for local state that is checked, or discarded, at start.",
    ),
    CauseKind.EXTERNAL_DEPENDENCY.value: (
        "customers felt the failure of an external dependency directly",
        "Ask for a fallback or a queue in front of this dependency.",
    ),
    CauseKind.UNKNOWN.value: (
        "a target was missed and the evidence at hand did not explain it",
        "Ask for instrumentation that separates the candidates.",
    ),
}


async def signal_playbook(brief: Brief) -> Report:
    """Note which telemetry the diagnosis had to do without: a gap is worth a signal."""
    seen = await investigate(brief)
    if not seen.missing:
        return Report()
    evidence = seen.cite(tuple(SourceKind))
    if not evidence:
        return Report(missing=seen.missing)
    finding = Finding(
        agent="signal",
        kind="evidence_gap",
        claim="the diagnosis had to do without: " + "; ".join(seen.missing),
        subject=brief.event.service,
        evidence=evidence,
        sources=tuple(s for s in SourceKind if seen.evidence.get(s)),
        confidence_bp=9_000,
    )
    return Report((finding,), (), seen.missing)


def incident_signal(incident_id: str, service: str, cause_kind: str, claim: str) -> Signal:
    """The reliability signal that a closed incident files; every postmortem needs at least one."""
    observation, ask = _OBSERVATIONS.get(cause_kind, _OBSERVATIONS[CauseKind.UNKNOWN.value])
    return Signal(
        signal_type=SignalType.RELIABILITY,
        slug=f"{incident_id.lower()}-{service}-reliability",
        title=f"Reliability: {service}, {observation}",
        observation=f"In {incident_id}, {observation}. Measured: {claim}. {ask}",
        urgency="next-cycle",
        impact="high" if cause_kind == CauseKind.GUILTY_CHANGE.value else "medium",
        confidence="high" if cause_kind != CauseKind.UNKNOWN.value else "low",
        affected=(service,),
        reference=incident_id,
    )


AGENT = Agent(
    name="signal",
    answers_to=frozenset({EventKind.BREACH, EventKind.ALERT, EventKind.ANOMALY}),
    may_propose=frozenset({"signals.file"}),
    playbook=signal_playbook,
)
