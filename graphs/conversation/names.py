"""The names that a question may use: of the catalogue, of what runs, and of what is on record."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from loop4.ledger import incidents
from loop4.ledger.ledger import Ledger
from loop4.policies.catalogue import Catalogue
from loop4.tools.backends.ports import Inventory


@dataclass(frozen=True, slots=True)
class Names:
    """Known names. `instances` are (replica, its service)."""

    services: tuple[str, ...]
    externals: tuple[str, ...] = ()
    instances: tuple[tuple[str, str], ...] = ()
    incidents: tuple[str, ...] = ()

    def service_of(self, word: str) -> str:
        """The service that a word names, itself or by one of its replicas; empty if none."""
        if word in self.services:
            return word
        return dict(self.instances).get(word, "")

    def is_instance(self, word: str) -> bool:
        """Whether it is a replica that runs now."""
        return any(word == name for name, _ in self.instances)

    def replicas(self, service: str) -> tuple[str, ...]:
        """The replicas of a service, in order of their names."""
        return tuple(sorted(name for name, of in self.instances if of == service))

    def incident(self, word: str) -> str:
        """The incident id that the word is, whatever its case; empty if none."""
        return next((i for i in self.incidents if i.casefold() == word.casefold()), "")

    def near(self, word: str) -> tuple[str, ...]:
        """Up to three names that look like it, nearest first."""
        replicas = tuple(name for name, _ in self.instances)
        known = (*self.services, *self.externals, *replicas, *self.incidents)
        return tuple(difflib.get_close_matches(word[:80], known, n=3, cutoff=0.6))


def names_of(catalogue: Catalogue, inventory: Inventory | None, ledger: Ledger) -> Names:
    """The names of this moment."""
    with ledger.read() as tx:
        known = tuple(i.incident_id for i in incidents.list_all(tx))
    workloads = inventory.workloads if inventory is not None else ()
    return Names(
        services=catalogue.names(),
        externals=catalogue.externals,
        instances=tuple(
            (i.instance, w.service)
            for w in workloads
            if w.service in catalogue.names()
            for i in w.instances
        ),
        incidents=known,
    )
