"""The chosen agents work side by side; what they return is checked, bounded and kept as
evidence.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence, Set
from dataclasses import asdict

from loop4.agents.agent import Agent, Brief, Report, fault_of
from loop4.agents.planner.port import ModelNote, Planner, PlaybookPlanner, Refined
from loop4.canonical import digest
from loop4.domain import Finding, Json, Proposal, Severity
from loop4.errors import LedgerError
from loop4.graphs.drafts import EvidenceDraft
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.graphs.triage import reader_for
from loop4.ledger import events
from loop4.telemetry import agent_span, current_trace_id
from loop4.tools.reader import Reader, ReadRecord

PROPOSALS_PER_AGENT = 4
AGENT_DEADLINE_S = 60.0
ASK_AGAIN_MS = 5_000  # doubled each time: early evidence is thin
ASK_LIMIT = 4


async def ask_agents(fleet: Fleet, state: RunState) -> RunState:
    """Run the playbooks in parallel; store findings and proposals; keep the reads that are
    cited.

    Where a person is to be paged, the first look asks no model: the page does not wait for one.
    """
    with fleet.ledger.read() as tx:
        event = events.get(tx, state["event"])
    if event is None:
        raise LedgerError(f"the ledger has no event {state['event']!r}")
    reader = reader_for(fleet, event, state["incident_id"])
    brief = Brief(
        event=event,
        incident_id=state["incident_id"],
        severity=Severity(state["severity"]),
        now_ms=fleet.clock.now_ms(),
        catalogue=fleet.catalogue,
        targets=fleet.targets,
        runbooks=fleet.runbooks,
        reader=reader,
    )
    chosen = [a for a in fleet.agents if a.name in state["agents"]]
    is_first_look = _pages_first(fleet, state)
    planner: Planner = PlaybookPlanner() if is_first_look else fleet.planner
    answers = await asyncio.gather(*(_ask(agent, brief, planner) for agent in chosen))
    findings: list[Finding] = []
    proposals: list[Proposal] = []
    violations: list[tuple[str, str]] = []
    known = reader.records.keys() | _cited_before(fleet, state)
    missing: list[str] = []
    notes: list[ModelNote] = []
    for agent, (answer, note) in zip(chosen, answers, strict=True):
        if note is not None:
            notes.append(note)
        if isinstance(answer, str):
            violations.append((agent.name, answer))
            continue
        missing += [m for m in answer.missing if m not in missing]
        _check(agent, answer, known, findings, proposals, violations)
    for note in notes:
        draft_model_note(fleet, state, note)
    recorded = _record(fleet, state, reader, findings, proposals, violations, missing)
    return {**recorded, "asked": 0, "paged": "due"} if is_first_look else recorded


def _pages_first(fleet: Fleet, state: RunState) -> bool:
    """Whether people are told what the playbooks say before a model is asked."""
    is_new = not state.get("asked", 0) and state.get("paged", "") != "done"
    pages = fleet.severity.rule(Severity(state["severity"])).page
    return is_new and bool(pages) and not isinstance(fleet.planner, PlaybookPlanner)


def draft_model_note(fleet: Fleet, state: RunState, note: ModelNote) -> None:
    """Keep what a model was asked as evidence."""
    fleet.drafts.append(
        EvidenceDraft(
            "model",
            state["incident_id"],
            state["run_id"],
            note.to_json(),
            fleet.clock.now_ms(),
            current_trace_id(),
        )
    )


async def _ask(
    agent: Agent, brief: Brief, planner: Planner
) -> tuple[Report | str, ModelNote | None]:
    """The agent's report, or what was wrong with it. An agent is foreign code: here is the edge of
    its run.
    """
    with agent_span(agent.name, incident_id=brief.incident_id) as span:
        try:
            async with asyncio.timeout(AGENT_DEADLINE_S):
                answer = await agent.playbook(brief)
            fault = fault_of(answer)
            if not fault:
                _must_be_storable(answer)
        except Exception as error:
            span.fail(type(error).__name__)
            return _raised(error), None
        if fault:
            span.fail("fault")
            return fault, None
        refined = await _refine(agent, brief, planner, answer)
    return refined.report, refined.note


async def _refine(agent: Agent, brief: Brief, planner: Planner, report: Report) -> Refined:
    """What the planner made of it; the playbook's report after whatever a planner does wrong."""
    try:
        refined = await planner.refine(agent, brief, report)
        fault = fault_of(refined.report)
        if not fault:
            _must_be_storable(refined.report)
    except Exception as error:  # its text may hold what a model said
        fault = f"raised {type(error).__name__}"
    if fault:
        return Refined(report, ModelNote(f"refine {agent.name}", "", "", fallback=fault))
    return refined


def _must_be_storable(report: Report) -> None:
    """What has no canonical form cannot be stored or bound: it raises here."""
    digest(list(report.missing))
    digest([_finding_body(f) for f in report.findings])
    digest([proposal_body(p) for p in report.proposals[:PROPOSALS_PER_AGENT]])


def _raised(error: Exception) -> str:
    """One line about a foreign exception, whose own text may fail or hold what nobody can store."""
    *_, last = traceback.format_exception_only(error)
    text = f"raised {type(error).__name__}: {last.strip().partition(': ')[2]}"
    return text.encode("utf-8", "backslashreplace").decode()[:300]


def _check(
    agent: Agent,
    report: Report,
    known: Set[str],
    findings: list[Finding],
    proposals: list[Proposal],
    violations: list[tuple[str, str]],
) -> None:
    """Keep findings that cite known evidence and proposals inside the agent's bounds; note the
    rest.
    """
    for finding in report.findings:
        if not finding.evidence:
            violations.append((agent.name, "a finding without evidence was dropped"))
        elif not set(finding.evidence) <= known:
            violations.append((agent.name, "a finding that cites unknown evidence was dropped"))
        else:
            findings.append(finding)
    if len(report.proposals) > PROPOSALS_PER_AGENT:
        violations.append(
            (
                agent.name,
                f"{len(report.proposals)} proposals; only {PROPOSALS_PER_AGENT} were looked at",
            )
        )
    for proposal in report.proposals[:PROPOSALS_PER_AGENT]:
        if proposal.agent != agent.name:
            violations.append((agent.name, f"a proposal in the name of {proposal.agent!r}"))
        else:
            proposals.append(proposal)


def _cited_before(fleet: Fleet, state: RunState) -> Set[str]:
    """Evidence of the findings of the last look: it stands in the chain already."""
    cited: set[str] = set()
    for name in state.get("findings", ()):
        body = fleet.drafts.get(name)
        evidence = body.get("evidence") if isinstance(body, dict) else None
        cited.update(str(e) for e in (evidence if isinstance(evidence, list) else ()))
    return cited


def _record(
    fleet: Fleet,
    state: RunState,
    reader: Reader,
    findings: Sequence[Finding],
    proposals: Sequence[Proposal],
    violations: Sequence[tuple[str, str]],
    missing: Sequence[str],
) -> RunState:
    now_ms, trace_id = fleet.clock.now_ms(), current_trace_id()
    cited = {e for f in findings for e in f.evidence} | {e for p in proposals for e in p.evidence}
    kept = [r for e, r in sorted(reader.records.items()) if e in cited or r.denied]
    ordered = sorted(findings, key=lambda f: (-f.confidence_bp, f.agent, f.kind, f.subject))
    allowed = [p for p in proposals if p.tool in _bounds(fleet, p.agent)]
    outside = [p for p in proposals if p.tool not in _bounds(fleet, p.agent)]

    def append(kind: str, body: dict[str, Json]) -> None:
        fleet.drafts.append(
            EvidenceDraft(kind, state["incident_id"], state["run_id"], body, now_ms, trace_id)
        )

    for read in kept:
        append("read", _read_body(read))
    digests = []
    for finding in ordered:
        digests.append(fleet.drafts.put(_finding_body(finding)))
        append("finding", {"finding": digests[-1], **_finding_body(finding)})
    for agent, what in violations:
        append("violation", {"agent": agent, "what": what})
    for proposal in outside:
        append("violation", {"agent": proposal.agent, "what": f"may not propose {proposal.tool!r}"})
    if missing:
        append("missing", {"missing": list(missing)})
    body: list[Json] = [proposal_body(p) for p in allowed]
    asked = state.get("asked", 0) + 1
    return {
        "findings": digests,
        "proposals": fleet.drafts.put(body),
        "asked": asked,
        "ask_again_ms": now_ms + ASK_AGAIN_MS * 2 ** (asked - 1) if asked < ASK_LIMIT else 0,
    }


def _bounds(fleet: Fleet, name: str) -> frozenset[str]:
    return next((a.may_propose for a in fleet.agents if a.name == name), frozenset())


def _read_body(read: ReadRecord) -> dict[str, Json]:
    return {
        "evidence": read.evidence,
        "tool": read.tool,
        "source": read.source.value,
        "arguments": read.arguments,
        "answer_digest": read.answer_digest,
        "summary": read.summary,
        "read_at_ms": read.at_ms,
        "denied": read.denied,
    }


def _finding_body(finding: Finding) -> dict[str, Json]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(finding).items()}


def proposal_body(proposal: Proposal) -> dict[str, Json]:
    """A proposal as JSON, for the content store."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(proposal).items()}
