"""Acting on deployments: roll a service back to a recorded good revision."""

from __future__ import annotations

from loop4.canonical import digest
from loop4.domain import Action, IntentState, Outcome
from loop4.errors import Conflict, Refused, Unreachable
from loop4.tools.backends.ports import Workload
from loop4.tools.tool import Hands, Probe, act

ATTEMPTS = 5  # a conflict proves that nothing was done; status changes alone cause them


def target_revision(workload: Workload) -> str:
    """Digest of the desired specification: generation and artefact with configuration, never
    status.
    """
    return digest({"generation": workload.generation, "desired": workload.desired_digest})


async def read_workload(hands: Hands, service: str) -> Workload:
    """The service's workload, fresh. Raises Refused if it is unknown, Unreachable if nobody
    answers.
    """
    if hands.inventory is None:
        raise Unreachable("no orchestrator is configured; set LOOP4_WORLD")
    workload = (await hands.inventory.inventory()).workload(service)
    if workload is None:
        raise Refused(f"the orchestrator knows no service {service!r}")
    return workload


async def probe_workload(hands: Hands, action: Action) -> Probe:
    """Our mark on the service's specification or on the restarted instance, and its desired
    state.
    """
    workload = await read_workload(hands, action.service)
    marks = {workload.mark, *(i.mark for i in workload.instances if i.instance == action.target)}
    return Probe(True, action.action_id in marks, target_revision(workload))


async def _roll_back(hands: Hands, action: Action) -> Outcome:
    """Give all traffic back to `to_revision`; compare-and-set on a fresh resource version.

    Idempotent: asking for the present state changes nothing and says so. Fails, with nothing done,
    when the desired specification is no longer the one that was judged.
    """
    if hands.workloads is None:
        raise Unreachable("no orchestrator is configured for writes")
    to_revision = int(str(action.arguments["to_revision"]))
    for _ in range(ATTEMPTS):
        workload = await read_workload(hands, action.service)
        if target_revision(workload) != action.target_revision:
            return Outcome(IntentState.FAILED, f"{action.service} changed since it was judged")
        try:
            result = await hands.workloads.roll_back(
                action.service,
                to_revision,
                expected=workload.resource_version,
                mark=action.action_id,
            )
        except Conflict:
            continue
        word = "rolled back" if result.changed else "was already"
        return Outcome(
            IntentState.DONE,
            f"{action.service} {word} at revision {to_revision}",
            before=result.before,
            after=result.after,
        )
    return Outcome(IntentState.FAILED, f"{action.service} kept changing; nothing was done")


roll_back = act(
    "deployments.roll_back",
    effect="give all traffic back to a recorded good revision",
    reversible=True,
    probe=probe_workload,
)(_roll_back)
