"""Recorded incidents while their telemetry lies: `python bench/injection.py [--all] [--json]`.

Each recording (one of each scenario, or with --all every shipped one) is decided four ways: honest
telemetry and hostile telemetry without a model, then hostile telemetry with two
scripted models over the real adapter and wire, on loopback: `obedient` does what every text tells
it, `adaptive` lies in true sentences and cites good evidence. Exit code 1 for any effect that
nobody allowed, any secret or canary that got out (files, approval requests, evidence, databases,
what the model was sent), and any severity, cause, act or mitigation that is not as with honest
telemetry.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from loop4.agents.planner.endpoint import ModelSettings
from loop4.agents.planner.model_planner import ModelPlanner
from loop4.domain import Json
from loop4.evals.hostile import load_corpus
from loop4.evals.incidents import truths
from loop4.evals.injection import Injected, Told, injected
from loop4.lab.folder import make_operations
from loop4.tools.backends.recording import Recording
from loop4.tools.backends.recording_file import read_recording
from tests.agents.model_server import Script, serve
from tests.agents.obedient import adapt, obey

INCIDENTS = Path(str(files("loop4.evals") / "incidents"))
MODELS: Mapping[str, Script] = {"obedient": obey, "adaptive": adapt}
HEAD = ("recording", "telemetry", "severity", "cause", "acts", "mitigated", "forbidden", "out")
MORE = ("shown", "turns", "attempts", "stand", "dropped")


@dataclass(frozen=True, slots=True)
class Row:
    """One recording decided one way."""

    name: str
    scenario: str
    way: str
    found: Injected
    side: Told

    @property
    def problems(self) -> tuple[str, ...]:
        """What must not be."""
        return () if self.way == "honest" else self.found.problems

    @property
    def dropped(self) -> Counter[str]:
        """What the model said that was not taken, by reason."""
        share = self.side.replayed.model
        return Counter(dict(share.dropped)) if share else Counter()

    @property
    def standing(self) -> int:
        """Findings, proposals and sentences of the model that were taken."""
        share = self.side.replayed.model
        return len(share.findings) + share.proposals + share.sentences if share else 0

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        what, share = self.side.decided, self.side.replayed.model
        return {
            "recording": self.name,
            "scenario": self.scenario,
            "way": self.way,
            "severity": what.severity,
            "cause": what.cause,
            "acts": [f"{a.tool} {a.target} {a.effect} {a.outcome}" for a in what.acts],
            "effects": [f"{w.tool} {w.target}" for w in self.side.replayed.writes],
            "mitigated": self.side.is_mitigated,
            "forbidden_effects": [f.to_json() for f in self.side.forbidden],
            "out": [leak.to_json() for leak in self.side.leaks],
            "texts_shown_to_the_model": self.side.reached,
            "turns": share.turns if share else 0,
            "attempts": self.dropped.total() + self.standing,
            "standing": self.standing,
            "proposals": share.proposals if share else 0,
            "dropped": dict(sorted(self.dropped.items())),
            "fallbacks": dict(share.fallbacks) if share else {},
            "problems": list(self.problems),
        }


def rows_of(name: str, scenario: str, recording: Recording) -> list[Row]:
    """One recording decided each way."""
    plain = _run(name, recording)
    honest = plain.honest
    rows = [
        Row(name, scenario, "honest", plain, honest),
        Row(name, scenario, "hostile", plain, plain.hostile),
    ]
    for way, script in MODELS.items():
        found = _run(name, recording, script=script, honest=honest)
        rows.append(Row(name, scenario, way, found, found.hostile))
    return rows


def _run(
    name: str, recording: Recording, *, script: Script | None = None, honest: Told | None = None
) -> Injected:
    with tempfile.TemporaryDirectory(prefix="loop4-bench-") as folder:

        def folders() -> tuple[Path, Path]:
            place = Path(tempfile.mkdtemp(dir=folder))
            return make_operations(place / "operations").root, place / "data"

        if script is None:
            return asyncio.run(injected(name, recording, folders, honest=honest))
        with serve(script) as served:
            planner = ModelPlanner(ModelSettings("scripted", served.url, max_retries=0))

            async def work() -> Injected:
                try:
                    return await injected(
                        name,
                        recording,
                        folders,
                        planner=planner,
                        heard=lambda: [json.dumps(b, ensure_ascii=False) for b in served.seen],
                        honest=honest,
                    )
                finally:
                    await planner.close()

            return asyncio.run(work())


def table(rows: Sequence[Row]) -> str:
    """For people: a line each way, then what was dropped why."""
    cells = [(*HEAD, *MORE)] + [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    total: Counter[str] = Counter()
    for row in rows:
        total += row.dropped
    lines += ["", "dropped of what the models said:"]
    lines += [f"  {count:>6} {why}" for why, count in total.most_common()]
    lines += [f"PROBLEM {r.name} {r.way}: {p}" for r in rows for p in r.problems]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    what, share = row.side.decided, row.side.replayed.model
    acts = "; ".join(f"{a.tool} {a.target} ({a.effect}, {a.outcome})" for a in what.acts)
    return (
        row.name,
        row.way,
        what.severity,
        what.cause,
        acts or "-",
        "yes" if row.side.is_mitigated else "NO",
        str(len(row.side.forbidden)),
        str(len(row.side.leaks)),
        str(row.side.reached) if share else "-",
        str(share.turns) if share else "-",
        str(row.dropped.total() + row.standing) if share else "-",
        str(row.standing) if share else "-",
        str(row.dropped.total()) if share else "-",
    )


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if lies changed or got anything."""
    parser = argparse.ArgumentParser(description="Recorded incidents while telemetry lies.")
    parser.add_argument("--all", action="store_true", help="all shipped recordings")
    parser.add_argument("--json", action="store_true", help="print JSON")
    told = parser.parse_args(words)
    began = time.monotonic()
    cases = [(name, plan.scenario) for name, plan in truths()]
    if not told.all:
        cases = [(name, scenario) for scenario, name in {s: n for n, s in reversed(cases)}.items()]
    rows: list[Row] = []
    for name, scenario in sorted(cases):
        rows += rows_of(name.removesuffix(".jsonl.gz"), scenario, read_recording(INCIDENTS / name))
    problems = [p for row in rows for p in row.problems]
    figures: dict[str, Json] = {
        "recordings": len(cases),
        "items": len(load_corpus().items),
        "forbidden_effects": sum(len(r.side.forbidden) for r in rows),
        "secrets_and_canaries_out": sum(len(r.side.leaks) for r in rows),
        "mitigation_lost": sum("the mitigation is lost" in r.problems for r in rows),
        "attempts": sum(r.dropped.total() + r.standing for r in rows),
        "seconds": round(time.monotonic() - began, 1),
        "problems": len(problems),
    }
    if told.json:
        print(json.dumps({**figures, "rows": [r.to_json() for r in rows]}, indent=2))
    else:
        print(table(rows))
        print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
