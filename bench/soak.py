"""`loop4 run` on the lab for many minutes: a seeded fault each two minutes, an on-call who answers
over HTTP, and two kills with SIGKILL on the way.

    python bench/soak.py [--minutes 20] [--seed 1] [--kills 2] [--folder DIR] [--json]

The fleet is a process of its own; this program only injects, votes with the on-call's token, kills
and starts it again. Times are the injector's and the router's; acts and their effects are counted
in the orchestrator's own log. The lab's restart budget is sized for the faults. Exit 0 when nothing
was doubled, lost or unapproved and every fault that the fleet can act on was mitigated.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from loop4.domain import IntentState, Json
from loop4.lab.duty import Duty, clients_file
from loop4.lab.episode import onset_of
from loop4.lab.folder import OperationsCopy, make_operations
from loop4.lab.lab import Lab
from loop4.lab.results import mitigated_at
from loop4.lab.scenarios import Plan, draw
from loop4.ledger import approvals, evidence, incidents, intents, runs
from loop4.ledger.ledger import Ledger

EVERY_S = 120
FIRST_S = 15
LAST_CALM_S = 100  # what the last fault gets
ANSWER_S = 2.0
POLL_S = 0.5
SEEDS_TRIED = 100
SCENARIOS = ("bad-deploy", "crash-loop", "dependency-change", "bad-deploy", "dependency-down")


@dataclass(slots=True)
class Fault:
    """One injected fault and what became of it."""

    plan: Plan
    injected_ms: int
    onset_ms: int = 0
    incident: str = ""
    severity: str = ""
    cause: str = ""
    state: str = ""
    detected_s: float | None = None
    mitigated_s: float | None = None
    effects: list[str] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        """Whether it sits in something that the fleet can act on."""
        return self.plan.culprit.startswith(("service:", "instance:"))

    def to_json(self) -> dict[str, Json]:
        return {
            "scenario": self.plan.scenario,
            "seed": self.plan.seed,
            "culprit": self.plan.culprit,
            "incident": self.incident,
            "severity": self.severity,
            "cause": self.cause,
            "state": self.state,
            "detected_s": self.detected_s,
            "mitigated_s": self.mitigated_s,
            "effects": list(self.effects),
            "mitigable": self.is_ours,
        }


def main() -> int:
    """Run the soak; 0 when it holds."""
    parser = argparse.ArgumentParser(description="loop4 run on the lab, for many minutes")
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="work here and keep everything")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loop4-soak-") as temporary:
        folder = given.folder.resolve() if given.folder else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = soak(folder, given.minutes * 60, given.seed, given.kills, say=not given.json)
    if given.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0 if report["holds"] else 1


def soak(root: Path, lasts_s: int, seed: int, kills: int, *, say: bool) -> dict[str, Json]:
    """One soak in a fresh folder; the report."""
    copy = make_operations(root / "operations")
    token = clients_file(copy.root)
    _size_budgets(copy.root)
    faults: list[Fault] = []
    with Lab.start(root / "lab", seed) as lab:
        duty = Duty(root, copy.root, f"lab:{lab.connection}")
        duty.start()
        try:
            _course(lab, duty, copy, faults, lasts_s, seed, kills, say=say)
            metrics = duty.call("GET", "/metrics", token)[1]
        finally:
            drained = duty.stop()
        for index, fault in enumerate(faults):
            until_ms = faults[index + 1].injected_ms if index + 1 < len(faults) else 0
            _judge(lab, root, fault, until_ms)
        return _report(lab, root, duty, faults, drained, metrics)


def _course(
    lab: Lab,
    duty: Duty,
    copy: OperationsCopy,
    faults: list[Fault],
    lasts_s: int,
    seed: int,
    kills: int,
    *,
    say: bool,
) -> None:
    """The minutes themselves."""
    rng = random.Random(seed)  # noqa: S311  (a choice, not a secret)
    count = max(1, (lasts_s - FIRST_S - LAST_CALM_S) // EVERY_S + 1)
    at = [FIRST_S + EVERY_S * n for n in range(count)]
    deaths = sorted(
        at[(n + 1) * count // (kills + 1) if count > kills else n % count] + rng.uniform(6.0, 25.0)
        for n in range(kills)
    )
    seen: dict[str, float] = {}
    began = time.monotonic()
    while (now_s := time.monotonic() - began) < lasts_s:
        if at and now_s >= at[0]:
            at.pop(0)
            name, drawn = _drawn(lab, SCENARIOS[len(faults) % len(SCENARIOS)], seed + len(faults))
            before_ms = time.time_ns() // 1_000_000  # a fault may be in force when this returns
            plan = lab.inject(name, drawn, warm_up_s=0.0)
            faults.append(Fault(plan, before_ms))
            _tell(say, now_s, f"fault {len(faults)}: {plan.scenario} ({plan.culprit})")
        if deaths and now_s >= deaths[0]:
            deaths.pop(0)
            _tell(say, now_s, "kill -9 of `loop4 run`, and again from the start")
            duty.kill()
            duty.start()
        _answer(duty, copy, seen, now_s, say=say)
        time.sleep(POLL_S)


def _drawn(lab: Lab, name: str, seed: int) -> tuple[str, int]:
    """The scenario with the first seed from here on whose fault can come into force.

    After some deploys the replica that a seed draws is gone; when all of them are, a bad deploy
    takes the place of the crash.
    """
    alive = lab.replicas()
    for one in range(seed, seed + SEEDS_TRIED):
        kind, _, culprit = draw(name, one).culprit.partition(":")
        if kind != "instance" or culprit in alive:
            return name, one
    return "bad-deploy", seed


def _answer(
    duty: Duty, copy: OperationsCopy, seen: dict[str, float], now_s: float, *, say: bool
) -> None:
    """The on-call: looks twice a second, approves two seconds after a request came up."""
    status, text = duty.call("GET", "/v1/approvals", copy.token)
    if status != 200:
        return
    for request in json.loads(text)["approvals"]:
        name = str(request["approval_id"])
        if now_s - seen.setdefault(name, now_s) < ANSWER_S:
            continue
        path = f"/v1/approvals/{name}/votes"
        status, text = duty.call("POST", path, copy.token, {"decision": "approve"})
        tool = request["payload"]["action_requests"][0]["name"]
        _tell(say, now_s, f"{copy.person} approves {tool}: {status}")


def _judge(lab: Lab, root: Path, fault: Fault, until_ms: int) -> None:
    """What the logs say of one fault, up to the next one."""
    mine = [
        line
        for line in lab.injected()
        if fault.injected_ms <= cast("int", line["at_ms"]) < (until_ms or sys.maxsize)
    ]
    fault.onset_ms = onset_of(mine, fault.plan)
    end_ms = until_ms or time.time_ns() // 1_000_000
    with Ledger.open(root / "data" / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        found = [
            i
            for i in incidents.list_all(tx)
            if fault.injected_ms <= i.detected_ms < end_ms and "request" not in i.correlation
        ]
        ids = {i.incident_id for i in found}
        acts = [a for a in intents.list_all(tx) if a.incident_id in ids]
    if found and fault.onset_ms:
        first = found[0]
        fault.incident, fault.severity = first.incident_id, first.severity.value
        fault.cause, fault.state = first.cause, first.state
        fault.detected_s = round((first.detected_ms - fault.onset_ms) / 1000, 1)
    marks = {str(line["mark"]) for line in _effects(lab)}
    fault.effects = [
        f"{a.tool} {a.target}" for a in acts if a.action_id in marks and "path" not in a.arguments
    ]
    at_ms = _mitigated(lab, root, fault, end_ms)
    if at_ms:
        fault.mitigated_s = round((at_ms - fault.onset_ms) / 1000, 1)


def _mitigated(lab: Lab, root: Path, fault: Fault, end_ms: int) -> int:
    """The end of the failures between this fault and the next, by the router's own log."""
    if not fault.onset_ms:
        return 0
    logs = []
    for path in (lab.edge_log, lab.effects_log):
        part = root / f"part-{path.name}"
        lines = path.read_text("utf-8").rpartition("\n")[0].splitlines()
        kept = [x for x in lines if x and json.loads(x)["at_ms"] < end_ms]
        part.write_text("\n".join([*kept, ""]), "utf-8")
        logs.append(part)
    return mitigated_at(logs[0], logs[1], fault.onset_ms)


def _report(
    lab: Lab, root: Path, duty: Duty, faults: Sequence[Fault], drained: int, metrics: str
) -> dict[str, Json]:
    with Ledger.open(root / "data" / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        acts = [a for a in intents.list_all(tx) if "path" not in a.arguments]
        records = evidence.list_records(tx, kinds=("decision",))
        requests = {r.approval.approval_id: r for r in approvals.list_all(tx)}
        chain = evidence.verify(tx)
        still_open = len(runs.list_open(tx))
        opened = [i.incident_id for i in incidents.list_all(tx)]
    marks = Counter(str(line["mark"]) for line in _effects(lab))
    decided = {r.action_id: str(r.body["decided"]) for r in records if r.body["effect"] == "allow"}
    known = {a.action_id for a in acts}
    done = [a for a in acts if a.state is IntentState.DONE]
    doubled = sum(n - 1 for n in marks.values() if n > 1)
    lost = [a.action_id for a in done if a.action_id not in marks and a.before != a.after]
    unsettled = [a.action_id for a in acts if a.state is IntentState.INTENDED]
    unapproved = [m for m in marks if m not in known] + [
        a.action_id
        for a in acts
        if a.action_id in marks
        and decided.get(a.action_id) == "require_approval"
        and not (a.approval_id in requests and requests[a.approval_id].approval.votes)
    ]
    unmitigated = [f.plan.scenario for f in faults if f.is_ours and f.mitigated_s is None]
    holds = not (doubled or lost or unsettled or unapproved or unmitigated) and chain.ok
    return {
        "holds": holds and drained == 0,
        "faults": [f.to_json() for f in faults],
        "incidents": len(opened),
        "acts_by_effect": dict(Counter(decided.get(a.action_id, "none") for a in acts)),
        "acts_by_outcome": dict(Counter(a.state.value for a in acts)),
        "effects": sum(marks.values()),
        "doubled": doubled,
        "lost": len(lost) + len(unsettled),
        "unapproved": len(unapproved),
        "unmitigated": cast("Json", unmitigated),
        "evidence_ok": chain.ok,
        "evidence_records": chain.records,
        "runs_open": still_open,
        "kills": duty.kills,
        "restart_s": [round(s, 1) for s in duty.starts_s],
        "drained_with": drained,
        "waiting_intents_unknown": next(
            (line for line in metrics.splitlines() if line.startswith("loop4_intents_unknown")), ""
        ),
    }


def _effects(lab: Lab) -> list[Mapping[str, Json]]:
    """What the orchestrator did for the fleet."""
    lines = lab.effects_log.read_text("utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line.get("mark")]


def _size_budgets(operations: Path) -> None:
    """One fault each two minutes is more than an ordinary hour has."""
    path = operations / "policies" / "services.yaml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("restart_budget_1h: 3", "restart_budget_1h: 20"), "utf-8")


def show(report: Mapping[str, Json]) -> None:
    """The table."""
    for fault in cast("Sequence[Mapping[str, Json]]", report["faults"]):
        told = "; ".join(str(e) for e in cast("Sequence[Json]", fault["effects"])) or "-"
        print(
            f"{fault['scenario']!s:<18}{fault['seed']!s:>3}  {fault['incident']!s:<14}"
            f"{fault['severity']!s:<5}{fault['state']!s:<11}{fault['cause']!s:<28}"
            f"{_s(fault['detected_s']):>7}{_s(fault['mitigated_s']):>8}  {told}"
        )
    for name, value in report.items():
        if name != "faults":
            print(f"{name}: {value}")


def _s(value: Json) -> str:
    return "-" if value is None else f"{value} s"


def _tell(say: bool, now_s: float, words: str) -> None:
    if say:
        print(f"{now_s:6.1f} s  {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
