"""What an episode came to, from the ledger for the decisions and from the lab's own logs for the
times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from loop4.domain import Json
from loop4.graphs.session import Session
from loop4.lab.episode import Episode
from loop4.lab.lab import Lab
from loop4.lab.scenarios import Plan
from loop4.ledger import approvals, evidence, intents
from loop4.ledger.approvals import Request
from loop4.ledger.evidence import EvidenceRecord
from loop4.ledger.intents import Intent

WINDOW_MS = 3_000
BAD_SHARE = 0.03
BAD_COUNT = 4


@dataclass(frozen=True, slots=True)
class ActTaken:
    """One write that the gate judged: the effect that the rules gave it, who lifted it, what came
    of it.
    """

    tool: str
    target: str
    effect: str
    approved_by: tuple[str, ...]
    outcome: str

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "tool": self.tool,
            "target": self.target,
            "effect": self.effect,
            "approved_by": ", ".join(self.approved_by),
            "outcome": self.outcome,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """One episode in numbers. Times in seconds after the fault came into force; None: it did not
    happen.

    `mitigated_s` is read from the router's log (customers fail no more), or from the orchestrator's
    when no customer failed; `verified_s` leaves out the time that a person took to answer.
    """

    scenario: str
    seed: int
    severity: str
    cause: str
    acts: tuple[ActTaken, ...]
    denied: tuple[Mapping[str, Json], ...]
    detected_s: float | None
    mitigated_s: float | None
    verified_s: float | None
    paths: tuple[str, ...]
    notices: tuple[str, ...]
    state: str
    is_fault: bool
    needs_act: bool

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "severity": self.severity,
            "cause": self.cause,
            "actions": [a.to_json() for a in self.acts],
            "denied": [dict(d) for d in self.denied],
            "detected_s": self.detected_s,
            "mitigated_s": self.mitigated_s,
            "verified_s": self.verified_s,
            "state": self.state,
        }


def result_of(lab: Lab, session: Session, episode: Episode) -> Result:
    """Read the ledger and the logs."""
    incident = episode.incident
    if incident is None:
        plan = episode.plan
        return Result(
            scenario=plan.scenario,
            seed=plan.seed,
            severity="none",
            cause="none",
            acts=(),
            denied=(),
            detected_s=None,
            mitigated_s=None,
            verified_s=None,
            paths=(),
            notices=(),
            state="",
            is_fault=bool(plan.culprit),
            needs_act=_is_ours(plan),
        )
    with session.ledger.read() as tx:
        records = evidence.list_records(tx, incident.incident_id)
        acts = intents.list_all(tx, incident_id=incident.incident_id)
        requests = {r.approval.approval_id: r for r in approvals.list_all(tx)}
    decided = {r.action_id: str(r.body["decided"]) for r in records if r.kind == "decision"}
    writes = tuple(
        ActTaken(
            a.tool,
            a.target,
            decided.get(a.action_id, ""),
            tuple(v.person for v in requests[a.approval_id].approval.votes if v.approve)
            if a.approval_id in requests
            else (),
            a.state.value,
        )
        for a in acts
        if "path" not in a.arguments
    )
    onset = episode.onset_ms
    proven = [r.at_ms for r in records if r.kind == "verification" and r.body["reading"] == "pass"]
    return Result(
        scenario=episode.plan.scenario,
        seed=episode.plan.seed,
        severity=incident.severity.value,
        cause=incident.cause or "none",
        acts=writes,
        denied=denials(records),
        detected_s=_after(onset, incident.detected_ms),
        mitigated_s=_after(onset, mitigated_at(lab.edge_log, lab.effects_log, onset)),
        verified_s=_after(onset, proven[0] - _thinking_ms(requests, acts) if proven else 0),
        paths=tuple(str(a.arguments["path"]) for a in acts if "path" in a.arguments),
        notices=tuple(a.tool for a in acts if "path" in a.arguments),
        state=incident.state,
        is_fault=bool(episode.plan.culprit),
        needs_act=_is_ours(episode.plan),
    )


def _is_ours(plan: Plan) -> bool:
    """Whether the fault sits in something that the fleet can act on."""
    return plan.culprit.startswith(("service:", "instance:"))


def _thinking_ms(requests: Mapping[str, Request], acts: Sequence[Intent]) -> int:
    """How long people took to answer the requests that led to acts."""
    used = [requests[a.approval_id].approval for a in acts if a.approval_id in requests]
    return sum(max(v.at_ms for v in a.votes) - a.requested_ms for a in used if a.votes)


def denials(records: Sequence[EvidenceRecord]) -> tuple[Mapping[str, Json], ...]:
    """Every denied decision: tool, target, rules, reasons."""
    return tuple(
        {k: r.body[k] for k in ("tool", "target", "rules", "reasons")}
        for r in records
        if r.kind == "decision" and r.body["effect"] == "deny"
    )


def mitigated_at(edge_log: Path, effects_log: Path, onset_ms: int) -> int:
    """When the customers' failures ended, by the router's log; when our act landed, if there were
    none.

    Failures have ended at the end of the last three seconds in which at least four edge requests
    and more than 3 % of them failed or were too slow. 0 when nothing happened.
    """
    requests = [r for r in _lines(edge_log) if cast("int", r["at_ms"]) >= onset_ms]
    buckets: dict[int, list[int]] = {}
    for request in requests:
        bucket = buckets.setdefault(cast("int", request["at_ms"]) // WINDOW_MS, [0, 0])
        bucket[0] += request["outcome"] != "ok"
        bucket[1] += 1
    bad = [
        b
        for b, (failed, total) in buckets.items()
        if failed >= BAD_COUNT and failed > BAD_SHARE * total
    ]
    if bad:
        is_over = max(bad) < max(buckets)
        return (max(bad) + 1) * WINDOW_MS if is_over else 0
    marked = [cast("int", e["at_ms"]) for e in _lines(effects_log) if e.get("mark")]
    return next((at for at in marked if at >= onset_ms), 0)


def _lines(path: Path) -> list[Mapping[str, Json]]:
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line]


def _after(onset_ms: int, at_ms: int) -> float | None:
    return round((at_ms - onset_ms) / 1000, 1) if onset_ms and at_ms else None
