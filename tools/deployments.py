"""Acting on deployments: roll a service back to a recorded good revision."""

from __future__ import annotations

from loop4.domain import Action, Outcome
from loop4.tools.backends.ports import WorkloadsWriter, WriteResult
from loop4.tools.orchestrator import change, probe_workload
from loop4.tools.tool import Hands, act


async def _roll_back(hands: Hands, action: Action) -> Outcome:
    """Give all traffic back to `to_revision`. Asking for the present state changes nothing."""
    to_revision = int(str(action.arguments["to_revision"]))

    async def write(workloads: WorkloadsWriter, expected: str) -> WriteResult:
        return await workloads.roll_back(
            action.service, to_revision, expected=expected, mark=action.action_id
        )

    return await change(
        hands,
        action,
        write,
        done=f"{action.service} rolled back to revision {to_revision}",
        was=f"{action.service} was at revision {to_revision} already",
    )


roll_back = act(
    "deployments.roll_back",
    effect="give all traffic back to a recorded good revision",
    reversible=True,
    probe=probe_workload,
)(_roll_back)
