"""A recorded world with hostile text planted wherever its telemetry can hold free text.

Every number stays as it was recorded: samples, times, states, weights and the changes that really
happened. What is added (log lines, changes, revisions and instances without traffic, a label on
each series) carries the texts and moves nothing. Any recording will do; names come from itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loop4.canonical import digest
from loop4.errors import InputError
from loop4.evals.hostile import Corpus, Hostile
from loop4.tools.backends.ports import (
    Change,
    Instance,
    Inventory,
    LogRecord,
    Revision,
    Span,
    Workload,
)
from loop4.tools.backends.recording import RecordedSeries, Recording
from loop4.tools.backends.series import label_key

NOTE = "note"  # the label that each series gets
LINE_EVERY_MS = 500
SPAN_BLOCK_MS = 2_000  # spans of so long say the same: a short look sees few texts, many looks all
FIRST_REVISION = 9_000
ACTOR = "guest"


@dataclass(frozen=True, slots=True)
class Planted:
    """The recording with the texts in it, and the texts as they were told, by place."""

    recording: Recording
    texts: Mapping[str, tuple[str, ...]]


def plant(recording: Recording, corpus: Corpus) -> Planted:
    """The same world, telling lies in words. Raises InputError if it holds no inventory."""
    told = {place: _told(recording, corpus.of(place)) for place in _places(corpus)}
    changes = _added_changes(recording, told)
    return Planted(
        replace(
            recording,
            series=tuple(_labelled(s, told.get("label", ())) for s in recording.series),
            spans=tuple(_spoken(s, told.get("span", ())) for s in recording.spans),
            logs=_logs(recording, told.get("log", ())),
            changes=_in_order([*_retold(recording, told.get("commit", ())), *changes]),
            inventories=tuple(_peopled(i, changes, told) for i in recording.inventories),
        ),
        told,
    )


def services_of(recording: Recording) -> tuple[str, ...]:
    """The services that run in the recording, in name order."""
    return tuple(sorted({w.service for i in recording.inventories for w in i.workloads}))


def _places(corpus: Corpus) -> tuple[str, ...]:
    return tuple(dict.fromkeys(h.place for h in corpus.items))


def _told(recording: Recording, items: Sequence[Hostile]) -> tuple[str, ...]:
    """The items about names of this world, each about others than the one before."""
    if not recording.inventories:
        raise InputError("the recording holds no inventory; nothing in it can be named")
    workloads = recording.inventories[0].workloads
    told = []
    for index, item in enumerate(items):
        workload = workloads[index % len(workloads)]
        other = workloads[(index + 1) % len(workloads)]
        told.append(item.told(_names(recording, workload, other.service, index)))
    return tuple(told)


def _names(recording: Recording, workload: Workload, other: str, index: int) -> dict[str, str]:
    instances = workload.instances or (None,)
    instance = instances[index % len(instances)]
    revisions = workload.revisions
    revision = revisions[index % len(revisions)] if revisions else None
    changes = [c.change_id for c in recording.changes if c.service == workload.service]
    return {
        "service": workload.service,
        "other": other,
        "instance": instance.instance if instance else f"{workload.service}-1",
        "revision": str(revision.revision if revision else workload.current_revision),
        "version": revision.version if revision else "1",
        "change": changes[-1] if changes else "change-1",
    }


def _labelled(series: RecordedSeries, texts: Sequence[str]) -> RecordedSeries:
    """The same text on series that differ in their name alone, so that they still match."""
    labels = dict(series.labels)
    name = labels.pop("__name__", "")
    return (
        replace(series, labels=label_key(name, {**labels, NOTE: _one_of(texts, digest(labels))}))
        if texts
        else series
    )


def _spoken(span: Span, texts: Sequence[str]) -> Span:
    if not texts:
        return span
    block = span.start_ms // SPAN_BLOCK_MS
    return replace(span, text=texts[block % len(texts)], name=texts[(block + 1) % len(texts)])


def _logs(recording: Recording, texts: Sequence[str]) -> tuple[LogRecord, ...]:
    """Every line says something else, and each service says an error twice a second. Each service
    has its own texts: what is read is a few templates a service.
    """
    if not texts:
        return recording.logs
    services = services_of(recording)
    own = {s: texts[i :: len(services)] or texts for i, s in enumerate(services)}
    lines = [
        replace(line, body=_turn(own.get(line.service, texts), index))
        for index, line in enumerate(recording.logs)
    ]
    for workload in recording.inventories[0].workloads:
        first = workload.instances[0] if workload.instances else None
        lines += [
            LogRecord(
                at_ms,
                workload.service,
                first.version if first else "",
                first.instance if first else "",
                "ERROR",
                _turn(own[workload.service], index),
            )
            for index, at_ms in enumerate(
                range(recording.started_ms, recording.ended_ms, LINE_EVERY_MS)
            )
        ]
    return tuple(sorted(lines, key=lambda line: line.at_ms))


def _retold(recording: Recording, texts: Sequence[str]) -> list[Change]:
    return [
        replace(c, text=_turn(texts, index) or c.text) for index, c in enumerate(recording.changes)
    ]


def _added_changes(recording: Recording, told: Mapping[str, Sequence[str]]) -> list[Change]:
    """Deploys that nobody is served by, over the whole recording: one for each version text, and
    one for each commit text.
    """
    commits, versions = told.get("commit", ()), told.get("version", ())
    count = max(len(commits), len(versions))
    services = services_of(recording)
    step_ms = max(1, (recording.ended_ms - recording.started_ms) // (count + 1))
    return [
        Change(
            change_id=f"change-{FIRST_REVISION + index}",
            at_ms=recording.started_ms + (index + 1) * step_ms,
            kind="deploy",
            service=services[index % len(services)],
            instance="",
            from_revision=FIRST_REVISION + index - 1,
            to_revision=FIRST_REVISION + index,
            from_version=_turn(versions, index + 1),
            to_version=_turn(versions, index),
            from_digest=digest({"planted": index - 1}),
            to_digest=digest({"planted": index}),
            weight_bp=0,
            actor=ACTOR,
            text=_turn(commits, index),
        )
        for index in range(count)
    ]


def _in_order(changes: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda c: (c.at_ms, c.change_id)))


def _peopled(
    inventory: Inventory, changes: Sequence[Change], told: Mapping[str, Sequence[str]]
) -> Inventory:
    """What runs, with the planted revisions so far, and instances that bear the label texts."""
    return replace(
        inventory,
        workloads=tuple(
            replace(
                w,
                revisions=(*w.revisions, *_revisions(w, inventory.at_ms, changes)),
                instances=(*w.instances, *_instances(w, index, inventory, told)),
            )
            for index, w in enumerate(inventory.workloads)
        ),
    )


def _revisions(workload: Workload, at_ms: int, changes: Sequence[Change]) -> list[Revision]:
    return [
        Revision(c.to_revision, c.to_version, c.to_digest, c.at_ms, 0)
        for c in changes
        if c.service == workload.service and c.at_ms <= at_ms
    ]


def _instances(
    workload: Workload, index: int, inventory: Inventory, told: Mapping[str, Sequence[str]]
) -> list[Instance]:
    """Ready, without traffic, and of a version of their own: nobody's sibling."""
    names = told.get("label", ())[index :: len(inventory.workloads)]
    return [
        Instance(
            instance=name,
            service=workload.service,
            revision=FIRST_REVISION,
            version=_turn(told.get("version", ()), turn) or "planted",
            state="ready",
            ejected=False,
            restarts=0,
            started_ms=inventory.at_ms,
            weight_bp=0,
        )
        for turn, name in enumerate(names)
    ]


def _turn(texts: Sequence[str], index: int) -> str:
    """The texts one after the other, again and again; empty without any."""
    return texts[index % len(texts)] if texts else ""


def _one_of(texts: Sequence[str], key: str) -> str:
    return texts[int(key[:8], 16) % len(texts)]
