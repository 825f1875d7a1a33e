"""The nouns that every part of Loop4 shares: frozen, slotted, standard library only.

Times are integer milliseconds since the Unix epoch, UTC (`*_ms`). Fractions are integer basis
points (`*_bp`, 10000 = all). Free text that came from telemetry is data: it never fills a target, a
tool or an approver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = "Mapping[str, Json]"


class Clock(Protocol):
    """The only source of time. A replay passes the recording's."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...


class Severity(StrEnum):
    """Incident severity; SEV1 is the worst."""

    SEV1 = "SEV1"
    SEV2 = "SEV2"
    SEV3 = "SEV3"
    SEV4 = "SEV4"

    @property
    def rank(self) -> int:
        """1 for SEV1 to 4 for SEV4; lower is worse."""
        return int(self.value[-1])


class EventKind(StrEnum):
    """What woke the fleet."""

    BREACH = "breach"  # a health target is missed (own sweep)
    ALERT = "alert"  # somebody else's alert, e.g. Alertmanager
    ANOMALY = "anomaly"  # no target is missed, something is odd (a crash-looping instance)
    DEPLOY = "deploy"
    REQUEST = "request"  # a person asks for an action
    TICK = "tick"


class ToolClass(StrEnum):
    """What kind of effect a tool has."""

    READ = "read"
    WRITE = "write"
    NOTIFY = "notify"
    FLEET = "fleet"  # changes what the fleet itself may do


class Effect(StrEnum):
    """What the gate decides. The lattice: deny > escalate > require_approval > allow."""

    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    ESCALATE = "escalate"
    DENY = "deny"


class Mode(StrEnum):
    """How far a binding lets the fleet go: decide only, ask for every write, or act inside the
    rules.
    """

    OBSERVE = "observe"
    SUGGEST = "suggest"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class ModeSetting:
    """What people set while the fleet runs, on top of the bindings of the policy files.

    `environment` and `service` "" mean every one. Only with `is_approved` may it be wider than the
    files say.
    """

    environment: str
    service: str
    tool_class: ToolClass
    mode: Mode
    is_approved: bool = False


class Reading(StrEnum):
    """A verdict on an indicator. Missing data is a verdict of its own."""

    PASS = "pass"  # noqa: S105  (a verdict, not a password)
    FAIL = "fail"
    NO_DATA = "no_data"


class SourceKind(StrEnum):
    """Independent kinds of evidence; two queries of one kind are one source."""

    METRICS = "metrics"
    TRACES = "traces"
    LOGS = "logs"
    EVENTS = "events"
    CHANGES = "changes"
    TOPOLOGY = "topology"


class IntentState(StrEnum):
    """Life of an act: written before, settled after."""

    INTENDED = "intended"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ApprovalState(StrEnum):
    """Life of a request for approval. Only APPROVED can be consumed, once."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    CONSUMED = "consumed"


class RequesterKind(StrEnum):
    """Who asks for an action."""

    AGENT = "agent"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Event:
    """One normalised thing that happened. `event_id` is stable: the same delivery twice is one
    event.

    `correlation` groups events of one incident (environment/service for now). `labels` are
    identifiers checked against the catalogue before use; `text` is free text from outside, tainted.
    `request` is set for kind REQUEST only: {"tool", "arguments", "target"}.
    """

    event_id: str
    kind: EventKind
    source: str
    service: str
    environment: str
    at_ms: int
    correlation: str
    resolved: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    request: JsonObject | None = None
    requester: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an agent claims, with the evidence it stands on.

    `evidence` are ids handed out by the `Reader`; a finding that cites none is dropped. `kind` is a
    closed word of the agent ("burn_rate", "guilty_change", "no_guilty_change", "instance_fault",
    "external_dependency", ...). `subject` is a catalogue name: a service, an instance, a change id.
    `counter_evidence` speaks against it.
    """

    agent: str
    kind: str
    claim: str
    subject: str
    evidence: tuple[str, ...]
    sources: tuple[SourceKind, ...]
    confidence_bp: int
    counter_evidence: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    service: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An action that an agent would like. Plain data; proposing is not permission.

    `arguments` are absolute ("to_revision": 41), never relative. `inverse` is {"tool", "arguments"}
    or None. `evidence` are the ids that its reasoning rests on; code derives the number of
    independent sources from them.
    """

    agent: str
    tool: str
    target: str
    service: str
    arguments: JsonObject
    reason: str
    expected_effect: str
    evidence: tuple[str, ...] = ()
    runbook: str = ""
    reversible: bool = False
    blast_radius_bp: int = 0
    inverse: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One exact action: what the gate judges, what an approval binds, what an executor runs.

    `action_id` is fixed before the gate: the digest of (incident, target, tool, canonical
    arguments, ordinal). `target_revision` is the digest of the target's desired specification
    (generation, image, configuration).
    """

    action_id: str
    incident_id: str
    tool: str
    target: str
    service: str
    environment: str
    arguments: JsonObject
    target_revision: str
    agent: str
    requester: str
    requester_kind: RequesterKind = RequesterKind.AGENT
    ordinal: int = 0


FactScalar: TypeAlias = "bool | int | str"


@dataclass(frozen=True, slots=True)
class Fact:
    """A computed fact: value, when it was true, and where it was read. Never taken from a model or
    a log line.
    """

    value: FactScalar
    at_ms: int
    source: str


@dataclass(frozen=True, slots=True)
class ApprovalNeed:
    """What a `require_approval` verdict asks for."""

    role: str
    need: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Vote:
    """One authenticated person's answer."""

    person: str
    roles: tuple[str, ...]
    approve: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Approval:
    """The ledger's record of one request for approval, bound to one action digest and policy
    version.
    """

    approval_id: str
    action_id: str
    action_digest: str
    policy_version: str
    state: ApprovalState
    requester: str
    role: str
    need: int
    requested_ms: int
    expires_ms: int
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer. `effect` holds; `decided` is what the rules alone said (they differ under
    observe/suggest,
    or when an approval lifted `require_approval`). `rules` are the ids of the rules that decided or
    matched, worst first.
    """

    effect: Effect
    decided: Effect
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    mode: Mode
    policy_version: str
    obligations: Mapping[str, int] = field(default_factory=dict)
    approval: ApprovalNeed | None = None
    escalate_to: str = ""
    approval_id: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """Single-use leave to run one exact action; only the gate's office in this process can make
    one.
    """

    action_id: str
    action_digest: str
    policy_version: str
    expires_ms: int
    nonce: str
    mac: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an executor saw: state before and after (small JSON), and one plain sentence."""

    state: IntentState
    detail: str
    before: JsonObject = field(default_factory=dict)
    after: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Incident:
    """One correlated incident. `correlation` is unique among the open ones."""

    incident_id: str
    correlation: str
    service: str
    environment: str
    severity: Severity
    state: str  # open | mitigating | monitoring | resolved | escalated
    detected_ms: int
    mitigated_ms: int = 0
    resolved_ms: int = 0
    cause: str = ""


class SignalType(StrEnum):
    """The six operational kinds of signal in the specification."""

    RELIABILITY = "reliability"
    ADOPTION = "adoption"
    PERFORMANCE = "performance"
    CAPACITY = "capacity"
    CUSTOMER = "customer"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Signal:
    """An observation for the discovery loop; becomes one immutable file under work/signals/."""

    signal_type: SignalType
    slug: str
    title: str
    observation: str
    urgency: str  # immediate | next-cycle | monitor
    impact: str  # high | medium | low
    confidence: str  # high | medium | low
    affected: tuple[str, ...]
    reference: str
