"""What an agent is: a name, what it answers to, what it may read and propose, and its playbook.

An agent gets a `Brief` and returns a `Report`: plain data. It holds no acting handle and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from loop4.domain import Event, EventKind, Finding, Proposal, Severity, SourceKind
from loop4.policies.catalogue import Catalogue
from loop4.policies.runbooks import Runbook
from loop4.policies.targets import Target
from loop4.tools.reader import Reader


@dataclass(frozen=True, slots=True)
class Brief:
    """What an agent is told. `now_ms` is the run's clock; everything else is read through
    `reader`.
    """

    event: Event
    incident_id: str
    severity: Severity
    now_ms: int
    catalogue: Catalogue
    targets: Sequence[Target]
    runbooks: Sequence[Runbook]
    reader: Reader


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent returns."""

    findings: tuple[Finding, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    missing: tuple[str, ...] = ()


Playbook = Callable[[Brief], Awaitable[Report]]


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. `may_propose` bounds its proposals; a proposal of another tool is dropped and
    recorded.
    """

    name: str
    answers_to: frozenset[EventKind]
    may_propose: frozenset[str]
    playbook: Playbook


def fault_of(answer: object) -> str:
    """What is wrong with an agent's answer; empty for a Report of plain findings and proposals.

    Agents are foreign code and a type hint binds nobody: every field is looked at before anything
    sorts, hashes or stores it.
    """
    if type(answer) is not Report:
        return f"returned {type(answer).__name__} instead of a Report"
    if not (_is_tuple_of(answer.missing, str) and _is_tuple_of(answer.findings, Finding)):
        return "returned a Report whose findings or gaps are not plain"
    if not _is_tuple_of(answer.proposals, Proposal):
        return "returned a Report whose proposals are not plain"
    items: tuple[Finding | Proposal, ...] = (*answer.findings, *answer.proposals)
    for item in items:
        for field in fields(item):
            value = getattr(item, field.name)
            if not _HOLDS[str(field.type)](value):
                name = f"{type(item).__name__}.{field.name}"
                return f"returned {type(value).__name__} in {name}, expected {field.type}"
    return ""


def _is_tuple_of(value: object, kind: type) -> bool:
    return type(value) is tuple and all(type(v) is kind for v in value)


def _is_plain(value: object) -> bool:
    """JSON made of the built-in types themselves, whole numbers only."""
    if type(value) is dict:
        return all(type(k) is str and _is_plain(v) for k, v in value.items())
    if type(value) is list or type(value) is tuple:
        return all(_is_plain(v) for v in value)
    return value is None or type(value) in (str, int, bool)


_HOLDS: Mapping[str, Callable[[object], bool]] = MappingProxyType(
    {
        "str": lambda v: type(v) is str,
        "int": lambda v: type(v) is int,
        "bool": lambda v: type(v) is bool,
        "tuple[str, ...]": lambda v: _is_tuple_of(v, str),
        "tuple[SourceKind, ...]": lambda v: _is_tuple_of(v, SourceKind),
        "JsonObject": lambda v: type(v) is dict and _is_plain(v),
        "JsonObject | None": lambda v: v is None or (type(v) is dict and _is_plain(v)),
    }
)
