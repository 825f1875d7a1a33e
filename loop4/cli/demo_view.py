"""The demo's screen: the services as they are, and what the fleet sees, decides and does, as it
happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.graphs.patrol import Patrol
    from loop4.ledger.evidence import EvidenceRecord
    from loop4.tools.backends.ports import Inventory

FEED_LINES = 16
_STYLES = {"pass": "green", "fail": "bold red", "no_data": "yellow"}
_EFFECTS = {
    "allow": "green",
    "require_approval": "yellow",
    "escalate": "magenta",
    "deny": "bold red",
}


@dataclass(slots=True)
class Feed:
    """The story so far; `add` tells which lines are new."""

    began_ms: int
    seen: int = 0
    lines: list[Text] = field(default_factory=list)

    def add(self, records: Sequence[EvidenceRecord]) -> list[Text]:
        """Lines for the records that were not told yet."""
        fresh = []
        for record in records:
            if record.seq <= self.seen:
                continue
            self.seen = record.seq
            text = sentence(record)
            if text is not None:
                seconds = (record.at_ms - self.began_ms) / 1000
                fresh.append(Text(f"{seconds:6.1f} s  ", style="dim").append_text(text))
        self.lines += fresh
        return fresh

    def say(self, now_ms: int, words: str, style: str = "cyan") -> Text:
        """A line of the demo's own."""
        seconds = (now_ms - self.began_ms) / 1000
        line = Text(f"{seconds:6.1f} s  ", style="dim").append(words, style=style)
        self.lines.append(line)
        return line


def sentence(record: EvidenceRecord) -> Text | None:
    """One record of the chain in a sentence, or None for what the screen leaves out."""
    body = record.body
    match record.kind:
        case "triage":
            return Text("sees     ", style="bold").append(
                f"{body['service']}: {body['severity']}, {body['reason']}"
            )
        case "finding" if body["agent"] == "incident":
            return _finding(body)
        case "decision":
            return _decision(body)
        case "vote":
            word = "approves" if body.get("approve") else "rejects"
            who = f"{body.get('person')} ({', '.join(_words(body.get('roles')))})"
            return Text("person   ", style="bold cyan").append(f"{who} {word}")
        case "outcome":
            return Text("does     ", style="bold").append(f"{body['tool']}: {body['detail']}")
        case "verification":
            checks = ", ".join(
                f"{c['target']} {c['failing_bp']} bp"
                for c in cast("list[dict[str, Json]]", body["checks"])
            )
            return Text("proves   ", style="bold green").append(f"{body['reading']}: {checks}")
        case "severity_raised":
            return Text("sees     ", style="bold").append(f"severity rose to {body['to']}")
        case "violation" | "not_done":
            return Text("refuses  ", style="bold red").append(str(body))
        case _:
            return None


def _finding(body: dict[str, Json] | object) -> Text:
    told = cast("dict[str, Json]", body)
    text = Text("thinks   ", style="bold").append(str(told["claim"]))
    for counter in _words(told["counter_evidence"])[:2]:
        text.append(f"\n                    not: {counter}", style="dim")
    return text


def _decision(body: dict[str, Json] | object) -> Text | None:
    told = cast("dict[str, Json]", body)
    effect = str(told["effect"])
    arguments = cast("dict[str, Json]", told["arguments"])
    if "path" in arguments and effect == "allow":
        return None
    text = Text("gate     ", style="bold").append(f"{told['tool']} on {told['target']}: ")
    text.append(effect, style=_EFFECTS.get(effect, ""))
    if told["rules"]:
        text.append(f" by {', '.join(_words(told['rules'])[:3])}")
    for reason in _words(told["reasons"])[:3]:
        text.append(f"\n                    {reason}", style="dim")
    return text


def _words(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else []


def services_table(patrol: Patrol, inventory: Inventory | None) -> Table:
    """What serves, with its versions, and how each target reads."""
    table = Table(expand=True, box=None, pad_edge=False)
    for heading in (
        "service",
        "versions (traffic)",
        "replicas",
        "target",
        "10 s",
        "60 s",
        "reading",
    ):
        table.add_column(heading, no_wrap=heading != "versions (traffic)")
    for burn in patrol.burns:
        service = burn.target.service
        workload = inventory.workload(service) if inventory else None
        versions = "  ".join(
            f"{r.version} {r.weight_bp / 100:.0f}%"
            for r in (workload.revisions if workload else ())
            if r.weight_bp
        )
        up = [i.state == "ready" for i in (workload.instances if workload else ())]
        table.add_row(
            service,
            versions,
            f"{sum(up)}/{len(up)}",
            burn.target.name,
            f"{burn.ratio_bp / 100:.2f}%",
            f"{burn.long_ratio_bp / 100:.2f}%",
            Text(burn.reading.value, style=_STYLES[burn.reading.value]),
        )
    return table


def screen(
    title: str, patrol: Patrol | None, inventory: Inventory | None, feed: Feed
) -> RenderableType:
    """The whole live view."""
    parts: list[RenderableType] = []
    if patrol is not None:
        parts.append(
            Panel(services_table(patrol, inventory), title="the system", title_align="left")
        )
    shown = Group(*feed.lines[-FEED_LINES:])
    parts.append(Panel(shown, title=title, title_align="left"))
    return Group(*parts)


def console(*, headless: bool) -> Console:
    """Where the demo writes."""
    return Console(highlight=False, soft_wrap=headless)
