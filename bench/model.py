"""What a model costs beside its own time: `python bench/model.py --json`.

One shipped recording of each scenario is decided without a model, and with one that is scripted and
answers at once, over the real wire from a process of its own: what the second run takes longer is
ours (prompts, client, checks, evidence, and the scripted server's own few milliseconds). A
`typical` model reads twice and reports, a `greedy` one reads as long as it may. Tokens are the
upper estimate that the budgets use, since the server reports no usage: a common tokenizer makes
fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from loop4.agents.planner.endpoint import ModelSettings
from loop4.agents.planner.fact_check import FactCheck, split
from loop4.agents.planner.model_planner import ModelPlanner
from loop4.agents.planner.port import ProseFacts
from loop4.domain import Json
from loop4.evals.incidents import truths
from loop4.evals.replay import Replay, replay
from loop4.lab.folder import make_operations
from loop4.tools.backends.recording import Recording
from loop4.tools.backends.recording_file import read_recording
from tests.agents.model_server import Body, Say, natively, serve, text_of, tools_of

INCIDENTS = Path(str(files("loop4.evals") / "incidents"))
READS = {"typical": 2, "greedy": 99}
MOST_PROMPT_TOKENS, MOST_OVERHEAD_MS, MOST_SENTENCE_MS = 6_000, 20.0, 100.0


def scripted(body: Body) -> Say:
    """Look as often as this model does, then report; word facts with the facts."""
    tools = tools_of(body)
    if not tools:
        own = [line[2:] for line in text_of(body).splitlines() if line.startswith("- ")]
        return Say(f"{own[0]}. The moon fails 12 requests.", usage=None)
    looked = sum(m["role"] == "tool" for m in body["messages"])
    if looked >= READS[str(body["model"])] or tools == ["report"]:
        finding = {
            "evidence": ["E1"],
            "kind": "observation",
            "subject": "gateway",
            "claim": "The requests of gateway fail.",
            "confidence": 50,
        }
        return Say(calls=(("report", {"findings": [finding]}),), usage=None)
    back = 30 + 10 * looked
    looks = (
        ("traces_spans", {"seconds_back": back, "errors_only": "no"}),
        (
            "logs_records",
            {"service": "gateway", "seconds_back": back},
        ),
    )
    return Say(calls=(looks[looked % 2],), usage=None)


@contextmanager
def server() -> Iterator[str]:
    """The scripted server in a process of its own; its base URL."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()  # it serves until its input ends


@dataclass(frozen=True, slots=True)
class Run:
    """One incident decided once."""

    replayed: Replay
    seconds: float

    @property
    def turns(self) -> int:
        """How often the model was asked."""
        return self.replayed.model.turns if self.replayed.model else 0


def run_once(recording: Recording, planner: ModelPlanner | None) -> Run:
    """Decide one recording in new folders."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        operations = make_operations(root / "operations").root
        began = time.perf_counter()
        replayed = asyncio.run(
            replay(recording, operations=operations, data=root / "data", planner=planner)
        )
        return Run(replayed, time.perf_counter() - began)


def sentence_ms() -> float:
    """The longest that one sentence is checked, against facts as long as a postmortem."""
    lines = [f"payments {n}.84.0 fails {n} bp of its requests over {n} s." for n in range(120)]
    check = FactCheck(ProseFacts("\n".join(lines), names=frozenset({"payments", "orders"})))
    longest = 0.0
    for sentence in split("\n".join(lines)):
        began = time.perf_counter()
        check.fault(sentence)
        longest = max(longest, time.perf_counter() - began)
    return longest * 1000


def measure(rounds: int) -> dict[str, Json]:
    """All figures. The first round only warms up."""
    one_each = {plan.scenario: name for name, plan in truths()}
    recordings = {name: read_recording(INCIDENTS / name) for name in one_each.values()}
    overheads: list[float] = []
    tokens: dict[str, int] = {}
    largest = turns = 0
    fallbacks: list[str] = []
    with server() as url:
        for index in range(rounds + 1):
            for name, recording in recordings.items():
                bare = run_once(recording, None)
                aided = run_once(recording, planner_at(url, "typical"))
                share = aided.replayed.model
                if index == 0 or share is None or not aided.turns:
                    continue
                overheads.append(1000 * (aided.seconds - bare.seconds) / aided.turns)
                tokens[name] = share.tokens
                turns = max(turns, aided.turns)
                fallbacks += [re.sub(r"\d+", "N", why) for why, _ in share.fallbacks]
        for recording in recordings.values():
            share = run_once(recording, planner_at(url, "greedy")).replayed.model
            largest = max(largest, share.largest_prompt if share else 0)
    return {
        "max_prompt_tokens": largest,
        "tokens_per_incident": max(tokens.values(), default=0),
        "overhead_ms_per_turn": round(median(overheads), 2) if overheads else None,
        "sentence_check_ms": round(sentence_ms(), 3),
        "tokens": dict(tokens),
        "turns_per_incident": turns,
        "rounds": rounds,
        "fallbacks": sorted(set(fallbacks)),
    }


def planner_at(url: str, model: str) -> ModelPlanner:
    """A new planner: its budgets are per incident."""
    return ModelPlanner(ModelSettings(model, url, max_retries=0))


def problems(figures: dict[str, Json]) -> list[str]:
    """What is over its limit."""
    limits = {
        "max_prompt_tokens": MOST_PROMPT_TOKENS,
        "overhead_ms_per_turn": MOST_OVERHEAD_MS,
        "sentence_check_ms": MOST_SENTENCE_MS,
    }
    found = []
    for name, limit in limits.items():
        value = figures[name]
        if not isinstance(value, int | float) or value >= limit:
            found.append(f"{name} is {value}, the limit is {limit}")
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Print the figures; exit code 1 if one is over its limit."""
    parser = argparse.ArgumentParser(description="Measure our own cost of a model turn.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args(words)
    if told.serve:
        with serve(natively(scripted)) as served:
            print(served.url, flush=True)
            sys.stdin.read()
        return 0
    figures = measure(told.rounds)
    over = problems(figures)
    if told.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    for line in over:
        print(line, file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
