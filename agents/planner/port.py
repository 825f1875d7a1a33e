"""The planner port: the playbook alone, or a model that adds to it. Either way a report comes
back.

A planner never raises for a model's sake: whatever fails, the playbook's report stands and the note
says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from loop4.agents.agent import Agent, Brief, Report
from loop4.domain import Json

PLAYBOOK = "playbook"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money. `microusd` is None when a price is unknown, never 0 for that reason.

    Counted tokens are the larger of what the endpoint reported and what the text at least needs;
    `is_doubtful` says that the report was missing or too low.
    """

    prompt_tokens: int = 0
    answer_tokens: int = 0
    microusd: int | None = 0
    is_doubtful: bool = False

    def plus(self, other: Usage) -> Usage:
        """Both together; an unknown price makes the sum unknown."""
        money = (
            None
            if self.microusd is None or other.microusd is None
            else self.microusd + other.microusd
        )
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            money,
            self.is_doubtful or other.is_doubtful,
        )

    @property
    def tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True, slots=True)
class ModelNote:
    """What a model was asked for one agent or one text: the body of a `model` evidence record.

    `rung` is how it answers (native, schema, object, parse, or playbook when none worked),
    `prompts` are names and digests, `dropped` counts what was not taken by reason, `fallback` says
    why the playbook took over (empty: it did not), `added` how many findings and proposals stand.
    """

    task: str
    model: str
    endpoint: str
    rung: str = PLAYBOOK
    turns: int = 0
    calls: int = 0
    largest_prompt: int = 0
    elapsed_ms: int = 0
    waited_ms: int = 0
    usage: Usage = Usage()
    prompts: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fallback: str = ""

    def to_json(self) -> dict[str, Json]:
        """For evidence. An unknown cost is the word `unknown`."""
        return {
            "task": self.task,
            "model": self.model,
            "endpoint": self.endpoint,
            "rung": self.rung,
            "turns": self.turns,
            "calls": self.calls,
            "largest_prompt": self.largest_prompt,
            "elapsed_ms": self.elapsed_ms,
            "waited_ms": self.waited_ms,
            "prompt_tokens": self.usage.prompt_tokens,
            "answer_tokens": self.usage.answer_tokens,
            "cost_microusd": "unknown" if self.usage.microusd is None else self.usage.microusd,
            "usage_is_doubtful": self.usage.is_doubtful,
            "prompts": dict(self.prompts),
            "added": dict(self.added),
            "dropped": dict(self.dropped),
            "notes": list(self.notes),
            "fallback": self.fallback,
        }


@dataclass(frozen=True, slots=True)
class Refined:
    """A report after the planner. `note` is None when no model was asked."""

    report: Report
    note: ModelNote | None = None


@dataclass(frozen=True, slots=True)
class ProseFacts:
    """What a text may say: the template that stands without a model, and more facts beside it.

    `required` are parts of the template that must be in the text. `names` are all names of the
    system: one of them in a text must be in the template or in `more`. `incident_id` is whose
    budget the text is written on.
    """

    template: str
    required: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    incident_id: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A text that passed the fact check, or the template."""

    text: str
    note: ModelNote | None = None


class Planner(Protocol):
    """Refines what a playbook found, and words what code knows."""

    async def refine(self, agent: Agent, brief: Brief, report: Report) -> Refined:
        """The report with what a model added that holds; the report as it is after any failure."""
        ...

    async def write(self, kind: str, facts: ProseFacts) -> Written:
        """A text of `kind` (summary, customer, postmortem); the template after any failure."""
        ...

    async def close(self) -> None:
        """Give back what is open; may be called more than once."""
        ...


class PlaybookPlanner:
    """No model: the playbook's report and the templates, as they are."""

    async def refine(self, agent: Agent, brief: Brief, report: Report) -> Refined:
        """The report as it is."""
        return Refined(report)

    async def write(self, kind: str, facts: ProseFacts) -> Written:
        """The template as it is."""
        return Written(facts.template)

    async def close(self) -> None:
        """Nothing is open."""
