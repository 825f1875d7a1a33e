"""The incident agent: what went wrong, ranked, with evidence for and against, or "none of our
changes".
"""

from __future__ import annotations

from collections.abc import Sequence

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import Investigation, investigate
from loop4.domain import EventKind, Finding, SourceKind
from loop4.tools.analysis.diagnosis.causes import CauseKind, Hypothesis

ALL_SOURCES = (
    SourceKind.METRICS,
    SourceKind.TRACES,
    SourceKind.LOGS,
    SourceKind.CHANGES,
    SourceKind.TOPOLOGY,
)
SPEAK_OF_CHANGES = (SourceKind.CHANGES, SourceKind.TRACES, SourceKind.METRICS)


async def incident_playbook(brief: Brief) -> Report:
    """Diagnose and report every hypothesis; say so when no change of ours is guilty."""
    seen = await investigate(brief)
    findings = [_finding(hypothesis, seen) for hypothesis in seen.diagnosis.hypotheses]
    best = seen.diagnosis.best
    if best is None or best.kind is not CauseKind.GUILTY_CHANGE:
        acquitted = "; ".join(
            f"{a.change.service} {a.change.to_version}: {a.reason}"
            for a in seen.diagnosis.acquitted
        )
        evidence = seen.cite(SPEAK_OF_CHANGES)
        if evidence:
            findings.append(
                Finding(
                    agent="incident",
                    kind="no_guilty_change",
                    claim="no change of ours explains this"
                    + (f" ({acquitted})" if acquitted else ""),
                    subject=brief.event.service,
                    evidence=evidence,
                    sources=_sources(seen, SPEAK_OF_CHANGES),
                    confidence_bp=_without_change_bp(best),
                )
            )
    return Report(tuple(findings), (), seen.missing)


def _without_change_bp(best: Hypothesis | None) -> int:
    """How sure it is that no change is guilty: no surer than what explains it instead, so that this
    comes first.
    """
    if best is None:
        return 4_000
    return 8_000 if best.kind is CauseKind.UNKNOWN else min(8_000, best.confidence_bp)


def _finding(hypothesis: Hypothesis, seen: Investigation) -> Finding:
    counter = tuple(
        f"{a.change.service} {a.change.to_version} (revision {a.change.to_revision}): {a.reason}"
        for a in seen.diagnosis.acquitted
    )
    return Finding(
        agent="incident",
        kind=hypothesis.kind.value,
        claim=hypothesis.reason,
        subject=hypothesis.subject,
        evidence=seen.cite(ALL_SOURCES),
        sources=_sources(seen, ALL_SOURCES),
        confidence_bp=hypothesis.confidence_bp,
        counter_evidence=counter,
        missing=hypothesis.missing,
        service=hypothesis.service,
    )


def _sources(seen: Investigation, cited: Sequence[SourceKind]) -> tuple[SourceKind, ...]:
    return tuple(s for s in cited if seen.evidence.get(s))


AGENT = Agent(
    name="incident",
    answers_to=frozenset({EventKind.BREACH, EventKind.ALERT, EventKind.ANOMALY}),
    may_propose=frozenset(
        {
            "oncall.page",
            "incidents.write_context",
            "incidents.draft_customer_update",
            "incidents.notify",
            "incidents.write_postmortem",
        }
    ),
    playbook=incident_playbook,
)
