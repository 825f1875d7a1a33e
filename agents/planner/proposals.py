"""From a model's wish to a proposal: names are looked up, and everything else is computed.

The model says which tool on which name. The target, the arguments, the reason, the rank and the
runbook are code's; words of the model reach no field of a proposal. A wish that does not follow the
standing cause is dropped: false causes in telemetry lead nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import Investigation
from loop4.agents.planner.evidence import EvidenceBook, Names
from loop4.agents.planner.shapes import Schema, object_of, one_of
from loop4.domain import Finding, JsonObject, Proposal
from loop4.policies.runbooks import match_runbook
from loop4.tools.analysis.diagnosis.causes import CauseKind

ROLL_BACK = "deployments.roll_back"
RESTART = "workloads.restart"
WIDEST_BP = 10_000

# tool -> the causes that it can help against
HELPS = {
    ROLL_BACK: frozenset({CauseKind.GUILTY_CHANGE.value}),
    RESTART: frozenset({CauseKind.INSTANCE_FAULT.value}),
}
LEAST_SOURCES = 2


def proposal_shapes(agent: Agent, names: Names, cited: Schema) -> list[Schema]:
    """The proposals that this agent may make here; none for tools that take free text."""
    shapes: list[Schema] = []
    revisions = _revisions(names)
    if ROLL_BACK in agent.may_propose and names.services and revisions:
        shapes.append(
            object_of(
                evidence=cited,
                tool=one_of([ROLL_BACK]),
                service=one_of(names.services),
                to_revision={"type": "integer", "enum": list(revisions)},
            )
        )
    if RESTART in agent.may_propose and names.instances:
        shapes.append(
            object_of(evidence=cited, tool=one_of([RESTART]), instance=one_of(names.instances))
        )
    return shapes


def _revisions(names: Names) -> list[int]:
    workloads = names.inventory.workloads if names.inventory is not None else ()
    return sorted(
        {r.revision for w in workloads if w.service in names.services for r in w.revisions}
    )


def propose(
    agent: Agent,
    brief: Brief,
    playbook: Report,
    seen: Investigation,
    names: Names,
    book: EvidenceBook,
    raw: JsonObject,
    overruled: Finding | None,
) -> Proposal | str:
    """The proposal, or why it is dropped."""
    tool = str(raw.get("tool"))
    if tool not in agent.may_propose:
        return "proposal of a tool that this agent may not propose"
    if tool not in HELPS:
        return "proposal of a tool whose arguments are no checked names"
    cited = raw.get("evidence")
    ids = (
        [str(e) for e in cited]
        if isinstance(cited, Sequence) and not isinstance(cited, str)
        else []
    )
    resolved = book.resolve(ids) if ids else None
    if resolved is None:
        return "proposal cites no evidence that is there"
    evidence, sources = resolved
    if len(set(sources)) < LEAST_SOURCES:
        return "proposal on fewer than two independent sources"
    made = _roll_back(brief, names, raw) if tool == ROLL_BACK else _restart(brief, names, raw)
    if isinstance(made, str):
        return made
    kind, service = _cause(seen, overruled)
    if kind not in HELPS[tool] or service != made.service:
        return "proposal does not follow the standing cause"
    if any(p.tool == made.tool and p.target == made.target for p in playbook.proposals):
        return "proposal is the playbook's already"
    if playbook.proposals and overruled is None:
        return "the playbook's own act goes first"
    return Proposal(
        agent=agent.name,
        tool=tool,
        target=made.target,
        service=made.service,
        arguments=made.arguments,
        reason=f"a model proposes this for {kind} in {service}; no runbook was claimed by text",
        expected_effect=made.expected_effect,
        evidence=evidence,
        runbook="" if overruled is not None else _runbook(brief, kind, service, tool),
        reversible=False,  # ranked behind whatever a playbook proposes
        blast_radius_bp=WIDEST_BP,
        inverse=None,
    )


def _cause(seen: Investigation, overruled: Finding | None) -> tuple[str, str]:
    """The cause in force: kind and service."""
    if overruled is not None:
        return overruled.kind, overruled.service
    best = seen.diagnosis.best
    return (best.kind.value, best.service) if best is not None else ("", "")


def _runbook(brief: Brief, kind: str, service: str, tool: str) -> str:
    """The runbook for the playbook's own cause, never for a model's."""
    runbook = match_runbook(brief.runbooks, kind, service)
    if runbook is None or tool not in {step.tool for step in runbook.steps}:
        return ""
    return runbook.name


def _roll_back(brief: Brief, names: Names, raw: JsonObject) -> Proposal | str:
    service, revision = raw.get("service"), raw.get("to_revision")
    workload = names.inventory.workload(str(service)) if names.inventory is not None else None
    if workload is None or workload.service not in names.services:
        return "proposal on a name that does not exist"
    found = next((r for r in workload.revisions if r.revision == revision), None)
    if found is None or isinstance(revision, bool):
        return "proposal of a revision that does not exist"
    if found.revision >= workload.current_revision:
        return "proposal would change nothing, or go forward"
    return Proposal(
        "",
        ROLL_BACK,
        workload.service,
        workload.service,
        {"service": workload.service, "to_revision": found.revision},
        "",
        f"{workload.service} serves revision {found.revision} alone again",
    )


def _restart(brief: Brief, names: Names, raw: JsonObject) -> Proposal | str:
    wanted = str(raw.get("instance"))
    workloads = names.inventory.workloads if names.inventory is not None else ()
    instance = next(
        (
            i
            for w in workloads
            for i in w.instances
            if i.instance == wanted and wanted in names.instances
        ),
        None,
    )
    if instance is None:
        return "proposal on a name that does not exist"
    return Proposal(
        "",
        RESTART,
        instance.instance,
        instance.service,
        {"instance": instance.instance, "restarted_at_ms": brief.now_ms},
        "",
        f"{instance.instance} comes back ready, with clean local state",
    )
