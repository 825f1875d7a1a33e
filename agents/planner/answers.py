"""What a model may give: findings that cite evidence, and proposals made of names that exist.

A report that comes in is foreign text. Code chooses targets, arguments, reasons and ranks; the
model's own words reach a finding's claim only, after the fact check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import Investigation
from loop4.agents.planner.evidence import EvidenceBook, Names
from loop4.agents.planner.fact_check import FactCheck, split
from loop4.agents.planner.masking import Masker
from loop4.agents.planner.port import ProseFacts
from loop4.agents.planner.proposals import proposal_shapes, propose
from loop4.agents.planner.shapes import Schema, Tool, object_of, one_of, some, text, whole
from loop4.agents.planner.telemetry_text import clean
from loop4.domain import Finding, Json, JsonObject, Proposal
from loop4.tools.analysis.diagnosis.causes import CauseKind

CAUSES = tuple(k.value for k in CauseKind)
OBSERVATION = "observation"
MOST_FINDINGS = 4
MOST_PROPOSALS = 2
MODEL = "model"  # a finding of "incident/model" stands in the record and never leads
CLAIM = 280


@dataclass(frozen=True, slots=True)
class Accepted:
    """The report with what holds, and how much was dropped for which reason."""

    report: Report
    added: Mapping[str, int]
    dropped: Mapping[str, int]
    notes: tuple[str, ...] = ()


def report_tool(agent: Agent, names: Names, book: EvidenceBook) -> Tool:
    """The call that ends an investigation. Evidence stands before the claim in it."""
    cited = some(one_of(book.names()) if book.names() else text(8), 6)
    finding = object_of(
        evidence=cited,
        kind=one_of([*CAUSES, OBSERVATION]),
        subject=one_of(names.subjects) if names.subjects else text(80),
        claim=text(CLAIM, "one or two plain sentences"),
        confidence=whole(0, 100),
    )
    loose = object_of(
        evidence=some(text(40), 20),
        kind=text(40),
        subject=text(200),
        claim=text(4000),
        confidence=whole(0, 100),
    )
    shapes = proposal_shapes(agent, names, cited)
    fields: dict[str, Schema] = {"findings": some(finding, MOST_FINDINGS)}
    accepts: dict[str, Schema] = {"findings": some(loose, 20)}
    if shapes:
        fields["proposals"] = some({"anyOf": cast("Sequence[Json]", shapes)}, MOST_PROPOSALS)
        accepts["proposals"] = some({"type": "any"}, 20)
    return Tool(
        "report",
        "end the investigation with what the evidence shows beyond the playbook",
        object_of(**fields),
        accepts={**object_of(**accepts), "required": []},  # nothing to say is an answer
    )


def accept(
    agent: Agent,
    brief: Brief,
    playbook: Report,
    seen: Investigation,
    names: Names,
    book: EvidenceBook,
    masker: Masker,
    answer: JsonObject,
    trusted: str,
) -> Accepted:
    """Judge a report. The playbook's findings and proposals stay as they are, whatever comes."""
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    check = FactCheck(
        ProseFacts(
            trusted,
            more=(*names.subjects, *book.names()),
            names=frozenset((*brief.catalogue.names(), *brief.catalogue.externals)),
        )
    )
    findings: list[Finding] = []
    overruled: Finding | None = None
    for raw in _objects(answer.get("findings"))[:MOST_FINDINGS]:
        made = _finding(agent, raw, names, book, masker, check, dropped)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        if any(f.kind == made.kind and f.subject == made.subject for f in findings):
            dropped["says the same twice"] += 1
            continue
        made, overrules = _ranked(agent, made, playbook, seen)
        if overrules and overruled is None:
            overruled = made
            notes.append(f"overrules the playbook's cause with {made.kind} {made.subject}")
        findings.append(made)
    more = len(_objects(answer.get("findings"))) - MOST_FINDINGS
    if more > 0:
        dropped["too many findings"] += more
    proposals: list[Proposal] = []
    for raw in _objects(answer.get("proposals"))[:MOST_PROPOSALS]:
        wanted = propose(agent, brief, playbook, seen, names, book, raw, overruled)
        if isinstance(wanted, str):
            dropped[wanted] += 1
        elif wanted not in proposals:
            proposals.append(wanted)
    return Accepted(
        Report(
            (*playbook.findings, *findings),
            (*playbook.proposals, *proposals),
            playbook.missing,
        ),
        {"findings": len(findings), "proposals": len(proposals)},
        dict(sorted(dropped.items())),
        tuple(notes),
    )


def _finding(
    agent: Agent,
    raw: JsonObject,
    names: Names,
    book: EvidenceBook,
    masker: Masker,
    check: FactCheck,
    dropped: Counter[str],
) -> Finding | str:
    """The finding, or why it is dropped."""
    cited = [str(e) for e in _list(raw.get("evidence"))]
    if not cited:
        return "finding cites no evidence"
    resolved = book.resolve(cited)
    if resolved is None:
        return "finding cites evidence that is not there"
    kind = str(raw.get("kind"))
    if kind not in (*CAUSES, OBSERVATION):
        return "finding of an unknown kind"
    subject = str(raw.get("subject"))
    if subject not in names.subjects:
        return "finding about a name that does not exist"
    sentences = split(masker.scrub(clean(str(raw.get("claim")), CLAIM)))
    standing = [s for s in sentences if not check.fault(s)]
    if not standing:
        return "claim fails the fact check"
    if len(standing) < len(sentences):
        dropped["sentence of a claim fails the fact check"] += len(sentences) - len(standing)
    evidence, sources = resolved
    confidence = raw.get("confidence")
    return Finding(
        agent=f"{agent.name}/{MODEL}",
        kind=kind,
        claim=" ".join(standing),
        subject=subject,
        evidence=evidence,
        sources=sources,
        confidence_bp=min(9_000, 100 * confidence) if isinstance(confidence, int) else 0,
        service=_service_of(subject, names),
    )


def _ranked(
    agent: Agent, finding: Finding, playbook: Report, seen: Investigation
) -> tuple[Finding, bool]:
    """The finding in its place: it leads only when it overrules, which needs more independent
    sources than the playbook's cause stands on. Two is the least.
    """
    if agent.name != "incident" or finding.kind not in CAUSES or finding.kind == "unknown":
        return finding, False
    best = next((f for f in playbook.findings if f.agent == "incident"), None)
    if best is not None and (best.kind, best.subject) == (finding.kind, finding.subject):
        return finding, False
    has = len(set(best.sources)) if best is not None else 1
    if len(set(finding.sources)) <= max(1, has):
        return finding, False
    if _is_acquitted(finding, seen):
        return finding, False
    confidence = max(finding.confidence_bp, (best.confidence_bp if best else 0) + 1)
    return replace(finding, agent="incident", confidence_bp=min(10_000, confidence)), True


def _is_acquitted(finding: Finding, seen: Investigation) -> bool:
    return finding.subject in {a.change.change_id for a in seen.diagnosis.acquitted}


def _service_of(subject: str, names: Names) -> str:
    if subject in names.services:
        return subject
    for change in names.history:
        if change.change_id == subject:
            return change.service
    workloads = names.inventory.workloads if names.inventory is not None else ()
    return next((w.service for w in workloads for i in w.instances if i.instance == subject), "")


def _objects(value: Json) -> list[JsonObject]:
    return [v for v in _list(value) if isinstance(v, Mapping)]


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()
