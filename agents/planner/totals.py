"""What this process has asked of its model, for metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from loop4.agents.planner.port import Usage


@dataclass(slots=True)
class Totals:
    """Sums since the start."""

    turns: int = 0
    fallbacks: int = 0
    dropped: int = 0
    usage: Usage = field(default_factory=Usage)
    unpriced: int = 0  # turns whose price is unknown

    def book(self, usage: Usage) -> None:
        """Add one turn. The money of those with a price is summed; the others are counted."""
        self.turns += 1
        self.usage = self.usage.plus(
            usage if usage.microusd is not None else Usage(usage.prompt_tokens, usage.answer_tokens)
        )
        self.unpriced += usage.microusd is None

    def exposition(self, model: str) -> str:
        """In the Prometheus text format. Without a price there is no cost sample."""
        label = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        rows = [
            ("loop4_model_turns_total", "", self.turns),
            ("loop4_model_fallbacks_total", "", self.fallbacks),
            ("loop4_model_dropped_total", "", self.dropped),
            ("loop4_model_tokens_total", ',type="prompt"', self.usage.prompt_tokens),
            ("loop4_model_tokens_total", ',type="answer"', self.usage.answer_tokens),
            ("loop4_model_unpriced_turns_total", "", self.unpriced),
        ]
        if self.usage.microusd is not None and not self.unpriced:
            rows.append(("loop4_model_cost_microusd_total", "", self.usage.microusd))
        return "".join(f'{name}{{model="{label}"{more}}} {value}\n' for name, more, value in rows)
