"""The planner's words in what a plan will write: one section each of the context package, the
customer draft and the postmortem.

Notices are rendered from facts first; that text stands unless the planner has one that passes the
fact check against it. Pages stay as they are: they are read half asleep, and must not wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from loop4.agents.planner.port import ModelNote, PlaybookPlanner, ProseFacts, Written
from loop4.graphs.ask_agents import draft_model_note
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.graphs.steps import Item, Step, put_steps, read_steps
from loop4.tools.work_items import safe

LONGEST = 1_500
_MUST = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|\d+(?:\.\d+)? (?:%|bp)(?!\w)")


@dataclass(frozen=True, slots=True)
class Form:
    """Which section of which file a planner may word. `is_internal`: the rest of the file may be
    quoted too.
    """

    kind: str
    heading: re.Pattern[str]
    is_internal: bool


FORMS: Mapping[str, Form] = {
    "incidents.write_context": Form("summary", re.compile(r"^## What$", re.M), True),
    "incidents.draft_customer_update": Form("customer", re.compile(r"^## Message$", re.M), False),
    "incidents.write_postmortem": Form(
        "postmortem", re.compile(r"^## [^\n]*Summary[^\n]*$", re.M), True
    ),
}


async def worded(fleet: Fleet, state: RunState, planned: RunState) -> RunState:
    """The same plan, with the planner's words where they hold. Without a model nothing changes."""
    plan = planned.get("plan", "")
    if not plan or isinstance(fleet.planner, PlaybookPlanner):
        return planned
    steps = read_steps(fleet, plan)
    made = await asyncio.gather(
        *(_worded(fleet, state, item) for step in steps for item in step.items)
    )
    rest = iter(made)
    reworded = [Step(step.kind, tuple(next(rest) for _ in step.items)) for step in steps]
    return {**planned, "plan": put_steps(fleet, reworded)}


async def _worded(fleet: Fleet, state: RunState, item: Item) -> Item:
    form, text = FORMS.get(item.tool), item.arguments.get("text")
    if form is None or not isinstance(text, str):
        return item
    place = section(text, form.heading)
    if place is None:
        return item
    start, end = place
    template = " ".join(text[start:end].split())
    facts = ProseFacts(
        template,
        required=tuple(dict.fromkeys(_MUST.findall(template))),
        more=tuple(_lines(text)) if form.is_internal else (),
        names=frozenset((*fleet.catalogue.names(), *fleet.catalogue.externals)),
        incident_id=state["incident_id"],
    )
    written = await _write(fleet, form.kind, facts)
    if written.note is not None:
        draft_model_note(fleet, state, written.note)
    if written.text == template:
        return item
    said = safe(written.text, LONGEST)
    return replace(item, arguments={**item.arguments, "text": text[:start] + said + text[end:]})


async def _write(fleet: Fleet, kind: str, facts: ProseFacts) -> Written:
    """What the planner wrote; the template after whatever a planner does wrong."""
    try:
        return await fleet.planner.write(kind, facts)
    except Exception as error:  # its text may hold what a model said
        note = ModelNote(f"write {kind}", "", "", fallback=f"raised {type(error).__name__}")
        return Written(facts.template, note)


def section(text: str, heading: re.Pattern[str]) -> tuple[int, int] | None:
    """Where the section's own words begin and end: up to quoted text from outside, or the next
    heading.
    """
    found = heading.search(text)
    if found is None:
        return None
    start = found.end()
    while start < len(text) and text[start] == "\n":
        start += 1
    ends = [
        e for e in (text.find("\n#", start), text.find("\n\n<external-content>", start)) if e > 0
    ]
    end = min(ends, default=len(text))
    while end > start and text[end - 1] == "\n":
        end -= 1
    return (start, end) if end > start else None


def _lines(text: str) -> list[str]:
    """The file's own lines as facts; quoted text from outside is none."""
    own = re.sub(r"<external-content>.*?</external-content>", "", text, flags=re.S)
    return [line.strip() for line in own.splitlines() if line.strip()][:60]
