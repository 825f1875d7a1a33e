"""Answers about acts: may this run, why not, who could allow it; and the request that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loop4.canonical import digest
from loop4.domain import Effect, Event, EventKind, FactScalar, Json, Mode, ToolClass
from loop4.graphs.conversation.intents import VERBS, Slots
from loop4.graphs.conversation.judgement import Act, Judgement, Side, body_of
from loop4.graphs.conversation.on_services import Looking
from loop4.graphs.conversation.sheet import AnswerKind, joined, named, quoted, shown
from loop4.policies.people import Person
from loop4.tools.backends.ports import Workload
from loop4.tools.work_items import clock_of

OFFER_MS = 300_000
SILENCE_MS = 3_600_000
FACTS_A_LINE = 5
_WORDS = {
    Effect.ALLOW: "allowed",
    Effect.REQUIRE_APPROVAL: "only with an approval",
    Effect.ESCALATE: "not on my own; a person must own it",
    Effect.DENY: "denied",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """An act that was shown and waits for a yes, up to `until_ms`. What is asked is exactly it."""

    act: Act
    person: Person
    until_ms: int


def act_of(look: Looking, slots: Slots) -> Act | None:
    """The exact act that the words mean; None if something is missing, and the sheet says what."""
    verb = slots.verb
    if verb is None or not slots.service:
        _missing(look, "name a service or a replica")
        return None
    environment = look.lookout.documents.catalogue.require(slots.service).environment
    workload = look.inventory.workload(slots.service) if look.inventory else None
    target, arguments = slots.service, dict[str, Json]()
    match verb.tool:
        case "workloads.restart":
            target = slots.instance
            if not target:
                replicas = joined(look.names.replicas(slots.service), "none is known")
                _missing(look, f"a restart is of one replica; which one: {replicas}")
                return None
            arguments = {"instance": target, "restarted_at_ms": look.now_ms}
        case "deployments.roll_back":
            revision = slots.number if slots.number is not None else _previous(workload)
            if revision is None or not _has(look, workload, revision):
                return None
            arguments = {"service": slots.service, "to_revision": revision}
        case "workloads.scale":
            if slots.number is None:
                _missing(look, f"say to how many replicas, e.g. scale {slots.service} to 4")
                return None
            arguments = {"service": slots.service, "replicas": slots.number}
        case _:
            arguments = {
                "matcher": f"service={slots.service}",
                "expires_ms": look.now_ms + SILENCE_MS,
            }
    return Act(verb.tool, target, slots.service, environment, arguments)


def _missing(look: Looking, text: str) -> None:
    look.sheet.kind = AnswerKind.INCOMPLETE
    look.sheet.line(text)


def _previous(workload: Workload | None) -> int | None:
    """The revision before the present one: the newest older one that the orchestrator has."""
    if workload is None:
        return None
    older = [r.revision for r in workload.revisions if r.revision < workload.current_revision]
    return max(older, default=None)


def _has(look: Looking, workload: Workload | None, revision: int) -> bool:
    if workload is None:
        look.sheet.no_data("what runs could not be read, so no revision is known")
        return False
    known = sorted(r.revision for r in workload.revisions)
    if revision in known:
        return True
    listed = joined([str(r) for r in known])
    _missing(look, f"{workload.service} has no revision {revision}; on record: {listed}")
    return False


def tell(look: Looking, judged: Judgement, *, full: bool = False) -> None:
    """The judgement in words: both verdicts with rules, reasons and facts, and who could allow
    it.
    """
    where = f", in {judged.incident_id}" if judged.incident_id else ""
    look.sheet.line(
        f"{_sentence(judged.act)}, judged as of {clock_of(judged.at_ms, judged.at_ms)} UTC{where}; "
        "nothing is recorded and nothing runs",
        f"policy {judged.fleet.verdict.policy_version[:12]}",
    )
    _tell_side(look, "on my own", judged.fleet, full=full)
    if judged.runbook:
        look.sheet.line(
            f"    it rests on runbook {judged.runbook} and on the incident's evidence",
            *judged.cited,
        )
    _tell_side(look, "asked for by a person", judged.person, full=full)
    who_could(look, judged)
    look.sheet.body["judgement"] = {
        "tool": judged.act.tool,
        "target": judged.act.target,
        "arguments": judged.act.arguments,
        "incident": judged.incident_id,
        "fleet": body_of(judged.fleet),
        "person": body_of(judged.person),
    }


def _sentence(act: Act) -> str:
    given = ", ".join(f"{k}: {named(v)}" for k, v in sorted(act.arguments.items()))
    return f"{act.tool} on {named(act.target)} {{{given}}} in {act.environment}"


def _tell_side(look: Looking, who: str, side: Side, *, full: bool) -> None:
    verdict = side.verdict
    mode = f", mode {verdict.mode.value}" if verdict.mode is not Mode.ACT else ""
    look.sheet.line(
        f"  {who}: {_WORDS[verdict.effect]} ({verdict.effect.value}{mode})",
        *(f"rule {r}" for r in verdict.rules),
    )
    for reason in verdict.reasons:
        look.sheet.line(f"    because {shown(str(reason), 240)}")
    names = tuple(sorted(side.facts)) if full else side.decisive
    seen = [
        f"{n} = {_value(side.facts[n].value)} ({quoted(side.facts[n].source)})"
        for n in names
        if n in side.facts
    ]
    for start in range(0, len(seen), FACTS_A_LINE):
        look.sheet.line(f"    facts: {', '.join(seen[start : start + FACTS_A_LINE])}")


def _value(value: FactScalar) -> str:
    return str(value).lower() if isinstance(value, bool) else named(value)


def who_could(look: Looking, judged: Judgement) -> None:
    """Which people, by which way, could make this act happen; or that nobody can."""
    own, asked = judged.fleet.verdict, judged.person.verdict
    if own.effect is Effect.ALLOW:
        look.sheet.line("  who could allow it: nobody needs to; inside the rules I may do it")
    elif own.effect is Effect.REQUIRE_APPROVAL and own.approval is not None:
        if asked.effect is own.effect and asked.approval == own.approval:
            _approvers(look, own.approval.role, own.approval.need, "whoever proposes it")
            return
        _approvers(look, own.approval.role, own.approval.need, "if I propose it")
    match asked.effect:
        case Effect.ALLOW:
            people = [p.name for p in look.lookout.people.persons]
            look.sheet.line(
                f"  who could ask for it, and it would run: {joined(people, 'nobody is named')}, "
                "each in their own name",
                "file policies/people.yaml",
            )
        case Effect.REQUIRE_APPROVAL if asked.approval is not None:
            _approvers(look, asked.approval.role, asked.approval.need, "if a person asks for it")
        case _:
            look.sheet.line(
                "  nobody can allow it as it stands: an approval lifts no deny; only other facts "
                "or an approved change of the rules would"
            )


def _approvers(look: Looking, role: str, need: int, when: str) -> None:
    people = look.lookout.people_of(role)
    look.sheet.line(
        f"  who could allow it {when}: {need} of role {role} "
        f"({joined(people, 'nobody holds it')}), never the one who asks; with "
        "`loop4 approvals approve ID`",
        "file policies/people.yaml",
    )


def what_may(look: Looking) -> None:
    """How far the fleet may go, per environment: the mode, and what each tool can do at all."""
    fleet, catalogue = look.lookout.fleet(), look.lookout.documents.catalogue
    with fleet.ledger.read() as tx:
        policy = fleet.in_force(tx, look.lookout.documents.policy)
    environments = sorted({s.environment for s in catalogue.services})
    bodies: list[Json] = []
    for tool in sorted(policy.tools.values(), key=lambda t: t.name):
        if tool.tool_class is not ToolClass.WRITE:
            continue
        runs = policy.executors is None or tool.name in policy.executors
        rules = [r.rule_id for r in policy.rules if tool.name in r.match.tools]
        allowing = [r for r in policy.rules if tool.name in r.match.tools]
        allowing = [r for r in allowing if r.effect is Effect.ALLOW]
        modes = {e: policy.mode_of(tool.name, e, "").value for e in environments}
        bodies.append({"tool": tool.name, "runs": runs, "modes": modes, "rules": list(rules)})
        if not runs:
            continue
        told = ", ".join(f"{e}: {m}" for e, m in modes.items())
        look.sheet.line(
            f"{tool.name} ({quoted(tool.effect, 80)}): {told}; allowed by",
            *(f"rule {r.rule_id}" for r in allowing),
        )
    declared = [str(b["tool"]) for b in bodies if isinstance(b, Mapping) and not b["runs"]]
    look.sheet.line(f"declared, but nothing here can run them: {joined(declared)}")
    look.sheet.line(
        "every act also passes the limits that hold for all writes", "file policies/rules"
    )
    look.sheet.body["tools"] = bodies


def unknown_act(look: Looking) -> None:
    """An act that no tool here does."""
    look.sheet.kind = AnswerKind.NOT_UNDERSTOOD
    look.sheet.line(
        f"I know no such act. I can judge: {', '.join(v.name for v in VERBS)}; with the name of a "
        "service or replica, e.g. `may you roll back orders?`"
    )


def offer(look: Looking, judged: Judgement, person: Person | None) -> Offer | None:
    """Show exactly what would be asked for, and as whom. None if nobody is signed in."""
    act = judged.act
    look.sheet.line(f"what would be asked for: {_sentence(act)}")
    _tell_side(look, "the gate would say", judged.person, full=False)
    who_could(look, judged)
    look.sheet.body["judgement"] = {
        "tool": act.tool,
        "target": act.target,
        "arguments": act.arguments,
        "person": body_of(judged.person),
    }
    if person is None:
        people = [f"{p.name} ({joined(p.roles)})" for p in look.lookout.people.persons]
        look.sheet.kind = AnswerKind.REFUSED
        look.sheet.line(
            "nobody is signed in, so nothing is asked for: a request carries a person's name. Who "
            f"could: {joined(people, 'nobody is named')}, each with their own token in LOOP4_TOKEN",
            "file policies/people.yaml",
        )
        return None
    look.sheet.kind = AnswerKind.ASKS
    look.sheet.line(
        f"requester: {person.name} ({joined(person.roles)}), by the token in LOOP4_TOKEN"
    )
    return Offer(act, person, look.now_ms + OFFER_MS)


def event_of(made: Offer, now_ms: int) -> Event:
    """The request as an event. The gate judges it when the run reaches it, not now."""
    act = made.act
    fixed = digest({"tool": act.tool, "target": act.target, "arguments": act.arguments})
    event_id = f"request:{made.person.name}:{fixed[:12]}:{now_ms}"
    return Event(
        event_id=event_id,
        kind=EventKind.REQUEST,
        source="chat",
        service=act.service,
        environment=act.environment,
        at_ms=now_ms,
        correlation=f"request/{act.environment}/{act.service}/{event_id}",
        request={"tool": act.tool, "target": act.target, "arguments": act.arguments},
        requester=made.person.name,
    )
