"""How a question was understood, in words: shown before every answer."""

from __future__ import annotations

from loop4.graphs.conversation.intents import Intent, Slots, Understood

_PLAIN = {
    Intent.HELP: "what can be asked",
    Intent.WHAT_MAY: "what I may do",
    Intent.YES: "yes",
    Intent.NO: "no",
    Intent.WHY: "why, of what was said before",
    Intent.WHO: "who, of what was said before",
    Intent.PENDING: "what is pending",
    Intent.SERVICES: "the services and their state",
    Intent.RUNBOOK: "what a runbook says",
    Intent.SEARCH: "a search in the documents",
    Intent.UNKNOWN_ACT: "may I do something that I do not know",
}
_ABOUT = {
    Intent.SINCE: "since when",
    Intent.ON_CALL: "who is on call",
    Intent.CAUSE: "the cause",
    Intent.DONE: "what was done",
    Intent.BUDGET: "error budget",
    Intent.CHANGES: "what changed",
    Intent.INCIDENTS: "the incidents",
    Intent.SERVICE: "state",
}
_ACTING = {
    Intent.MAY: "may I {act}",
    Intent.WHO_COULD: "who could allow me to {act}",
    Intent.REQUEST: "you want me to {act}",
    Intent.PAST: "past decisions to {act}",
    Intent.WHY_NOT_DONE: "why I did not {act}",
}


def phrase(meant: Understood, said: Intent) -> str:
    """E.g. "error budget of orders". `said` is AND for a follow-up that repeats the last question.

    A word that is no name is repeated as it was typed.
    """
    slots = meant.slots
    name = slots.unknown or slots.instance or slots.service
    again = " (as before)" if said is Intent.AND else ""
    by = {"keyword": " (by keyword)", "model": " (chosen by the model)"}.get(meant.by, "")
    if meant.intent in _ACTING:
        return _acting(meant.intent, slots, name) + again + by
    if meant.intent is Intent.NOTE:
        return f"a note to the running investigation: look at {name}" + by
    if meant.intent in _PLAIN:
        return _PLAIN[meant.intent] + by
    whose = slots.incident or name
    return _ABOUT[meant.intent] + (f" of {whose}" if whose else "") + again + by


def _acting(intent: Intent, slots: Slots, name: str) -> str:
    if slots.verb is None:
        return "who could allow what was asked about before"
    number = f" to {slots.number}" if slots.number is not None else ""
    return _ACTING[intent].format(act=f"{slots.verb.name} {name or 'it'}{number}")
