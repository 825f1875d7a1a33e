"""What every agent that looks for a cause reads, and the diagnosis made of it.

The reads go through the run's `Reader`, so that two agents asking the same pay once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop4.agents.agent import Brief
from loop4.agents.dependencies import count_dependencies
from loop4.agents.notebook import Notebook
from loop4.agents.versions import count_versions
from loop4.domain import SourceKind
from loop4.tools.analysis.diagnosis.causes import Diagnosis, diagnose
from loop4.tools.analysis.diagnosis.observations import Observations
from loop4.tools.analysis.diagnosis.origin import calls_fail_since, error_origins
from loop4.tools.backends.ports import Change, Instance, Inventory
from loop4.tools.names import label_literal

CHANGE_LOOKBACK_MS = 15 * 60_000
SPAN_LIMIT = 4_000


@dataclass(frozen=True, slots=True)
class Investigation:
    """A diagnosis, the evidence ids it stands on by kind, and what was missing.

    `about_instance`: metrics evidence that concerns one replica alone.
    """

    diagnosis: Diagnosis
    inventory: Inventory | None
    changes: tuple[Change, ...]
    evidence: dict[SourceKind, tuple[str, ...]]
    missing: tuple[str, ...]
    about_instance: dict[str, tuple[str, ...]]

    def cite(self, sources: Sequence[SourceKind]) -> tuple[str, ...]:
        """Evidence ids of these kinds that gave a value, in a fixed order."""
        return tuple(e for s in sources for e in self.evidence.get(s, ()))


async def investigate(brief: Brief) -> Investigation:
    """Read changes, traces, logs, inventory and metrics around the event and diagnose."""
    book = Notebook()
    now_ms = brief.now_ms
    services = related_services(brief)
    long_s = max((t.windows[0].long_s for t in brief.targets if t.service in services), default=60)
    changes_read = await brief.reader.changes(now_ms - CHANGE_LOOKBACK_MS, now_ms)
    book.note(changes_read)
    changes = tuple(c for c in changes_read.value or () if c.service in services)
    inventory_read = await brief.reader.inventory()
    book.note(inventory_read)
    inventory = inventory_read.value
    spans_read = await brief.reader.spans(now_ms - long_s * 1000, now_ms, limit=SPAN_LIMIT)
    book.note(spans_read)
    externals = brief.catalogue.externals
    origins = error_origins(spans_read.value or (), externals)
    for service in sorted({o.service for o in origins[:3]} | _own(brief)):
        book.note(
            await brief.reader.logs(now_ms - long_s * 1000, now_ms, service=service), quiet=True
        )
    failing = {o.service for o in origins}
    counted = await count_versions(brief, book, changes, services, failing, long_s)
    fails_since_ms = calls_fail_since(spans_read.value or (), externals)
    dependencies = await count_dependencies(brief, book, fails_since_ms, long_s)
    seen = Observations(
        onset_ms=now_ms,
        lookback_ms=CHANGE_LOOKBACK_MS,
        changes=changes,
        origins=origins,
        instances=_instances(inventory, services),
        by_version=counted.by_version,
        before_change=counted.before_change,
        first_stretches=counted.first_stretches,
        calls=dependencies.calls,
        probes_bp=dependencies.probes_bp,
        probes_since=dependencies.probes_since,
    )
    return Investigation(
        diagnose(seen),
        inventory,
        changes,
        book.evidence,
        tuple(book.missing),
        await _restarts(brief, book, seen.instances, long_s),
    )


async def _restarts(
    brief: Brief, book: Notebook, instances: Sequence[Instance], long_s: int
) -> dict[str, tuple[str, ...]]:
    """What the metrics say of each replica that is not well: its own respawns, and nothing else."""
    about: dict[str, tuple[str, ...]] = {}
    for sick in instances:
        if sick.restarts < 2 and sick.state not in ("crashed", "backoff"):
            continue
        read = await brief.reader.query(
            f"increase(process_restarts_total{{instance={label_literal(sick.instance)}}}"
            f"[{long_s}s])",
            brief.now_ms,
        )
        book.note(read, quiet=True)
        if read.value is not None:
            about[sick.instance] = (read.evidence,)
    return about


def related_services(brief: Brief) -> frozenset[str]:
    """The event's service, what it depends on and what depends on it."""
    name = brief.event.service
    return frozenset({name, *brief.catalogue.downstream(name), *brief.catalogue.upstream(name)})


def _own(brief: Brief) -> set[str]:
    return {brief.event.service}


def _instances(inventory: Inventory | None, services: frozenset[str]) -> tuple[Instance, ...]:
    if inventory is None:
        return ()
    return tuple(i for w in inventory.workloads if w.service in services for i in w.instances)
