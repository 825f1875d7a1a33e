"""Acting on running replicas: restart one, clean."""

from __future__ import annotations

from loop4.domain import Action, IntentState, Outcome
from loop4.errors import Conflict, Unreachable
from loop4.tools.deployments import ATTEMPTS, probe_workload, read_workload, target_revision
from loop4.tools.tool import Hands, act


async def _restart(hands: Hands, action: Action) -> Outcome:
    """Clean start of one replica. The same `restarted_at_ms` twice restarts once."""
    if hands.workloads is None:
        raise Unreachable("no orchestrator is configured for writes")
    restarted_at_ms = int(str(action.arguments["restarted_at_ms"]))
    for _ in range(ATTEMPTS):
        workload = await read_workload(hands, action.service)
        if target_revision(workload) != action.target_revision:
            return Outcome(IntentState.FAILED, f"{action.service} changed since it was judged")
        try:
            result = await hands.workloads.restart(
                action.target,
                restarted_at_ms,
                expected=workload.resource_version,
                mark=action.action_id,
            )
        except Conflict:
            continue
        word = "restarted with clean state" if result.changed else "had been restarted already"
        return Outcome(
            IntentState.DONE, f"{action.target} {word}", before=result.before, after=result.after
        )
    return Outcome(IntentState.FAILED, f"{action.service} kept changing; nothing was done")


restart = act(
    "workloads.restart",
    effect="restart one replica with clean local state",
    reversible=False,
    probe=probe_workload,
)(_restart)
