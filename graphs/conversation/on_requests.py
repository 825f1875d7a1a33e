"""What a conversation may set going: a person's request for an act, and a note to a live run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from loop4.domain import Json
from loop4.graphs.conversation.desk import Desk
from loop4.graphs.conversation.intents import Slots
from loop4.graphs.conversation.on_actions import Offer, event_of
from loop4.graphs.conversation.on_incidents import act_cites, act_sentence, chosen, pending
from loop4.graphs.conversation.on_services import Looking, service
from loop4.graphs.conversation.sheet import AnswerKind, joined, named, quoted, shown
from loop4.graphs.triage import related
from loop4.ledger import approvals, evidence, intents
from loop4.policies.people import Person


async def submit(look: Looking, desk: Desk, made: Offer) -> str:
    """Hand the offered act to the fleet as that person's request; say how far it came. Returns its
    incident.
    """
    if look.now_ms > made.until_ms:
        look.sheet.kind = AnswerKind.REFUSED
        look.sheet.line("that was more than 5 minutes ago and things have moved; ask for it again")
        return ""
    event = event_of(made, look.now_ms)
    done = await desk.submit(event, look.now_ms)
    look.sheet.kind = AnswerKind.SUBMITTED
    look.sheet.body["event"] = event.event_id
    look.sheet.body["incident"] = done.incident_id
    if not done.incident_id:
        look.sheet.line(
            "the request lies in the ledger; the runner that lives there takes it up at its next "
            "beat. Ask `what is pending?` in a moment",
            f"event {event.event_id}",
        )
        return ""
    who = "the live runner took it up" if done.by_live_runner else "the fleet took it up"
    look.sheet.line(
        f"{who} as {done.incident_id}, asked by {made.person.name}", f"event {event.event_id}"
    )
    _tell_result(look, done.incident_id)
    return done.incident_id


def _tell_result(look: Looking, incident_id: str) -> None:
    with look.lookout.fleet().ledger.read() as tx:
        rows = evidence.list_records(tx, incident_id, kinds=("decision", "violation"))
        acts = [a for a in intents.list_all(tx, incident_id=incident_id) if _is_act(a.arguments)]
        waiting = [r for r in approvals.pending(tx) if r.incident_id == incident_id]
    for row in rows:
        if row.kind == "violation":
            look.sheet.line(f"it failed: {quoted(row.body['what'], 200)}", f"evidence #{row.seq}")
        elif _is_act(cast("Mapping[str, Json]", row.body["arguments"])):
            rules = [str(r) for r in cast("Sequence[Json]", row.body["rules"])]
            look.sheet.line(
                f"the gate: {quoted(row.body['effect'])}",
                f"evidence #{row.seq}",
                *(f"rule {quoted(r)}" for r in rules),
            )
            for reason in cast("Sequence[Json]", row.body["reasons"]):
                look.sheet.line(f"  because {shown(str(reason), 240)}")
    for act in acts:
        look.sheet.line(act_sentence(act, look.now_ms), *act_cites(look, act))
    if waiting:
        pending(look)
    elif not acts:
        look.sheet.line("nothing was changed", f"incident {incident_id}")


def _is_act(arguments: Mapping[str, Json]) -> bool:
    return "path" not in arguments


async def note(
    look: Looking, desk: Desk | None, person: Person | None, slots: Slots, remembered: str
) -> str:
    """Record that a person wants a service looked at, for the live run; and look at it now."""
    fleet = look.lookout.fleet()
    asked = Slots(service="" if remembered else slots.service)
    incident = chosen(look, asked, remembered)
    if incident is None or incident.state == "resolved":
        look.sheet.line(
            "no investigation is running that a note could steer; this is how it is now:"
        )
        await service(look, slots)
        return ""
    environment = fleet.catalogue.require(slots.service).environment
    if environment != incident.environment:
        look.sheet.line(
            f"{slots.service} is in {environment}, {incident.incident_id} in "
            f"{incident.environment}; one run looks at one environment, so it cannot be "
            "steered there"
        )
    elif desk is None or person is None:
        people = [p.name for p in look.lookout.people.persons]
        look.sheet.kind = AnswerKind.REFUSED
        look.sheet.line(
            f"a note to a run carries a name, and nobody is signed in (LOOP4_TOKEN); who could: "
            f"{joined(people, 'nobody is named')}. This is how it is now:",
            "file policies/people.yaml",
        )
    else:
        _leave(look, desk, person, incident.incident_id, incident.service, slots.service)
    await service(look, slots)
    return incident.incident_id


def _leave(
    look: Looking, desk: Desk, person: Person, incident_id: str, origin: str, wanted: str
) -> None:
    run_id = desk.note(incident_id, wanted, person, look.now_ms)
    if not run_id:
        look.sheet.line(f"no run of {incident_id} lives any more, so nothing can be steered")
        return
    look.sheet.kind = AnswerKind.SUBMITTED
    inside = wanted in related(look.lookout.fleet(), origin)
    scope = (
        f"{wanted} is tied to {origin}, so the run reads it already"
        if inside
        else f"{wanted} is not tied to {origin} in the catalogue, so the run will not read it"
    )
    look.sheet.line(
        f"noted for {incident_id}: {person.name} wants {wanted} looked at; the run measures again "
        f"at its next look. {scope}. This is how it is now:",
        f"run {run_id}",
        f"incident {incident_id}",
    )


def who_did(look: Looking, incident_id: str) -> None:
    """Who proposed, asked for and approved the acts of an incident."""
    with look.lookout.fleet().ledger.read() as tx:
        acts = intents.list_all(tx, incident_id=incident_id)
        rows = evidence.list_records(tx, incident_id, kinds=("decision", "vote"))
    told = 0
    for act in acts:
        if not _is_act(act.arguments):
            continue
        told += 1
        decided = [r for r in rows if r.kind == "decision" and r.action_id == act.action_id]
        asked = joined(sorted({named(r.body["requester"]) for r in decided}), "unknown")
        look.sheet.line(
            f"{act.tool} on {named(act.target)}: asked for by {asked}",
            *(f"evidence #{r.seq}" for r in decided),
        )
    for row in rows:
        if row.kind == "vote":
            word = "approved" if row.body.get("approve") else "rejected"
            look.sheet.line(
                f"{named(row.body['person'])} {word} {named(row.body['approval_id'])}",
                f"evidence #{row.seq}",
            )
    if not told:
        look.sheet.line(f"nothing was done in {incident_id}", f"incident {incident_id}")
