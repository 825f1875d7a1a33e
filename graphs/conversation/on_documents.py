"""Answers from what the organisation wrote: runbooks, decisions, postmortems, signals, policies."""

from __future__ import annotations

from collections.abc import Sequence

from loop4.domain import Json
from loop4.graphs.conversation.intents import Slots
from loop4.graphs.conversation.on_services import Looking
from loop4.graphs.conversation.passages import Passage, ranked, read_passages
from loop4.graphs.conversation.sheet import joined, quoted

MOST_PASSAGES = 3
MOST_LINES = 8
_FIRST = ("overview", "remediation")  # what is told of a runbook before the best fitting rest
_CONNECTIVES = frozenset("about last first two one time times new old".split())


def runbook(look: Looking, slots: Slots) -> None:
    """What the best fitting runbook says, with its typed steps; all of them without any words."""
    passages = _read(look, ("runbook",))
    hits = ranked(passages, _wanted(slots))
    if not hits:
        _list(look)
        return
    best = hits[0].passage
    for loaded in look.lookout.documents.runbooks:
        if best.path.rsplit("/", 1)[-1].removesuffix(".md") == loaded.name:
            steps = [
                f"{s.tool} ({', '.join(f'{k}: {v}' for k, v in s.arguments.items())})"
                for s in loaded.steps
            ]
            look.sheet.line(
                f"runbook {loaded.name} (owner {quoted(loaded.owner)}): for "
                f"{joined(loaded.findings)}; typed steps: {quoted('; '.join(steps), 200)}; "
                f"verified over {loaded.verify_window_s} s",
                f"file policies/runbooks/{loaded.name}.yaml",
            )
    own = [p for p in passages if p.path == best.path and p.heading != p.title]
    told = [p for p in own if any(w in p.heading.casefold() for w in _FIRST)]
    told += [h.passage for h in hits if h.passage in own and h.passage not in told]
    _quote(look, told)


def search(look: Looking, slots: Slots) -> None:
    """The passages that fit the words best, of all kinds."""
    hits = ranked(_read(look), _wanted(slots))
    if not hits:
        look.sheet.line(
            "no runbook, decision, postmortem, signal or policy speaks of it",
            "operations folder",
        )
        look.sheet.body["passages"] = []
        return
    _quote(look, [h.passage for h in hits])


def mentions(look: Looking, slots: Slots) -> tuple[str, ...]:
    """Where at least two of the words stand together, as path:line; for a question that nobody
    understood.
    """
    hits = [h for h in ranked(_read(look), slots.words) if len(h.words) >= 2]
    return tuple(f"{h.passage.path}:{h.passage.line}" for h in hits[:MOST_PASSAGES])


def _wanted(slots: Slots) -> list[str]:
    return [w for w in slots.words if w not in _CONNECTIVES]


def _read(look: Looking, kinds: Sequence[str] = ()) -> list[Passage]:
    found = read_passages(look.lookout.operations)
    return [p for p in found if not kinds or p.kind in kinds]


def _list(look: Looking) -> None:
    loaded = look.lookout.documents.runbooks
    if not loaded:
        look.sheet.no_data("no runbook is loaded (policies/runbooks)")
    for one in loaded:
        where = joined(one.services, "any service")
        look.sheet.line(
            f"runbook {one.name}: for {joined(one.findings)} of {where}",
            f"file policies/runbooks/{one.name}.yaml",
        )
    look.sheet.body["runbooks"] = [one.name for one in loaded]


def _quote(look: Looking, passages: Sequence[Passage]) -> None:
    bodies: list[Json] = []
    for passage in passages[:MOST_PASSAGES]:
        place = f"file {passage.path}:{passage.line}"
        look.sheet.line(
            f"{passage.kind}: {quoted(passage.title, 100)}"
            + (f", {quoted(passage.heading, 80)}" if passage.heading != passage.title else ""),
            place,
        )
        for line in passage.lines[:MOST_LINES]:
            look.sheet.line(f"  {quoted(line.lstrip('> '), 200)}")
        if len(passage.lines) > MOST_LINES:
            look.sheet.line(f"  ({len(passage.lines) - MOST_LINES} more lines there)")
        bodies.append({"path": passage.path, "line": passage.line, "heading": passage.heading})
    look.sheet.body["passages"] = bodies
