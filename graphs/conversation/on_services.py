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
from loop4.graphs.conversation.lookout import Lookout
from loop4.graphs.conversation.names import Names
from loop4.graphs.conversation.sheet import Sheet, joined, named, quoted
from loop4.policies.catalogue import Service
from loop4.policies.targets import Target
from loop4.tools.backends.ports import Change, Inventory, Series
from loop4.tools.reader import Read, Reader
from loop4.tools.work_items import clock_of, percent, utc

DEFAULT_MINUTES = 60
_UNITS = {"hour": 60, "hours": 60, "h": 60, "day": 1440, "days": 1440}
MOST_CHANGES = 20
MOST_MINUTES = 1_440
WINDOWS_S = (604_800, 259_200, 86_400, 21_600)  # tried in turn where longer reads are denied


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
            f"  {named(one.instance)}: {named(one.state)}, version {named(one.version)} "
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
    word = "breached" if burn.reading is Reading.FAIL else "not breached"
    return (
        f"{target.name}: {word}; {percent(burn.ratio_bp)} fail over {window.short_s} s and "
        f"{percent(burn.long_ratio_bp)} over {window.long_s} s (objective "
        f"{percent(target.objective_bp)}): the budget burns at {_times(burn, burn.ratio_bp):.1f}x "
        f"and {_times(burn, burn.long_ratio_bp):.1f}x, a breach is both over {window.factor:g}x"
    )


def _times(burn: Burn, ratio_bp: int) -> float:
    budget_bp = 10_000 - burn.target.objective_bp
    return ratio_bp / budget_bp if budget_bp else 0.0


def _burn_body(burn: Burn) -> dict[str, Json]:
    return {
        "target": burn.target.name,
        "reading": burn.reading.value,
        "failing_bp": burn.ratio_bp,
        "burn_rate": round(_times(burn, burn.ratio_bp), 2),
        "long_burn_rate": round(_times(burn, burn.long_ratio_bp), 2),
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
    reader, wanted_s = look.reader(environment), target.budget_window_s
    for window_s in (wanted_s, *(w for w in WINDOWS_S if w < wanted_s)):
        total = await reader.query(target.total_query(window_s), look.now_ms)
        good = await reader.query(target.good_query(window_s), look.now_ms)
        if not total.denied and not good.denied:
            break
    requests, well = _value(total), _value(good)
    days = f"{window_s / 86_400:g} days"
    if requests is None or well is None or requests < 1:
        gap = total.denied or total.missing or good.denied or good.missing
        look.sheet.line(f"{target.name}: no data over {days} ({quoted(gap, 120)})")
        return {"target": target.name, "left_bp": None}
    failed = max(0.0, requests - well)
    used = failed / requests / target.budget_ratio if target.budget_ratio else 0.0
    left_bp = round((1 - used) * 10_000)
    shorter = "" if window_s == wanted_s else f"; {wanted_s // 86_400} days may not be read at once"
    word = f"{percent(left_bp)} is left" if left_bp >= 0 else f"overspent by {percent(-left_bp)}"
    look.sheet.line(
        f"{target.name}: {word}; {failed:.0f} of {requests:.0f} requests failed, "
        f"the budget is {percent(10_000 - target.objective_bp)} "
        f"(over what was recorded in {days}{shorter})",
        total.evidence,
        good.evidence,
        f"file policies/targets/{_name(target.file)}:{target.line}" if target.file else "",
    )
    return {
        "target": target.name,
        "left_bp": left_bp,
        "requests": round(requests),
        "failed": round(failed),
        "window_s": window_s,
        "evidence": [total.evidence, good.evidence],
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
    start_ms = look.now_ms - minutes * 60_000
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
            look.sheet.line(
                _change_sentence(change, look.now_ms), named(change.change_id), read.evidence
            )
            bodies.append(_change_body(change))
    look.sheet.body["changes"] = bodies


def _minutes(slots: Slots) -> int:
    unit = next((_UNITS[w] for w in slots.words if w in _UNITS), 1)
    return max(1, min(MOST_MINUTES, (slots.number or DEFAULT_MINUTES) * unit))


def _change_sentence(change: Change, now_ms: int) -> str:
    what = named(change.kind)
    if change.kind in ("deploy", "rollback"):
        what = (
            f"{change.kind} of revision {change.to_revision} ({named(change.to_version)}) "
            f"after {change.from_revision} ({named(change.from_version)}), "
            f"given {percent(change.weight_bp)} of its traffic"
        )
    whose = f"by {named(change.actor)}" + (" (an act of ours)" if change.mark else "")
    where = named(change.instance or change.service)
    note = f"; its text: {len(change.text)} characters, not quoted" if change.text else ""
    return f"{clock_of(change.at_ms, now_ms)} {where}: {what}, {whose}{note}"


def _change_body(change: Change) -> dict[str, Json]:
    return {
        "change": named(change.change_id),
        "at_ms": change.at_ms,
        "kind": named(change.kind),
        "service": named(change.service),
        "from_revision": change.from_revision,
        "to_revision": change.to_revision,
        "weight_bp": change.weight_bp,
        "actor": named(change.actor),
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
