"""What a model is given: boundaries and the agent's own page first, then the playbook's findings,
evidence by id, and telemetry text inside fences. Under a limit of tokens, always.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import Investigation
from loop4.agents.planner.budget import Stopped, most_tokens
from loop4.agents.planner.evidence import EvidenceBook, Names
from loop4.agents.planner.ladder import Rung, request
from loop4.agents.planner.masking import Masker, scrub
from loop4.agents.planner.reads import wire_name
from loop4.agents.planner.shapes import Tool
from loop4.agents.planner.telemetry_text import clean, fenced, quoted
from loop4.agents.planner.wire import Call, Message, Request
from loop4.prompts.load import Prompt, load
from loop4.tools.reader import ReadRecord

EVIDENCE_SHOWN = 16
OUTSIDE_TOKENS = 1_000  # of what others worded: an alert may bring as many labels as it likes
_FORGOTTEN = "(an earlier result, left out for room; its evidence id still counts)"


@dataclass(frozen=True, slots=True)
class Opening:
    """The first two messages, the prompts they were made of, and what claims may quote."""

    system: str
    user: str
    prompts: tuple[Prompt, ...]
    trusted: str


@dataclass(slots=True)
class Conversation:
    """A conversation that is cut to its limit by forgetting the oldest results first."""

    opening: Opening
    limit: int
    turns: list[tuple[tuple[Call, ...], str]] = field(default_factory=list)
    repair: str = ""

    def add(self, calls: Sequence[Call], results: str) -> None:
        """What was called and what came of it."""
        self.turns.append((tuple(calls), scrub(results)))
        self.repair = ""

    def next_request(self, rung: Rung, tools: Sequence[Tool]) -> tuple[Request, int]:
        """The next turn and the tokens it needs at most. Raises Stopped if it cannot be made to
        fit.
        """
        need, turns = 0, len(self.turns)
        for room in range(2 * turns + 1):  # first results are forgotten, then whole turns
            messages = self._messages(min(room, turns), max(0, room - turns))
            made = request(rung, messages, tools)
            need = most_tokens(made.sent_text())
            if need <= self.limit:
                return made, need
        raise Stopped(f"the prompt needs {need} tokens, the limit is {self.limit}")

    def _messages(self, forgotten: int, left_out: int) -> list[Message]:
        messages = [
            Message("system", self.opening.system),
            Message("user", self.opening.user),
        ]
        for index, (calls, results) in enumerate(self.turns):
            if index < left_out:
                continue
            shown = _FORGOTTEN if index < forgotten else results
            named = tuple(Call(c.name, c.arguments, f"call_{index}") for c in calls[:1])
            messages.append(Message("assistant", "", named))
            messages.append(Message("tool", shown, call_id=named[0].call_id if named else ""))
        if self.repair:
            messages.append(
                Message("user", f"That answer cannot be used: {self.repair}. Answer again.")
            )
        return messages


def prompt_text(prompt: Prompt, tools: Sequence[str]) -> str:
    """A prompt with the tools under the names that calls use."""
    text = prompt.text
    for tool in sorted(tools, key=len, reverse=True):
        text = text.replace(f"`{tool}`", f"`{wire_name(tool)}`")
    return text


def opening(
    agent: Agent,
    brief: Brief,
    report: Report,
    seen: Investigation,
    names: Names,
    book: EvidenceBook,
    masker: Masker,
    tools: Sequence[str],
) -> Opening:
    """The first messages for one agent on one incident."""
    prompts = (load("boundaries"), load(agent.name))
    system = "\n\n".join(prompt_text(p, tools) for p in prompts)
    facts = [
        f"Incident {brief.incident_id}, {brief.severity.value}, service "
        f"{clean(brief.event.service, 60)}, environment {clean(brief.event.environment, 30)}, "
        f"woken by {brief.event.kind.value}.",
        f"Services of the incident: {', '.join(names.services) or 'none'}; "
        f"external dependencies: {', '.join(names.externals) or 'none'}; "
        f"instances: {', '.join(names.instances[:12]) or 'none'}.",
        "",
        "What the playbook found (it stands):",
        *_playbook(report, seen, masker),
    ]
    trusted = "\n".join(facts)
    parts = [
        *facts,
        "",
        "Evidence so far, by id:",
        fenced(
            "evidence", [_evidence(name, r, masker) for name, r in book.records()[:EVIDENCE_SHOWN]]
        ),
    ]
    outside = [
        f"label {clean(k, 40)}: {quoted(v, masker)}" for k, v in sorted(brief.event.labels.items())
    ]
    if brief.event.text:
        outside.append(f"text: {quoted(brief.event.text, masker, 400)}")
    outside += [
        f"change {quoted(c.change_id, masker, 40)}: {quoted(c.text, masker, 160)}"
        for c in names.history[-6:]
        if c.text
    ]
    outside = _within(outside, OUTSIDE_TOKENS)
    if outside:
        parts += [
            "",
            "The alert and the changes, as others worded them:",
            fenced("others", outside),
        ]
    parts += ["", "Look at what is still open, then call `report` once."]
    return Opening(scrub(system), scrub("\n".join(parts)), prompts, trusted)


def _within(lines: Sequence[str], tokens: int) -> list[str]:
    """The first lines that need at most so many tokens, and how many are left out."""
    for index, line in enumerate(lines):
        tokens -= most_tokens(line)
        if tokens < 0:
            return [*lines[:index], f"... {len(lines) - index} more lines"]
    return list(lines)


def _playbook(report: Report, seen: Investigation, masker: Masker) -> list[str]:
    lines = [
        f"- cause: {h.kind.value} {quoted(h.subject, masker, 60)} ({h.confidence_bp} bp sure): "
        f"{quoted(h.reason, masker, 240)}"
        for h in seen.diagnosis.hypotheses[:4]
    ]
    lines += [
        f"- not to blame: {quoted(a.change.change_id, masker, 60)} of "
        f"{quoted(a.change.service, masker, 40)}: {quoted(a.reason, masker, 160)}"
        for a in seen.diagnosis.acquitted[:4]
    ]
    causes = {h.reason for h in seen.diagnosis.hypotheses}
    lines += [
        f"- {f.agent}: {f.kind} {quoted(f.subject, masker, 60)}: {quoted(f.claim, masker, 240)}"
        for f in report.findings[:6]
        if f.claim not in causes
    ]
    lines += [
        f"- proposed already: {p.tool} on {quoted(p.target, masker, 60)} "
        f"{clean(json.dumps(dict(p.arguments), sort_keys=True), 120)}"
        for p in report.proposals
    ]
    lines += [f"- missing: {quoted(m, masker, 160)}" for m in report.missing[:4]]
    return lines or ["- nothing"]


def _evidence(name: str, record: ReadRecord, masker: Masker) -> str:
    asked = {k: v for k, v in record.arguments.items() if not k.endswith("_ms")}
    arguments = quoted(json.dumps(asked, sort_keys=True), masker, 160)
    return f"{name} {record.tool} {arguments}: {quoted(record.summary, masker, 200)}"
