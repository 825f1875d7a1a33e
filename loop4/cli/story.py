"""Records of the evidence in an operator's words, for `why` and `handoff`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loop4.cli.data_folder import plain, utc

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.ledger.evidence import EvidenceRecord

FACTS_SHOWN = (
    "environment",
    "traffic_share_bp",
    "evidence_sources",
    "runbook_match",
    "restarts_1h",
    "restart_budget_1h",
    "known_good",
    "deploy_frozen",
    "fleet_paused",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened; `because` says why, a line each. `seq` is the record's."""

    seq: int
    at_ms: int
    what: str
    because: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "evidence": self.seq,
            "at_ms": self.at_ms,
            "what": self.what,
            "because": list(self.because),
        }

    def text(self) -> list[str]:
        """For people."""
        return [
            plain(f"{utc(self.at_ms)}  {self.what}  [evidence {self.seq}]"),
            *(plain(f"    {reason}") for reason in self.because),
        ]


def lines(records: Sequence[EvidenceRecord]) -> tuple[Line, ...]:
    """The records that say something to a person, in order."""
    told = (_line(record) for record in records)
    return tuple(line for line in told if line is not None)


def _line(record: EvidenceRecord) -> Line | None:
    body = record.body
    what = ""
    because: tuple[str, ...] = ()
    match record.kind:
        case "triage":
            what = f"{body['service']}: classified {body['severity']}"
            because = (str(body["reason"]),)
        case "finding" if body["agent"] == "incident":
            what = f"the evidence points at: {body['claim']}"
            because = tuple(f"against it: {c}" for c in words(body.get("counter_evidence"))[:2])
        case "decision":
            return _decision(record)
        case "vote" | "approval_edited":
            what = _vote(body) if record.kind == "vote" else _edit(body)
        case "approval_closed":
            what = f"request {body['approval_id']} was closed: {body['state']}"
            because = (str(body["reason"]),)
        case "outcome":
            what = f"{body['tool']} on {body['target']}: {body['state']}"
            because = (str(body["detail"]),)
        case "reconciled":
            what = f"after a crash the target was asked about {body['tool']}: {body['answer']}"
        case "not_done":
            what = f"{body['tool'] or 'the run'} on {body['target']} was not done"
            because = (str(body["reason"]),)
        case "verification":
            what = f"telemetry was read: {body['reading']}"
            because = _checks(body)
        case "severity_raised":
            what = f"severity rose from {body['from']} to {body['to']}"
        case "violation":
            what = f"refused: {body['what']}"
        case _:
            return None
    return Line(record.seq, record.at_ms, what, because)


def _decision(record: EvidenceRecord) -> Line | None:
    """None for a file or message that was allowed: its outcome tells."""
    body = record.body
    if "path" in _mapping(body["arguments"]) and body["effect"] == "allow":
        return None
    rules = ", ".join(words(body["rules"])) or "no rule matched"
    facts = body.get("facts")
    known = facts if isinstance(facts, Mapping) else {}
    shown = [
        f"{name} = {fact['value']}"
        for name in FACTS_SHOWN
        if isinstance(fact := known.get(name), Mapping)
    ]
    because = [f"rules: {rules}; policy {str(body['policy_version'])[:12]}; mode {body['mode']}"]
    because += words(body["reasons"])
    if body.get("approval_id"):
        because.append(f"lifted by request {body['approval_id']}")
    if shown:
        because.append("facts: " + ", ".join(shown))
    effect = {
        "allow": "allowed",
        "require_approval": "needs a person's approval",
        "escalate": "must be owned by a person",
        "deny": "denied",
    }.get(str(body["effect"]), str(body["effect"]))
    what = f"gate: {body['tool']} on {body['target']}: {effect}"
    return Line(record.seq, record.at_ms, what, tuple(because))


def _vote(body: Mapping[str, Json]) -> str:
    word = "approved" if body.get("approve") else "rejected"
    told = f"{body.get('person')} {word} request {body.get('approval_id')}"
    return told if body.get("accepted") else f"{told}; refused: {body.get('reason')}"


def _edit(body: Mapping[str, Json]) -> str:
    changes = ", ".join(f"{name} = {value}" for name, value in _mapping(body["changes"]).items())
    return f"{body['person']} asks for {changes} in place of request {body['approval_id']}"


def _checks(body: Mapping[str, Json]) -> tuple[str, ...]:
    found = body.get("checks")
    if not isinstance(found, list | tuple):
        return ()
    return tuple(
        f"{c['target']}: {c['reading']}, failing {c['failing_bp']} bp"
        for c in found
        if isinstance(c, Mapping)
    )


def words(value: Json) -> list[str]:
    """A list's values as texts; empty for anything else."""
    return [str(v) for v in value] if isinstance(value, list | tuple) else []


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
