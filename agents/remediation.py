"""The remediation agent: from a cause and a runbook to the smallest safe act, with its inverse."""

from __future__ import annotations

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import Investigation, investigate
from loop4.domain import EventKind, Proposal, SourceKind
from loop4.policies.runbooks import match_runbook
from loop4.tools.analysis.diagnosis.causes import CauseKind, Hypothesis


async def remediation_playbook(brief: Brief) -> Report:
    """Propose what the matching runbook's typed steps say for the leading cause; nothing without a
    cause of ours.
    """
    seen = await investigate(brief)
    best = seen.diagnosis.best
    if best is None:
        return Report(missing=seen.missing)
    proposal: Proposal | None = None
    if best.kind is CauseKind.GUILTY_CHANGE:
        proposal = _roll_back(brief, seen, best)
    elif best.kind is CauseKind.INSTANCE_FAULT:
        proposal = _restart(brief, seen, best)
    return Report((), (proposal,) if proposal else (), seen.missing)


def _runbook_name(brief: Brief, kind: CauseKind, service: str, tool: str) -> str:
    """The runbook that has this tool as a typed step for this finding; empty when there is none."""
    runbook = match_runbook(brief.runbooks, kind.value, service)
    if runbook is None or tool not in {step.tool for step in runbook.steps}:
        return ""
    return runbook.name


def _roll_back(brief: Brief, seen: Investigation, best: Hypothesis) -> Proposal | None:
    change = best.change
    workload = seen.inventory.workload(best.service) if seen.inventory and change else None
    if change is None or workload is None:
        return None
    present = {r.revision: r for r in workload.revisions}
    bad = present.get(change.to_revision)
    if change.from_revision not in present or bad is None:
        return None
    return Proposal(
        agent="remediation",
        tool="deployments.roll_back",
        target=best.service,
        service=best.service,
        arguments={"service": best.service, "to_revision": change.from_revision},
        reason=best.reason,
        expected_effect=f"{best.service} serves version {change.from_version} alone again",
        evidence=seen.cite(
            (SourceKind.METRICS, SourceKind.TRACES, SourceKind.LOGS, SourceKind.CHANGES)
        ),
        runbook=_runbook_name(brief, best.kind, best.service, "deployments.roll_back"),
        reversible=True,
        blast_radius_bp=bad.weight_bp,
        inverse={
            "tool": "deployments.roll_back",
            "arguments": {"service": best.service, "to_revision": change.to_revision},
        },
    )


def _restart(brief: Brief, seen: Investigation, best: Hypothesis) -> Proposal:
    return Proposal(
        agent="remediation",
        tool="workloads.restart",
        target=best.subject,
        service=best.service,
        arguments={"instance": best.subject, "restarted_at_ms": brief.now_ms},
        reason=best.reason,
        expected_effect=f"{best.subject} comes back ready, with clean local state",
        evidence=(
            *seen.cite((SourceKind.TOPOLOGY, SourceKind.LOGS)),
            *seen.about_instance.get(best.subject, ()),
        ),
        runbook=_runbook_name(brief, best.kind, best.service, "workloads.restart"),
        reversible=False,
        blast_radius_bp=0,
    )


AGENT = Agent(
    name="remediation",
    answers_to=frozenset({EventKind.BREACH, EventKind.ALERT, EventKind.ANOMALY}),
    may_propose=frozenset({"deployments.roll_back", "workloads.restart"}),
    playbook=remediation_playbook,
)
