"""What one look at an incident showed: as JSON, and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from loop4.cli.data_folder import plain

if TYPE_CHECKING:
    from loop4.domain import Event, Json
    from loop4.graphs.observe import Asked
    from loop4.graphs.session import Session
    from loop4.ledger.evidence import EvidenceRecord
    from loop4.tools.backends.ports import Series
    from loop4.tools.reader import Read

MOST_SERIES = 10


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one incident. Every part is JSON; `no_data` says what could not be seen."""

    alerts: tuple[str, ...]
    service: str
    environment: str
    triage: Mapping[str, Json]
    findings: tuple[Mapping[str, Json], ...]
    decided: tuple[Mapping[str, Json], ...]
    reads: tuple[Mapping[str, Json], ...]
    queries: tuple[Mapping[str, Json], ...]
    no_data: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "alerts": list(self.alerts),
            "service": self.service,
            "environment": self.environment,
            "severity": self.triage.get("severity"),
            "reason": self.triage.get("reason"),
            "customer_impact_bp": self.triage.get("customer_impact_bp"),
            "targets": self.triage.get("targets", []),
            "findings": list(self.findings),
            "would_have": list(self.decided),
            "alert_queries": list(self.queries),
            "evidence": list(self.reads),
            "no_data": list(self.no_data),
        }


def look_at(
    session: Session, incident_id: str, alerts: Sequence[Event], asked: Mapping[str, Asked]
) -> Look:
    """What the ledger of a session holds of one incident, and what it could not hold."""
    from loop4.ledger import evidence

    with session.ledger.read() as tx:
        records = evidence.list_records(tx, incident_id)
    first = alerts[0]
    return Look(
        alerts=tuple(e.event_id for e in alerts),
        service=first.service,
        environment=first.environment,
        triage=next((r.body for r in records if r.kind == "triage"), {}),
        findings=tuple(
            {k: v for k, v in r.body.items() if k != "finding"}
            for r in records
            if r.kind == "finding"
        ),
        decided=tuple(_decision(r.body) for r in records if r.kind == "decision"),
        reads=tuple(r.body for r in records if r.kind == "read"),
        queries=tuple(_query(asked[e.event_id]) for e in alerts if e.event_id in asked),
        no_data=_no_data(session, alerts, asked, records),
    )


def _decision(body: Mapping[str, Json]) -> dict[str, Json]:
    kept = ("tool", "target", "arguments", "decided", "rules", "reasons", "mode")
    return {k: body[k] for k in kept}


def _query(asked: Asked) -> dict[str, Json]:
    return {
        "event": asked.event.event_id,
        "query": asked.expression,
        "now": _answer(asked.now),
        "at_start": _answer(asked.at_start),
        "started_ms": asked.event.at_ms,
    }


def _answer(read: Read[Sequence[Series]]) -> dict[str, Json]:
    """Evidence id and values; a value as text, since JSON knows no infinity."""
    series = read.value or ()
    return {
        "evidence": read.evidence,
        "values": [
            {"labels": dict(s.labels), "value": f"{s.points[-1][1]:g}"}
            for s in series[:MOST_SERIES]
            if s.points
        ],
        "series": len(series),
        "no_data": read.denied or read.missing,
    }


def _no_data(
    session: Session,
    alerts: Sequence[Event],
    asked: Mapping[str, Asked],
    records: Sequence[EvidenceRecord],
) -> tuple[str, ...]:
    """What could not be seen, each once: kinds of evidence, documents, queries without answer."""
    fleet = session.fleet
    missing = [
        f"{kind}: no back end is configured"
        for kind, port in (
            ("traces", fleet.world.traces),
            ("logs", fleet.world.logs),
            ("changes", fleet.world.changes),
            ("topology", fleet.world.workloads),
        )
        if port is None
    ]
    for event in alerts:
        name = event.service
        if fleet.catalogue.service(name) is None:
            missing.append(f"service {name!r} is not in the catalogue, so no agent looked at it")
        if not any(t.service == name for t in fleet.targets):
            missing.append(f"targets: no target file speaks of service {name!r}")
        one = asked.get(event.event_id)
        if one is None:
            missing.append(f"alert {event.labels.get('alertname', '')}: its URL carries no query")
        else:
            for moment, read in (("now", one.now), ("at its start", one.at_start)):
                if read.value is None:
                    missing.append(f"the alert's own query {moment}: {read.denied or read.missing}")
    for record in records:
        if record.kind == "missing":
            missing += [str(m) for m in cast("Sequence[Json]", record.body["missing"])]
        elif record.kind == "violation":
            missing.append(f"agent {record.body['agent']}: {record.body['what']}")
    return tuple(dict.fromkeys(missing))


def look_text(look: Look) -> str:
    """For people: one line for each thing seen, without control characters."""
    targets = cast("Sequence[Mapping[str, Json]]", look.triage.get("targets", []))
    lines = [
        f"{look.service or 'no service'} ({look.environment}): {look.triage.get('severity')}, "
        f"{look.triage.get('reason')}",
        *(f"  alert {alert}" for alert in look.alerts),
    ]
    lines += [
        f"  target {t['target']}: {t['reading']}"
        + ("" if t["reading"] == "no_data" else f", {t['fast_bp']} bp fail")
        for t in targets
    ]
    for query in look.queries:
        lines.append(f"  the alert's own query: {query['query']}")
        for moment in ("at_start", "now"):
            lines.append(f"    {moment.replace('_', ' ')}: {_values(query[moment])}")
    lines += [f"  found: {f['claim']} [{_cited(f)}]" for f in look.findings] or ["  found: nothing"]
    lines += [f"  would have: {_would_have(d)}" for d in look.decided]
    lines += [f"  no data: {m}" for m in look.no_data]
    return "\n".join(plain(line) for line in lines)


def _cited(finding: Mapping[str, Json]) -> str:
    return ", ".join(str(e) for e in cast("Sequence[Json]", finding["evidence"]))


def _values(answer: Json) -> str:
    body = cast("Mapping[str, Json]", answer)
    values = cast("Sequence[Mapping[str, Json]]", body["values"])
    if not values:
        return f"no data ({body['no_data']})"
    shown_values = [f"{_labels(v['labels'])}{v['value']}" for v in values]
    more = cast("int", body["series"]) - len(values)
    ending = f"; and {more} more" if more > 0 else ""
    return f"{'; '.join(shown_values)}{ending} [{body['evidence']}]"


def _labels(labels: Json) -> str:
    pairs = cast("Mapping[str, Json]", labels)
    return "{" + ", ".join(f"{k}={v}" for k, v in pairs.items()) + "} " if pairs else ""


def _would_have(decision: Mapping[str, Json]) -> str:
    reasons = "; ".join(str(r) for r in cast("Sequence[Json]", decision["reasons"]))
    rules = ", ".join(str(r) for r in cast("Sequence[Json]", decision["rules"]))
    why = rules or reasons
    return f"{decision['tool']} on {decision['target']}: {decision['decided']} ({why})"
