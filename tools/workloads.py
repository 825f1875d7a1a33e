"""Acting on running replicas: restart one, clean."""

from __future__ import annotations

from loop4.domain import Action, Outcome
from loop4.tools.backends.ports import WorkloadsWriter, WriteResult
from loop4.tools.orchestrator import change, probe_workload
from loop4.tools.tool import Hands, act


async def _restart(hands: Hands, action: Action) -> Outcome:
    """Clean start of one replica. The same `restarted_at_ms` twice restarts once."""
    restarted_at_ms = int(str(action.arguments["restarted_at_ms"]))

    async def write(workloads: WorkloadsWriter, expected: str) -> WriteResult:
        return await workloads.restart(
            action.target, restarted_at_ms, expected=expected, mark=action.action_id
        )

    return await change(
        hands,
        action,
        write,
        done=f"{action.target} restarted with clean state",
        was=f"{action.target} had been restarted already",
    )


restart = act(
    "workloads.restart",
    effect="restart one replica with clean local state",
    reversible=False,
    probe=probe_workload,
)(_restart)
