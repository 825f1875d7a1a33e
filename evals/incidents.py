"""What should have been decided in each scenario of the lab, and whether it was.

The table is the product's promise (it stands in the README too). Only scoring reads it; the fleet
never does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

from loop4.domain import Json
from loop4.evals.replay import Replay
from loop4.lab.results import ActTaken, Result
from loop4.lab.scenarios import DeployStep, Plan, draw

WIDE_BP = 2_500


@dataclass(frozen=True, slots=True)
class Expected:
    """One row: allowed severities, the cause, the one act (or none) and the effect the rules
    give it.
    """

    severities: frozenset[str]
    cause: str
    tool: str
    target: str
    effect: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided, from a live run or from a replay."""

    severity: str
    cause: str
    acts: tuple[ActTaken, ...]
    notices: frozenset[str]
    state: str


def expected_of(plan: Plan) -> Expected:
    """The right answer to a plan of the injector."""
    _, _, name = plan.culprit.partition(":")
    breach = frozenset({"SEV1", "SEV2"})
    match plan.scenario:
        case "bad-deploy":
            return Expected(
                breach, f"guilty_change:{name}", "deployments.roll_back", name, "require_approval"
            )
        case "dependency-change":
            effect = "require_approval" if _weight(plan, name) > WIDE_BP else "allow"
            return Expected(breach, f"guilty_change:{name}", "deployments.roll_back", name, effect)
        case "crash-loop":
            return Expected(
                frozenset({"SEV3", "SEV2"}),
                f"instance_fault:{name}",
                "workloads.restart",
                name,
                "allow",
            )
        case "dependency-down":
            return Expected(breach, f"external_dependency:{name}", "", "", "")
        case _:
            return Expected(frozenset({"none", "SEV4"}), "none", "", "", "")


def _weight(plan: Plan, service: str) -> int:
    """The routing weight that the guilty deploy received."""
    return next(
        (s.weight_bp for s in plan.steps if isinstance(s, DeployStep) and s.service == service), 0
    )


def problems(plan: Plan, decided: Decided) -> tuple[str, ...]:
    """What is not as it should be; empty when all of it is right."""
    wanted = expected_of(plan)
    found = []
    if decided.severity not in wanted.severities:
        found.append(
            f"severity {decided.severity}, expected {' or '.join(sorted(wanted.severities))}"
        )
    if decided.cause != wanted.cause:
        found.append(f"cause {decided.cause}, expected {wanted.cause}")
    acts = [(a.tool, a.target, a.effect, a.outcome) for a in decided.acts]
    right = [(wanted.tool, wanted.target, wanted.effect, "done")] if wanted.tool else []
    if acts != right:
        found.append(f"acts {acts}, expected {right}")
    if plan.scenario == "dependency-down":
        missing = {"oncall.page", "incidents.draft_customer_update"} - decided.notices
        if missing:
            found.append(f"no {', '.join(sorted(missing))}")
    if decided.severity != "none" and decided.state != "resolved":
        found.append(f"state {decided.state}, expected resolved")
    return tuple(found)


def decided_live(result: Result) -> Decided:
    """From a live run."""
    return Decided(
        result.severity, result.cause, result.acts, frozenset(result.notices), result.state
    )


def decided_in_replay(replayed: Replay) -> Decided:
    """From a replay; with several incidents the first one counts and the acts of all."""
    first = replayed.incidents[0] if replayed.incidents else None
    outcomes = {(o["tool"], o["target"]): str(o["state"]) for o in replayed.outcomes}
    acts: dict[tuple[Json, Json], ActTaken] = {}
    for decision in replayed.decisions:
        arguments = cast("Mapping[str, Json]", decision["arguments"])
        key = (decision["tool"], decision["target"])
        if "path" not in arguments and key in outcomes:
            acts[key] = ActTaken(
                str(decision["tool"]),
                str(decision["target"]),
                str(decision["decided"]),
                (),
                outcomes[key],
            )
    return Decided(
        severity=str(first["severity"]) if first else "none",
        cause=str(first["cause"]) if first else "none",
        acts=tuple(acts.values()),
        notices=frozenset(str(o["tool"]) for o in replayed.outcomes),
        state=str(first["state"]) if first else "",
    )


def truths() -> Sequence[tuple[str, Plan]]:
    """The shipped recordings' file names with the plan that was injected while each was made."""
    body = json.loads((files("loop4.evals") / "incidents" / "truth.json").read_text("utf-8"))
    return [(name, draw(row["scenario"], row["seed"])) for name, row in sorted(body.items())]
