"""Signals: one immutable file each, in the organisation's grammar, with no disposition ticked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loop4.domain import Signal, SignalType
from loop4.errors import InputError
from loop4.tools.templates import Section, arrange
from loop4.tools.work_items import ExternalText, Rendered, date_of, external, safe

CATEGORIES = {
    SignalType.RELIABILITY: "technical",
    SignalType.PERFORMANCE: "technical",
    SignalType.CAPACITY: "technical",
    SignalType.ADOPTION: "customer",
    SignalType.CUSTOMER: "customer",
    SignalType.COST: "financial",
}
URGENCIES = ("immediate", "next-cycle", "monitor")
LEVELS = ("high", "medium", "low")

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def render_signal(
    signal: Signal,
    *,
    at_ms: int,
    author: str = "Loop4 signal agent",
    source_system: str = "Loop4",
    alignment: str = "",
    related: Sequence[str] = (),
    supersedes: str = "",
    notes: Sequence[str] = (),
    quotes: Sequence[ExternalText] = (),
    template: str = "",
) -> Rendered:
    """The file of a signal. `related` and `supersedes` are ids (file stems) of other signals.

    The disposition stays open on purpose: choosing it is a product decision. Raises InputError for
    a slug or a word outside the grammar.
    """
    if not _SLUG.fullmatch(signal.slug):
        raise InputError(f"signal slug {signal.slug!r}: expected words like 'orders-errors'")
    _one_of("urgency", signal.urgency, URGENCIES)
    _one_of("impact", signal.impact, LEVELS)
    _one_of("confidence", signal.confidence, LEVELS)
    day = date_of(at_ms)
    kind = signal.signal_type.value.capitalize()
    title = safe(signal.title, 120)
    if not title.lower().startswith(signal.signal_type.value):
        title = f"{kind}: {title}"
    head = [
        f"# Signal: {title}",
        "",
        f"> **Created:** {day}  ",
        "> **Revision:** 1  ",
        f"> **Last updated:** {day}  ",
        f"> **Author:** {safe(author, 80)}" + ("  " if supersedes else ""),
        *([f"> **Supersedes:** {safe(supersedes, 120)}"] if supersedes else []),
        "",
        "---",
    ]
    sections = (
        Section(
            "Source",
            [
                f"- **Category:** {CATEGORIES[signal.signal_type]}",
                f"- **Source system:** {safe(source_system, 80)}",
                f"- **Source URL/reference:** {safe(signal.reference, 200)}",
                f"- **Confidence:** {signal.confidence}",
            ],
        ),
        Section("Observation", [safe(signal.observation, 2000), *_quotes(quotes)]),
        Section(
            "Initial Assessment",
            [
                f"- **Urgency:** {signal.urgency}",
                f"- **Strategic alignment:** {safe(alignment or 'for triage to decide', 200)}",
                f"- **Potential impact:** {signal.impact}",
                f"- **Affected divisions:** {safe(', '.join(signal.affected), 200)}",
            ],
        ),
        Section(
            "Related Signals", [f"- {safe(name, 120)}" for name in related] or ["- None known"]
        ),
        Section(
            "Supersession", [f"Supersedes {safe(supersedes, 120)}." if supersedes else "None."]
        ),
        Section(
            "Recommended Disposition",
            [
                "- [ ] Proceed to opportunity validation",
                "- [ ] Defer to next planning cycle",
                "- [ ] Monitor (follow-up date to be set)",
                "- [ ] Archive (not actionable)",
            ],
        ),
        Section(
            "Notes",
            [
                "Filed by the fleet, which chooses no disposition: that is a decision of people.",
                *(f"- {safe(note)}" for note in notes),
            ],
        ),
    )
    text = "\n".join([*head, "", *arrange(sections, template)])
    return Rendered(f"work/signals/{day}-{signal.slug}.md", text)


def _quotes(quotes: Sequence[ExternalText]) -> list[str]:
    return [line for quote in quotes for line in ("", external(quote))]


def _one_of(what: str, word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise InputError(f"signal {what} {word!r}: expected one of {', '.join(words)}")
