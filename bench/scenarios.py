"""All scenarios of the lab, live: right severity, cause, act and effect, and the times from the
lab's own logs.

    python bench/scenarios.py [--scenarios a,b] [--seeds 1,2,3,4,5] [--record DIR] [--json]

Each run starts a fresh lab, waits 15 s of healthy load, injects by seed and lets the fleet work; a
scripted on-call approves 2 s after each request (left out of `verified_s`). `detected_s` is the
fleet's first event, `mitigated_s` the end of the customers' failures by the router's log, both
after the injector's own onset. With `--record` the raw world of each run is kept, for replays.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from loop4.domain import Json
from loop4.evals.incidents import decided_live, problems
from loop4.lab.recorder import record
from loop4.lab.results import Result
from loop4.lab.scenarios import SCENARIOS, draw


def main() -> int:
    """Run the table; 0 when every cell is right."""
    parser = argparse.ArgumentParser(description="all scenarios of the lab, live")
    parser.add_argument("--scenarios", default=",".join(s.name for s in SCENARIOS))
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for scenario in given.scenarios.split(","):
        for seed in (int(s) for s in given.seeds.split(",")):
            rows.append(_run(scenario, seed, given.record))
            if not given.json:
                print(_line(rows[-1]), flush=True)
    if given.json:
        print(json.dumps(rows, indent=2))
    else:
        right = sum(not row["problems"] for row in rows)
        print(f"{right} of {len(rows)} right")
    return 0 if all(not row["problems"] for row in rows) else 1


def _run(scenario: str, seed: int, keep: Path | None) -> dict[str, Json]:
    plan = draw(scenario, seed)
    with tempfile.TemporaryDirectory(prefix="loop4-bench-") as folder:
        name = f"{scenario}-{seed}.jsonl.gz"
        target = (keep if keep is not None else Path(folder)) / name
        began = time.monotonic()
        result = asyncio.run(record(scenario, seed, target, Path(folder) / "play"))
        whole_s = time.monotonic() - began
        size = target.stat().st_size
    return {
        **_figures(result),
        "problems": list(problems(plan, decided_live(result))),
        "recording_bytes": size,
        "whole_s": round(whole_s, 1),
    }


def _figures(result: Result) -> dict[str, Json]:
    body = result.to_json()
    return {k: v for k, v in body.items() if k != "denied"} | {"denied": len(result.denied)}


def _line(row: dict[str, Json]) -> str:
    acts = row["actions"] if isinstance(row["actions"], list) else []
    told = "; ".join(f"{a['tool']} {a['target']} {a['effect']}" for a in acts) or "-"
    times = " / ".join(_s(row[k]) for k in ("detected_s", "mitigated_s", "verified_s"))
    word = "ok" if not row["problems"] else f"WRONG {row['problems']}"
    return (
        f"{row['scenario']:<18}{row['seed']:>2}  {row['severity']:<5}{row['cause']:<30}"
        f"{told:<52}{times:<22}{word}"
    )


def _s(value: Json) -> str:
    return "-" if value is None else f"{value}"


if __name__ == "__main__":
    sys.exit(main())
