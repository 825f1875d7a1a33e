"""How long proofs take, and how fast past decisions are judged again.

    python bench/prove.py --json

All shipped invariants are proved over the shipped rules, and over those and rules of single
services up to 1,000, through the real loader. Building the terms and proving are timed apart
(the best of several runs); a proof that does not come out
"proved" fails the benchmark. Loading YAML is told beside them and is no part of either.

The replay judges recorded decisions under the shipped rules. `replay_per_s` is from decoded records
in memory to the list of changes; `replay_ledger_per_s` from the database file, with reading and
decoding every record: that is what a person waits for. `*_cpu_*` is the processor's time, which
the targets are held against: on a machine that others use too, the wall clock shows them as well.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the contexts of the gate's own benchmark

from bench.gate import acting, random_context  # noqa: E402
from loop4.domain import Json, ToolClass  # noqa: E402
from loop4.graphs.gate import Judged, decision_body  # noqa: E402
from loop4.graphs.steps import Item  # noqa: E402
from loop4.ledger import evidence  # noqa: E402
from loop4.ledger.decisions import recorded_decisions  # noqa: E402
from loop4.ledger.ledger import Ledger  # noqa: E402
from loop4.policies.cases import NOW_MS  # noqa: E402
from loop4.policies.gate import judge  # noqa: E402
from loop4.policies.invariants import load_invariants  # noqa: E402
from loop4.policies.load import SHIPPED, load_policy, rules_folder  # noqa: E402
from loop4.policies.policy import Policy  # noqa: E402
from loop4.policies.proof import Status  # noqa: E402
from loop4.policies.prove import Prover  # noqa: E402
from loop4.policies.replay import PastDecision, PolicyReplay, past_decision  # noqa: E402
from loop4.tools.facts.sources import Candidate  # noqa: E402

BATCHES = 5


def time_proofs(folder: Path | None, repeats: int) -> dict[str, float]:
    """Milliseconds to load, build and prove; raises SystemExit if a proof fails."""
    started = time.perf_counter()
    policy = load_policy(folder)
    invariants = load_invariants(policy, rules_folder(folder))
    load_ms = _ms_since(started)
    builds, proofs, slowest, cpu = [], [], [], []
    for _ in range(repeats):
        started, started_cpu = time.perf_counter(), time.process_time()
        prover = Prover(policy)
        builds.append(_ms_since(started))
        started = time.perf_counter()
        results = [prover.prove(invariant) for invariant in invariants]
        proofs.append(_ms_since(started))
        cpu.append((time.process_time() - started_cpu) * 1000)
        slowest.append(max(result.ms for result in results))
        for result in results:
            if result.status is not Status.PROVED:
                raise SystemExit(f"bench: {result.name} is {result.status}: {result.detail}")
    return {
        "rules": len(policy.rules),
        "invariants": len(invariants),
        "load_ms": round(load_ms, 1),
        "build_ms": round(min(builds), 1),
        "prove_ms": round(min(proofs), 1),
        "slowest_ms": round(min(slowest), 1),
        "build_and_prove_cpu_ms": round(min(cpu), 1),
    }


def many_rules(count: int, folder: Path) -> Path:
    """The shipped rules, and rules of single services up to `count` in all."""
    shutil.copytree(SHIPPED / "rules", folder)
    draw = random.Random(count)  # noqa: S311  (a reproducible rule set, not a secret)
    missing = count - len(load_policy().rules)
    rules: list[Json] = [_service_rule(index, draw) for index in range(missing)]
    document = {
        "apiVersion": "loop4/v1",
        "kind": "ActionPolicy",
        "metadata": {"name": "services"},
        "spec": {"rules": rules},
    }
    (folder / "services.yaml").write_text(json.dumps(document), encoding="utf-8")
    return folder


def recorded_bodies(policy: Policy, count: int) -> Iterator[dict[str, Json]]:
    """Bodies of decision records as the graph writes them: writes and notices, random facts."""
    draw = random.Random(3)  # noqa: S311
    tools = sorted(n for n, tool in policy.tools.items() if tool.tool_class is not ToolClass.READ)
    for index in range(count):
        context = random_context(policy, tools[index % len(tools)], draw)
        action, facts = context.action, dict(context.facts)
        verdict = judge(action, facts, policy, (), NOW_MS)
        item = Item(action.agent, action.tool, action.target, action.service, {}, "bench")
        yield decision_body(Judged(item, Candidate(action), facts, verdict, "0" * 64))


def time_replay(decisions: int, folder: Path) -> dict[str, float]:
    """Decisions a second: from memory, and from a ledger's file."""
    policy = acting(load_policy())
    bodies = list(recorded_bodies(policy, decisions))
    past = [_past(seq, body) for seq, body in enumerate(bodies, 1)]
    fewer = load_policy()
    timed = [_timed(fewer, past) for _ in range(BATCHES)]
    best, best_cpu = min(wall for wall, _ in timed), min(cpu for _, cpu in timed)
    folder.mkdir()
    with Ledger.open(folder / "ledger.db") as ledger:
        with ledger.transaction() as tx:
            for body in bodies:
                evidence.append(tx, "decision", "", "", body, at_ms=NOW_MS)
        started = time.perf_counter()
        with ledger.read() as tx:
            found = PolicyReplay(fewer).run(
                _past(record.seq, record.body) for record in recorded_decisions(tx)
            )
        seconds = time.perf_counter() - started
    if found.judged != decisions or found.turned:
        raise SystemExit(f"bench: {len(found.turned)} of {found.judged} decisions turned out else")
    return {
        "replay_decisions": decisions,
        "replay_per_s": round(decisions / best),
        "replay_per_cpu_s": round(decisions / best_cpu),
        "replay_ledger_per_s": round(decisions / seconds),
    }


def run(decisions: int) -> dict[str, float]:
    """All figures of this benchmark."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = time_proofs(None, BATCHES)
        many = time_proofs(many_rules(1000, folder / "rules"), 3)
        for suffix, found in (("shipped", shipped), ("1000", many)):
            for key, value in found.items():
                stem, _, unit = key.partition("_ms")
                figures[f"{stem}_{suffix}" + ("_ms" if key.endswith("_ms") else unit)] = value
        figures |= time_replay(decisions, folder / "data")
    return figures


def main() -> int:
    """Print the figures; exit 1 if one misses its target."""
    parser = argparse.ArgumentParser(description="Time proofs and the replay of past decisions.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--decisions", type=int, default=20_000, help="past decisions to judge")
    arguments = parser.parse_args()
    figures = run(arguments.decisions)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<34}{value:>12}")
    met = (
        figures["build_and_prove_cpu_shipped_ms"] < 100
        and figures["build_and_prove_cpu_1000_ms"] < 1000
        and figures["replay_per_cpu_s"] > 100_000
    )
    return 0 if met else 1


def _service_rule(index: int, draw: random.Random) -> dict[str, Json]:
    """A limit or a leave of one service, as organisations have them."""
    service = f"service-{index // 4:03}"
    share, sources = draw.randrange(100, 2500), draw.randrange(2, 5)
    kinds: Sequence[dict[str, Json]] = (
        {
            "match": {"class": "write", "service": service},
            "when": f"facts.traffic_share_bp > {share}",
            "effect": "require_approval",
            "approval": {"role": "service-owner", "need": 1, "ttl_s": 900},
        },
        {
            "match": {"tools": ["workloads.restart"], "service": service},
            "when": f"facts.restarts_1h > {draw.randrange(3)} && facts.tier == 1",
            "effect": "deny",
        },
        {
            "match": {"tools": ["deployments.roll_back"], "service": service},
            "when": f"facts.known_good && facts.evidence_sources >= {sources}",
            "effect": "allow",
        },
        {
            "match": {"class": "write", "service": service, "tier": 1},
            "when": 'facts.requester_kind == "agent" && facts.failed_remediations > 0',
            "effect": "escalate",
            "escalate": {"to": "service-owner"},
        },
    )
    return {"id": f"rule-{index:04}", **kinds[index % 4]}


def _past(seq: int, body: Json) -> PastDecision:
    assert isinstance(body, dict)
    past = past_decision(seq, NOW_MS, body, "", "")
    assert past is not None
    return past


def _timed(policy: Policy, past: Sequence[PastDecision]) -> tuple[float, float]:
    """Seconds by the clock and of the processor, conditions compiled on the way included."""
    replay = PolicyReplay(policy)
    started, started_cpu = time.perf_counter(), time.process_time()
    replay.run(past)
    return time.perf_counter() - started, time.process_time() - started_cpu


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    sys.exit(main())
