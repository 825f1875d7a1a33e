"""/metrics: what an operator must know of the fleet itself, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loop4.domain import IntentState, Json
from loop4.ledger import approvals, evidence, incidents, intents, runs
from loop4.service import Service

USAGE = ("turns", "prompt_tokens", "answer_tokens", "cost_microusd")
Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Exposition:
    """Counts decisions and model turns as they are appended; asks for the rest at each scrape."""

    service: Service
    _seen: int = 0
    _decisions: Counter[Labels] = field(default_factory=Counter)
    _model: Counter[Labels] = field(default_factory=Counter)

    async def render(self) -> str:
        """The whole page."""
        now_ms = self.service.session.fleet.clock.now_ms()
        lines: list[str] = []
        await self._queues(lines, now_ms)
        self._ledger(lines)
        beat_ms = self.service.heartbeat.last_ms
        age = [((), (now_ms - beat_ms) / 1000)] if beat_ms else []
        _gauge(lines, "loop4_heartbeat_age_seconds", "Seconds since the last heartbeat.", age)
        return "\n".join(lines) + "\n"

    async def _queues(self, lines: list[str], now_ms: int) -> None:
        depth: Counter[Labels] = Counter(
            {(("queue", q.name),): 0 for q in self.service.schedule.queues}
        )
        oldest: dict[Labels, float] = {}
        if self.service.engine is not None:
            for work in await self.service.engine.list_open():
                labels = (("queue", work.queue),)
                if work.state == "ENQUEUED":
                    depth[labels] += 1
                    age = (now_ms - work.due_ms) / 1000
                    oldest[labels] = max(oldest.get(labels, 0.0), age)
        _gauge(lines, "loop4_queue_depth", "Pieces of work that wait.", list(depth.items()))
        ages = [(labels, oldest.get(labels, 0.0)) for labels in depth]
        _gauge(lines, "loop4_queue_oldest_seconds", "Age of the oldest that waits.", ages)

    def _ledger(self, lines: list[str]) -> None:
        with self.service.session.ledger.read() as tx:
            waiting = len(approvals.pending(tx))
            unknown = intents.count(tx, IntentState.UNKNOWN)
            states: Counter[Labels] = Counter((("state", i.state),) for i in incidents.list_all(tx))
            live: Counter[Labels] = Counter((("state", r.state.value),) for r in runs.list_open(tx))
            fresh = evidence.list_after(tx, self._seen, kinds=("decision", "model"))
        for record in fresh:
            self._seen = record.seq
            self._count(record.kind, record.body)
        _gauge(lines, "loop4_approvals_waiting", "Requests that wait for a vote.", [((), waiting)])
        _gauge(
            lines,
            "loop4_intents_unknown",
            "Acts nobody can tell done or not.",
            [((), unknown)],
        )
        _gauge(lines, "loop4_incidents", "Incidents by state.", list(states.items()))
        _gauge(lines, "loop4_runs_live", "Runs that have not ended, by state.", list(live.items()))
        _counter(
            lines,
            "loop4_decisions_total",
            "Decisions of the gate by effect and rule.",
            list(self._decisions.items()),
        )
        _counter(
            lines,
            "loop4_model_usage_total",
            "What models took: tasks, turns, prompt and answer tokens, millionths of a dollar.",
            list(self._model.items()),
        )

    def _count(self, kind: str, body: Mapping[str, Json]) -> None:
        if kind == "decision":
            rules = body.get("rules")
            rule = str(rules[0]) if isinstance(rules, list | tuple) and rules else "none"
            self._decisions[(("effect", str(body.get("effect", ""))), ("rule", rule))] += 1
            return
        labels = ("model", str(body.get("model", "")))
        self._model[(labels, ("of", "tasks"))] += 1
        for name in USAGE:
            value = body.get(name)
            if isinstance(value, int):
                self._model[(labels, ("of", name))] += value


def _gauge(lines: list[str], name: str, told: str, samples: Sequence[tuple[Labels, float]]) -> None:
    _family(lines, name, told, "gauge", samples)


def _counter(
    lines: list[str], name: str, told: str, samples: Sequence[tuple[Labels, float]]
) -> None:
    _family(lines, name, told, "counter", samples)


def _family(
    lines: list[str], name: str, told: str, kind: str, samples: Sequence[tuple[Labels, float]]
) -> None:
    lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
    for labels, value in sorted(samples):
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
