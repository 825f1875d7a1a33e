"""What acts on the orchestrator share: what they are bound to, and one careful write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loop4.canonical import digest
from loop4.domain import Action, IntentState, Outcome
from loop4.errors import Conflict, Refused, Unreachable
from loop4.tools.backends.ports import Workload, WorkloadsWriter, WriteResult
from loop4.tools.tool import Hands, Probe

# A conflict proves that this call did nothing; status changes alone cause them. So often it is
# tried, after so long where the target still shows the version that it has just refused.
WAITS_S = (0.0, 0.2, 0.4, 0.8, 1.6)

Write = Callable[[WorkloadsWriter, str], Awaitable[WriteResult]]


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
    return Probe(True, _is_marked(workload, action), target_revision(workload))


def _is_marked(workload: Workload, action: Action) -> bool:
    marks = {workload.mark, *(i.mark for i in workload.instances if i.instance == action.target)}
    return action.action_id in marks


async def change(hands: Hands, action: Action, write: Write, *, done: str, was: str) -> Outcome:
    """Make one write, compare-and-set on a fresh resource version, unless what was judged is gone.

    `write` gets the writer and the expected version. A conflict of status alone is tried again on
    fresh state; a changed specification is a failure, with nothing done, unless our own mark is on
    it: then a call of this very action, sent before a crash, was carried out, and it is done. What
    a target does not yet show is waited for; one that goes on to show a version that it refuses
    cannot tell: UNKNOWN. `done` and `was` say what happened when the write changed something, and
    when it was so already.
    """
    if hands.workloads is None:
        raise Unreachable("no orchestrator is configured for writes")
    refused, is_behind = "", False
    for wait_s in WAITS_S:
        workload = await read_workload(hands, action.service)
        if workload.resource_version == refused:
            await asyncio.sleep(wait_s)
            workload = await read_workload(hands, action.service)
        is_behind = workload.resource_version == refused
        if _is_marked(workload, action):
            return Outcome(IntentState.DONE, f"{action.target}: our mark is on the target")
        if target_revision(workload) != action.target_revision:
            return Outcome(IntentState.FAILED, f"{action.service} changed since it was judged")
        try:
            result = await write(hands.workloads, workload.resource_version)
        except Conflict:
            refused = workload.resource_version
            continue
        detail = done if result.changed else was
        return Outcome(IntentState.DONE, detail, before=result.before, after=result.after)
    if is_behind:
        return Outcome(
            IntentState.UNKNOWN, f"{action.service} shows a version that it does not accept"
        )
    return Outcome(IntentState.FAILED, f"{action.service} kept changing; nothing was done")
