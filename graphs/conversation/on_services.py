"""Answers about services: what there is and how it is now, error budgets, what changed, who owns
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loop4.agents.health import Burn, read_target
from loop4.domain import Json, Reading
from loop4.graphs.conversation.intents import Slots
from loop4.graphs.conversation.judgement import open_incident
from loop4.graphs.conversation.lookout import SCOPE_MS, Lookout
from loop4.graphs.conversation.names import Names
from loop4.graphs.conversation.sheet import Sheet, joined, quoted
from loop4.policies.catalogue import Service
from loop4.policies.targets import Target
from loop4.tools.backends.ports import Change, Inventory, Series
from loop4.tools.reader import Read, Reader
from loop4.tools.work_items import clock_of, percent, utc

DEFAULT_MINUTES = 60
_UNITS = {"hour": 60, "hours": 60, "h": 60, "day": 1440, "days": 1440}
MOST_CHANGES = 20


@dataclass(slots=True)
class Looking:
    """One question being answered: what it looks through, and the sheet it writes on."""

    lookout: Lookout
    names: Names
    inventory: Inventory | None
    readers: Mapping[str, Reader]
    sheet: Sheet

    @property
    def now_ms(self) -> int:
        """The moment of the answer."""
        return self.lookout.clock.now_ms()

    def reader(self, environment: str) -> Reader:
        """The reader of an environment."""
        return self.readers[environment]


async def services(look: Looking) -> None:
    """Every service of the catalogue with its targets as they read now."""
    catalogue = look.lookout.documents.catalogue
    if not catalogue.services:
        look.sheet.no_data("the service catalogue is empty (policies/services.yaml)")
    bodies: list[Json] = [await _service(look, s) for s in catalogue.services]
    if catalogue.externals:
        look.sheet.line(
            f"not ours, but called: {', '.join(catalogue.externals)}",
            "file policies/services.yaml",
        )
    look.sheet.body["services"] = bodies


async def service(look: Looking, slots: Slots) -> None:
    """One service with its targets, its replicas and its open incident."""
    found = look.lookout.documents.catalogue.require(slots.service)
    look.sheet.body["services"] = [await _service(look, found)]
    workload = look.inventory.workload(found.name) if look.inventory else None
    if workload is None:
        look.sheet.no_data(f"what runs of {found.name} could not be read")
        return
    for one in sorted(workload.instances, key=lambda i: i.instance):
        ejected = ", taken out of routing" if one.ejected else ""
        look.sheet.line(
            f"  {quoted(one.instance)}: {quoted(one.state)}, version {quoted(one.version, 40)} "
            f"(revision {one.revision}), {percent(one.weight_bp)} of the service's traffic, "
            f"{one.restarts} respawns{ejected}"
        )


async def _service(look: Looking, found: Service) -> dict[str, Json]:
    workload = look.inventory.workload(found.name) if look.inventory else None
    ready = sum(i.state == "ready" for i in workload.instances) if workload else 0
    total = len(workload.instances) if workload else 0
    fleet = look.lookout.fleet()
    incident = open_incident(fleet, found.name)
    trouble = f"; {incident.incident_id} is open" if incident else ""
    running = f"{ready} of {total} replicas ready" if workload else "replicas unknown"
    look.sheet.line(
        f"{found.name}: tier {found.tier}, {found.environment}, {running}, "
        f"calls {joined(found.depends_on, 'nobody')}{trouble}",
        "file policies/services.yaml",
    )
    burns = []
    for target in fleet.targets:
        if target.service == found.name:
            burn = await read_target(look.reader(found.environment), target, look.now_ms)
            look.sheet.line(f"  {_burn_sentence(burn)}", *burn.evidence[-2:])
            burns.append(_burn_body(burn))
    if not burns:
        look.sheet.no_data(f"no target file speaks of {found.name}")
    return {
        "service": found.name,
        "tier": found.tier,
        "environment": found.environment,
        "ready": ready,
        "replicas": total,
        "incident": incident.incident_id if incident else "",
        "targets": list(burns),
    }


def _burn_sentence(burn: Burn) -> str:
    target, window = burn.target, burn.window
    if burn.reading is Reading.NO_DATA:
        return f"{target.name}: no data ({quoted(burn.missing, 120)})"
    word = "missed" if burn.reading is Reading.FAIL else "met"
    return (
        f"{target.name}: {word}, {percent(burn.ratio_bp)} fail over {window.short_s} s "
        f"(objective {percent(target.objective_bp)}), budget burns at {_times(burn):.1f}x, "
        f"the alert line is {window.factor:g}x"
    )


def _times(burn: Burn) -> float:
    budget_bp = 10_000 - burn.target.objective_bp
    return burn.ratio_bp / budget_bp if budget_bp else 0.0


def _burn_body(burn: Burn) -> dict[str, Json]:
    return {
        "target": burn.target.name,
        "reading": burn.reading.value,
        "failing_bp": burn.ratio_bp,
        "burn_rate": round(_times(burn), 2),
        "missing": burn.missing,
        "evidence": list(burn.evidence),
    }


async def budgets(look: Looking, slots: Slots) -> None:
    """What is left of the error budgets, of one service or of all."""
    fleet = look.lookout.fleet()
    targets = [t for t in fleet.targets if slots.service in ("", t.service)]
    if not targets:
        look.sheet.no_data(f"no target file speaks of {slots.service or 'any service'}")
    bodies: list[Json] = []
    for target in targets:
        found = fleet.catalogue.service(target.service)
        if found is not None:
            bodies.append(await _budget(look, target, found.environment))
    look.sheet.body["budgets"] = bodies


async def _budget(look: Looking, target: Target, environment: str) -> dict[str, Json]:
    reader, window_s = look.reader(environment), target.budget_window_s
    total = await reader.query(target.total_query(window_s), look.now_ms)
    ratio = await reader.query(target.error_ratio_query(window_s), look.now_ms)
    requests, failing = _value(total), _value(ratio)
    days = f"{window_s / 86_400:g} days"
    if requests is None or failing is None or requests < 1:
        look.sheet.line(f"{target.name}: no data over {days} ({quoted(ratio.missing, 120)})")
        return {"target": target.name, "left_bp": None}
    used = failing / target.budget_ratio if target.budget_ratio else 0.0
    left_bp = round((1 - used) * 10_000)
    word = f"{percent(left_bp)} is left" if left_bp >= 0 else f"overspent by {percent(-left_bp)}"
    look.sheet.line(
        f"{target.name}: {word}; {failing * requests:.0f} of {requests:.0f} requests failed, the "
        f"budget is {percent(10_000 - target.objective_bp)} (window {days}, over what was recorded)",
        total.evidence,
        ratio.evidence,
        f"file policies/targets/{_name(target.file)}:{target.line}" if target.file else "",
    )
    return {
        "target": target.name,
        "left_bp": left_bp,
        "requests": round(requests),
        "failed": round(failing * requests),
        "evidence": [total.evidence, ratio.evidence],
    }


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _value(read: Read[Sequence[Series]]) -> float | None:
    series = read.value
    if not series or not series[0].points:
        return None
    value = series[0].points[-1][1]
    return None if value != value else value  # NaN: no requests


async def changes(look: Looking, slots: Slots) -> None:
    """What changed, newest first. A change's own text is named by digest only."""
    minutes = _minutes(slots)
    start_ms = look.now_ms - min(minutes * 60_000, SCOPE_MS)
    bodies: list[Json] = []
    for environment, reader in sorted(look.readers.items()):
        read = await reader.changes(start_ms, look.now_ms + 1)
        if read.value is None and "answered with nothing" not in read.missing:
            look.sheet.gap(read)
            continue
        near = [c for c in read.value or () if slots.service in ("", c.service)]
        where = f" in {slots.service}" if slots.service else f" in {environment}"
        if not near:
            look.sheet.line(f"nothing changed{where} in the last {minutes} minutes", read.evidence)
        for change in sorted(near, key=lambda c: -c.at_ms)[:MOST_CHANGES]:
            look.sheet.line(_change_sentence(change, look.now_ms), change.change_id, read.evidence)
            bodies.append(_change_body(change))
    look.sheet.body["changes"] = bodies


def _minutes(slots: Slots) -> int:
    unit = next((_UNITS[w] for w in slots.words if w in _UNITS), 1)
    return max(1, min(1440, (slots.number or DEFAULT_MINUTES) * unit))


def _change_sentence(change: Change, now_ms: int) -> str:
    what = change.kind
    if change.kind in ("deploy", "rollback"):
        what = (
            f"{change.kind} of revision {change.to_revision} ({quoted(change.to_version, 40)}) "
            f"after {change.from_revision} ({quoted(change.from_version, 40)}), "
            f"given {percent(change.weight_bp)} of its traffic"
        )
    whose = f"by {quoted(change.actor)}" + (" (an act of ours)" if change.mark else "")
    where = quoted(change.instance or change.service)
    note = f"; its text: {len(change.text)} characters, not quoted" if change.text else ""
    return f"{clock_of(change.at_ms, now_ms)} {where}: {what}, {whose}{note}"


def _change_body(change: Change) -> dict[str, Json]:
    return {
        "change": quoted(change.change_id),
        "at_ms": change.at_ms,
        "kind": quoted(change.kind),
        "service": quoted(change.service),
        "from_revision": change.from_revision,
        "to_revision": change.to_revision,
        "weight_bp": change.weight_bp,
        "actor": quoted(change.actor),
        "ours": bool(change.mark),
    }


def on_call(look: Looking, slots: Slots) -> None:
    """Whom to wake, from the catalogue; and who holds the role that approves."""
    catalogue = look.lookout.documents.catalogue
    bodies: list[Json] = []
    for found in catalogue.services:
        if slots.service in ("", found.name):
            look.sheet.line(
                f"{found.name}: owner {found.owner}, on call {found.primary}"
                + (f", then {found.secondary}" if found.secondary else ""),
                "file policies/services.yaml",
            )
            bodies.append({"service": found.name, "owner": found.owner, "primary": found.primary})
    people = look.lookout.people_of("on-call")
    look.sheet.line(f"may approve as on-call: {joined(people)}", "file policies/people.yaml")
    look.sheet.body["on_call"] = bodies
    look.sheet.body["as_of"] = utc(look.now_ms)
