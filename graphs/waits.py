"""While people decide: withdraw a request whose breach is gone, supersede one whose severity
rose.
"""

from __future__ import annotations

from collections.abc import Sequence

from loop4.domain import Event, Json, Reading
from loop4.graphs.fleet import Fleet
from loop4.graphs.recovery import breached_targets, check_recovery, overall
from loop4.graphs.triage import measure, reader_for
from loop4.ledger import approvals, events, evidence, incidents


async def watch_waits(fleet: Fleet) -> None:
    """Look at every request of an incident that waits for a vote once."""
    with fleet.ledger.read() as tx:
        pending = [r for r in approvals.pending(tx) if r.incident_id]
    for request in pending:
        with fleet.ledger.read() as tx:
            known = events.of_incident(tx, request.incident_id)
            inbox = events.inbox(tx, request.incident_id)
        if not known or known[0].request is not None:
            continue
        checks = await check_recovery(
            fleet,
            known[0],
            breached_targets(fleet, request.incident_id),
            since_ms=request.approval.requested_ms,
        )
        if overall(checks) is Reading.PASS:
            _close(fleet, request, "the breach cleared by itself", withdraw=True)
        elif inbox:
            await _reconsider(fleet, request, known[0], inbox)


async def _reconsider(
    fleet: Fleet, request: approvals.Request, event: Event, inbox: Sequence[Event]
) -> None:
    """New events during a wait: severity may rise, and then the request is asked again as it
    now stands.
    """
    incident = fleet.incident(request.incident_id)
    measured = await measure(fleet, event, reader_for(fleet, event, incident.incident_id))
    now_ms = fleet.clock.now_ms()
    raised = measured.assessment.severity
    with fleet.ledger.transaction() as tx:
        events.take(tx, [e.event_id for e in inbox], now_ms=now_ms)
        if raised.rank >= incident.severity.rank:
            return
        incidents.update(tx, incident.incident_id, severity=raised)
        body: dict[str, Json] = {
            "from": incident.severity.value,
            "to": raised.value,
            "reason": measured.assessment.reason,
        }
        evidence.append(
            tx,
            "severity_raised",
            incident.incident_id,
            request.run_id,
            body,
            at_ms=now_ms,
        )
    _close(fleet, request, f"severity rose to {raised.value}", withdraw=False)


def _close(fleet: Fleet, request: approvals.Request, reason: str, *, withdraw: bool) -> None:
    close = approvals.withdraw if withdraw else approvals.supersede
    with fleet.ledger.transaction() as tx:
        close(tx, request.approval.approval_id, reason, now_ms=fleet.clock.now_ms())
