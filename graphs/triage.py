"""Event to severity: read the organisation's context, measure, classify by rule, choose agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop4.agents.health import Burn, read_target
from loop4.domain import Event, EventKind, Json, Reading, Severity
from loop4.errors import BackendError, LedgerError, QueryError
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.ledger import events, evidence, incidents
from loop4.policies.severity import Assessment, assess, deadlines
from loop4.telemetry import current_trace_id
from loop4.tools.facts.impact import customer_impact_bp
from loop4.tools.reader import Reader, Scope

SCOPE_MS = 7 * 24 * 3_600_000  # the longest burn windows reach days back; rules bound it further


@dataclass(frozen=True, slots=True)
class Measurement:
    """The affected targets as they read now, the customers' share, and the severity that
    follows.
    """

    burns: tuple[Burn, ...]
    impact_bp: int | None
    assessment: Assessment

    @property
    def breached(self) -> tuple[str, ...]:
        """Names of the targets that fail."""
        return tuple(b.target.name for b in self.burns if b.reading is Reading.FAIL)


def related(fleet: Fleet, service: str) -> frozenset[str]:
    """The service, what it depends on and what depends on it."""
    return frozenset(
        {service, *fleet.catalogue.downstream(service), *fleet.catalogue.upstream(service)}
    )


def reader_for(fleet: Fleet, event: Event, incident_id: str) -> Reader:
    """A reader that may see this incident's services."""
    return Reader(
        fleet.world,
        fleet.policy,
        fleet.clock,
        Scope(
            incident_id,
            event.environment,
            related(fleet, event.service),
            fleet.clock.now_ms() - SCOPE_MS,
        ),
    )


async def measure(fleet: Fleet, event: Event, reader: Reader) -> Measurement:
    """Read every affected target and the customers' share now; classify by rule."""
    now_ms = fleet.clock.now_ms()
    services = related(fleet, event.service)
    burns = tuple(
        [await read_target(reader, t, now_ms) for t in fleet.targets if t.service in services]
    )
    try:
        impact = await customer_impact_bp(
            fleet.world.metrics, fleet.catalogue, fleet.targets, now_ms
        )
    except (BackendError, QueryError):
        impact = None
    breached = sum(b.reading is Reading.FAIL for b in burns)
    return Measurement(
        burns,
        impact,
        assess(
            fleet.severity,
            targets_breached=breached,
            customer_impact_bp=impact,
            is_anomaly=event.kind in (EventKind.ANOMALY, EventKind.ALERT, EventKind.BREACH),
        ),
    )


async def triage(fleet: Fleet, state: RunState) -> RunState:
    """Write the context record and the classification; name the agents that this event concerns."""
    with fleet.ledger.read() as tx:
        event = events.get(tx, state["event"])
    if event is None:
        raise LedgerError(f"the ledger has no event {state['event']!r}")
    now_ms = fleet.clock.now_ms()
    context = fleet.read_context(now_ms)
    if event.kind is EventKind.REQUEST:
        measured, severity, reason = None, Severity.SEV4, "a person asks for an action"
    else:
        reader = reader_for(fleet, event, state["incident_id"])
        measured = await measure(fleet, event, reader)
        severity, reason = measured.assessment.severity, measured.assessment.reason
    agents = [a.name for a in fleet.agents if event.kind in a.answers_to]
    known = fleet.catalogue.service(event.service) is not None
    clocks = deadlines(fleet.severity, severity, event.at_ms)
    body: dict[str, Json] = {
        "event": event.event_id,
        "kind": event.kind.value,
        "service": event.service,
        "service_known": known,
        "severity": severity.value,
        "reason": reason,
        "customer_impact_bp": measured.impact_bp if measured else None,
        "targets": _targets(measured.burns if measured else ()),
        "agents": list(agents),
        "policy_version": fleet.policy.version,
        "ack_by_ms": clocks.ack_ms,
        "mitigate_by_ms": clocks.mitigate_ms,
        "resolve_by_ms": clocks.resolve_ms,
    }
    with fleet.drafts.transaction() as tx:
        for kind, record in (("context", context.to_json()), ("triage", body)):
            evidence.append(
                tx,
                kind,
                state["incident_id"],
                state["run_id"],
                record,
                at_ms=now_ms,
                trace_id=current_trace_id(),
            )
        events.take(tx, [event.event_id], now_ms=now_ms)
        incidents.update(tx, state["incident_id"], severity=severity)
    return {
        "severity": severity.value,
        "agents": agents if known else [],
        "context": "complete" if context.is_complete else "incomplete",
        "phase": "act",
    }


def _targets(burns: Sequence[Burn]) -> list[Json]:
    return [
        {
            "target": b.target.name,
            "reading": b.reading.value,
            "fast_bp": b.ratio_bp,
            "slow_bp": b.long_ratio_bp,
        }
        for b in burns
    ]
