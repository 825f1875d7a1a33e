"""The service catalogue: who owns what, how critical it is, what it calls, and whom to wake."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from loop4.errors import InputError
from loop4.policies.documents import Document, Node, parse_documents, read_documents, unknown

ENVIRONMENTS = ("production", "staging", "development", "lab")

_KINDS = ("ServiceCatalogue",)
_REQUIRED = (
    "name",
    "owner",
    "tier",
    "environment",
    "edge",
    "replicas",
    "restart_budget_1h",
    "on_call",
)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_MAX_REPLICAS = 10_000


@dataclass(frozen=True, slots=True)
class Service:
    """One service of ours. `tier` is 1 (most critical) to 3; `edge` = users call it directly.

    `primary` and `secondary` are people or roles on call; an empty `secondary` means that there is
    none.
    """

    name: str
    owner: str
    tier: int
    environment: str
    edge: bool
    depends_on: tuple[str, ...]
    replicas_min: int
    replicas_max: int
    restart_budget_1h: int
    primary: str
    secondary: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All services of ours and the external dependencies that they call. Names are unique."""

    services: tuple[Service, ...]
    externals: tuple[str, ...] = ()

    def service(self, name: str) -> Service | None:
        """The service of that name, or None."""
        return next((service for service in self.services if service.name == name), None)

    def require(self, name: str) -> Service:
        """The service of that name. Raises InputError naming the nearest one."""
        service = self.service(name)
        if service is None:
            raise InputError(unknown("service", name, self.names()))
        return service

    def is_external(self, name: str) -> bool:
        """True for a dependency that is not ours."""
        return name in self.externals

    def names(self) -> tuple[str, ...]:
        """The names of our services, in order of the file."""
        return tuple(service.name for service in self.services)

    def edge_services(self) -> tuple[Service, ...]:
        """The services that users call directly."""
        return tuple(service for service in self.services if service.edge)

    def downstream(self, name: str) -> tuple[str, ...]:
        """Everything that `name` depends on, directly or not, nearest first, externals included."""
        return _reach(name, {service.name: service.depends_on for service in self.services})

    def upstream(self, name: str) -> tuple[str, ...]:
        """Every service that depends on `name`, directly or not, nearest first."""
        callers: dict[str, list[str]] = {}
        for service in self.services:
            for dependency in service.depends_on:
                callers.setdefault(dependency, []).append(service.name)
        return _reach(name, callers)


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue of a services.yaml file. Raises PolicyError with file, line and column."""
    return _catalogue(read_documents(path, _KINDS))


def parse_catalogue(text: str, *, path: str = "services.yaml") -> Catalogue:
    """The catalogue of a YAML text; `path` is only named in errors."""
    return _catalogue(parse_documents(text, path, _KINDS))


def shipped_catalogue() -> Catalogue:
    """The example catalogue that Loop4 ships, for trying rules without a repository."""
    return load_catalogue(Path(__file__).with_name("services.yaml"))


def _catalogue(documents: list[Document]) -> Catalogue:
    if len(documents) > 1:
        raise documents[1].body.error("a second catalogue in one file; expected one")
    entries = documents[0].spec.fields(("services",), ("externals",))
    externals = _externals(entries["externals"]) if "externals" in entries else {}
    services: dict[str, tuple[Service, Node]] = {}
    for item in entries["services"].one_or_more():
        service = _service(item)
        if service.name in services or service.name in externals:
            raise item.error(f"the name {service.name!r} stands twice; names are unique")
        services[service.name] = (service, item)
    known = (*services, *externals)
    for service, item in services.values():
        _check_dependencies(service, item, known)
    return Catalogue(tuple(service for service, _ in services.values()), tuple(externals))


def _externals(value: Node) -> dict[str, Node]:
    names: dict[str, Node] = {}
    for item in value.items():
        entry = item.fields(("name",), ("owner",))["name"]
        name = _name(entry)
        if name in names:
            raise entry.error(f"the name {name!r} stands twice; names are unique")
        names[name] = entry
    return names


def _service(item: Node) -> Service:
    entry = item.fields(_REQUIRED, ("depends_on",))
    replicas = entry["replicas"].fields(("min", "max"))
    low = replicas["min"].integer(0, _MAX_REPLICAS)
    high = replicas["max"].integer(1, _MAX_REPLICAS)
    if low > high:
        raise entry["replicas"].error(f"min {low} is larger than max {high}")
    on_call = entry["on_call"].fields(("primary",), ("secondary",))
    depends_on = entry["depends_on"].items() if "depends_on" in entry else ()
    return Service(
        name=_name(entry["name"]),
        owner=entry["owner"].text(),
        tier=entry["tier"].integer(1, 3),
        environment=entry["environment"].choice("environment", ENVIRONMENTS),
        edge=entry["edge"].boolean(),
        depends_on=tuple(name.text() for name in depends_on),
        replicas_min=low,
        replicas_max=high,
        restart_budget_1h=entry["restart_budget_1h"].integer(0, 1000),
        primary=on_call["primary"].text(),
        secondary=on_call["secondary"].text() if "secondary" in on_call else "",
    )


def _name(value: Node) -> str:
    name = value.text()
    if not _NAME.fullmatch(name):
        raise value.error(f"found {name!r}, expected a name like 'orders' (a-z, 0-9, '-')")
    return name


def _check_dependencies(service: Service, item: Node, known: Collection[str]) -> None:
    if not service.depends_on:
        return
    for dependency in item.mapping()["depends_on"].items():
        name = dependency.choice("dependency", known)
        if name == service.name:
            raise dependency.error(f"{name!r} cannot depend on itself")
        if service.depends_on.count(name) > 1:
            raise dependency.error(f"{name!r} is listed twice")


def _reach(start: str, edges: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Breadth first, so that a cycle ends and the nearest comes first; without the start."""
    seen: dict[str, None] = {start: None}
    queue = [start]
    for name in queue:
        for neighbour in edges.get(name, ()):
            if neighbour not in seen:
                seen[neighbour] = None
                queue.append(neighbour)
    return tuple(name for name in seen if name != start)
