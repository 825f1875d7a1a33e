"""What a model may cite: short names for evidence ids, and the names that exist.

`E3` costs two tokens and is copied without a slip; an id of twenty characters is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loop4.agents.agent import Brief
from loop4.agents.investigation import Investigation, related_services
from loop4.canonical import digest
from loop4.domain import SourceKind
from loop4.tools.backends.ports import Change, Inventory
from loop4.tools.names import UNNAMED
from loop4.tools.reader import Reader, ReadRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,79}")
_NOTHING = digest(None)


class EvidenceBook:
    """Evidence ids under short names, in order of their first showing."""

    def __init__(self, reader: Reader, shown: Iterable[str] = ()) -> None:
        self._reader = reader
        self._ids: list[str] = []
        for evidence in shown:
            self.show(evidence)

    def show(self, evidence: str) -> str:
        """The short name of an id; a new one the first time."""
        if evidence not in self._ids:
            self._ids.append(evidence)
        return f"E{self._ids.index(evidence) + 1}"

    def names(self) -> list[str]:
        """All short names."""
        return [f"E{n}" for n in range(1, len(self._ids) + 1)]

    def records(self) -> list[tuple[str, ReadRecord]]:
        """Short name and record of everything shown."""
        known = self._reader.records
        return [(self.show(e), known[e]) for e in self._ids if e in known]

    def resolve(
        self, names: Iterable[str]
    ) -> tuple[tuple[str, ...], tuple[SourceKind, ...]] | None:
        """The ids and their independent sources; None when one is unknown or gave no value."""
        ids: list[str] = []
        sources: set[SourceKind] = set()
        short = self.names()
        for name in names:
            if name not in short:
                return None
            evidence = self._ids[short.index(name)]
            record = self._reader.records.get(evidence)
            if record is None or record.denied or record.answer_digest == _NOTHING:
                return None
            if evidence not in ids:
                ids.append(evidence)
            sources.add(record.source)
        return tuple(ids), tuple(s for s in SourceKind if s in sources)


@dataclass(frozen=True, slots=True)
class Names:
    """What exists and belongs to the incident, from catalogue, inventory and change history.

    Only what has the shape of a name: a sentence in a name's place is no name, and nothing answers
    to what the Reader calls it instead.
    """

    services: tuple[str, ...]
    externals: tuple[str, ...]
    instances: tuple[str, ...]
    changes: tuple[str, ...]
    inventory: Inventory | None = None
    history: tuple[Change, ...] = field(default=())

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everything that a finding can be about."""
        return (*self.services, *self.externals, *self.instances, *self.changes)


def names_of(brief: Brief, seen: Investigation) -> Names:
    """The names of one incident."""
    ours = set(brief.catalogue.names())
    related = related_services(brief)
    services = [n for n in brief.catalogue.names() if n in related]
    workloads = seen.inventory.workloads if seen.inventory is not None else ()
    instances = [i.instance for w in workloads if w.service in services for i in w.instances]
    changes = [c.change_id for c in seen.changes if c.service in ours]
    return Names(
        services=tuple(services),
        externals=tuple(n for n in sorted(brief.catalogue.externals) if n in related),
        instances=_names(instances),
        changes=_names(changes),
        inventory=seen.inventory,
        history=tuple(seen.changes),
    )


def _names(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(n for n in found if _NAME.fullmatch(n) and not n.startswith(UNNAMED))
    )


def is_name(text: str) -> bool:
    """Whether a text has the shape of a name."""
    return _NAME.fullmatch(text) is not None
