"""What a model is asked when it words facts for people."""

from __future__ import annotations

from loop4.agents.planner.masking import Masker
from loop4.agents.planner.port import ProseFacts
from loop4.agents.planner.wire import Message, Request

_FORMS = {
    "summary": "two or three plain sentences for the person who takes over",
    "customer": "a short update for customers: no internal name, no cause, no promise",
    "postmortem": "three to five plain, blameless sentences for a postmortem's summary",
}


def prose_request(kind: str, facts: ProseFacts) -> Request:
    """One turn that asks for a text of `kind` from these facts, secrets masked."""
    form = _FORMS.get(kind, "a few plain sentences")
    masker = Masker()  # its placeholders never come back: a sentence that holds one is dropped
    system = (
        "You word facts for people. Use only what the facts say: no other number, name, cause, "
        "act, date or promise. Write in English, as plain sentences, without headings, lists or "
        "quotes."
    )
    lines = [f"Write {form}.", "", "Facts:", *_lines(facts, masker)]
    return Request([Message("system", system), Message("user", "\n".join(lines))])


def _lines(facts: ProseFacts, masker: Masker) -> list[str]:
    return [
        f"- {masker.mask(line)}" for line in (*facts.template.splitlines(), *facts.more) if line
    ]
