"""From parsed pages to claims: which number, at which line, is a bid for which limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loop4.errors import PolicyError
from loop4.policies.documents import Node, parse_nodes
from loop4.policies.organisation.files import Fault, Source
from loop4.policies.organisation.markdown import Page, Row, Statement
from loop4.policies.organisation.quantities import Unit, quantity
from loop4.policies.organisation.vocabulary import ENVIRONMENT, KINDS, LimitKind, severity_of

_VARIABLE = re.compile(r"\{\{\s*([^{}]{0,80}?)\s*\}\}")
_IN_A_NUMBER = re.compile(r"[\d.]\{\{|\}\}[\d.]")
_VALUE = re.compile(r"\d{1,9}(?:\.\d{1,6})?\s?[A-Za-z%\u00d7]{0,12}")
_RESTATED = re.compile(r"\s*\(([^()]{1,40})\)")
_CLOCKS = (("ack", "ack"), ("mitigat", "mitigate"), ("resol", "resolve"))


@dataclass(frozen=True, slots=True)
class Claim:
    """One number of the organisation. `unresolved` names variables nobody filled in; `value` is
    then meaningless. `environment` empty = everywhere.
    """

    key: str
    value: int
    unit: Unit
    path: str
    line: int
    text: str
    environment: str = ""
    unresolved: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """file:line."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A requirement that Loop4 does not enforce."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """All that one page says."""

    claims: tuple[Claim, ...]
    unmapped: tuple[Unmapped, ...]
    faults: tuple[Fault, ...]


def variables_of(config: Source | None) -> tuple[dict[str, str], tuple[Fault, ...]]:
    """The values of CONFIG.yaml by upper-cased key. A key with two values resolves to neither."""
    if config is None:
        return {}, ()
    values: dict[str, set[str]] = {}
    faults: list[Fault] = []
    try:
        for root in parse_nodes(config.text, config.path, floats=True):
            _leaves(root, "", values)
    except PolicyError as error:
        return {}, (Fault(config.path, error.line, f"{error.message}; no variable is resolved"),)
    found = {}
    for name, options in sorted(values.items()):
        if len(options) > 1:
            message = f"gives {name} {len(options)} values; it stays unresolved"
            faults.append(Fault(config.path, 0, message))
        elif next(iter(options)):
            found[name] = next(iter(options))
    return found, tuple(faults)


def _leaves(node: Node, name: str, values: dict[str, set[str]]) -> None:
    if isinstance(node.content, dict):
        for key, value in node.content.items():
            _leaves(value, key, values)
    elif isinstance(node.content, tuple):
        for value in node.content:
            _leaves(value, "", values)
    elif name and node.content is not None and not isinstance(node.content, bool):
        values.setdefault(name.upper(), set()).add(str(node.content).strip())


def read_page(page: Page, variables: Mapping[str, str]) -> Reading:
    """The claims of a page, what it requires beyond them, and what is wrong with it."""
    reader = _Reader(page.path, variables)
    for statement in page.statements:
        reader.statement(statement)
    for row in page.rows:
        reader.row(row)
    return Reading(tuple(reader.claims), tuple(reader.unmapped), (*page.faults, *reader.faults))


class _Reader:
    def __init__(self, path: str, variables: Mapping[str, str]) -> None:
        self.path, self.variables = path, variables
        self.claims: list[Claim] = []
        self.unmapped: list[Unmapped] = []
        self.faults: list[Fault] = []

    def statement(self, statement: Statement) -> None:
        before = len(self.claims) + len(self.faults)
        text = statement.text.replace("**", "")
        for clause in text.split(";"):
            environment = ENVIRONMENT.search(clause)
            subject = clause if clause is text else f"{text.split(';')[0]} {clause}"
            for kind in KINDS.values():
                found = kind.pattern.search(clause) or (
                    kind.pattern.search(_as_own(text, clause)) if clause != text else None
                )
                if found is not None:
                    where = environment[1].lower() if environment else ""
                    self._claim(kind, found, subject.strip(), statement.line, where)
        if len(self.claims) + len(self.faults) == before and (
            statement.is_requirement or _VARIABLE.search(statement.text)
        ):
            self.unmapped.append(Unmapped(self.path, statement.line, statement.text))

    def row(self, row: Row) -> None:
        """A row of a table of severities is a claim for each of its clocks."""
        column = next((name for name in row.cells if name.startswith(("severity", "sev"))), "")
        clocks = [
            (clock, cell)
            for name, cell in row.cells.items()
            for word, clock in _CLOCKS
            if word in name
        ]
        if not column or not clocks:
            return
        severity = severity_of(row.cells[column])
        if not severity:
            message = f"{row.cells[column]!r} is no severity; expected SEV1 to SEV4 or P1 to P4"
            self.faults.append(Fault(self.path, row.line, f"{message}; not read"))
            return
        for clock, cell in clocks:
            self._number(f"clocks.{severity}.{clock}", Unit.SECONDS, cell, cell, row.line, "")
        for cell in row.cells.values():
            kind = KINDS["significant_impact_bp"]
            found = kind.pattern.search(cell)
            if found is not None:
                self._claim(kind, found, cell, row.line, "")

    def _claim(
        self, kind: LimitKind, found: re.Match[str], text: str, line: int, environment: str
    ) -> None:
        stated = found["q"]
        if stated is None:  # "p99 exceeds target" is once the target
            self.claims.append(Claim(kind.key, 10_000, kind.unit, self.path, line, text))
            return
        self._number(kind.key, kind.unit, stated, text, line, environment)
        restated = _RESTATED.match(found.string, found.end("q"))
        if restated and any(letter.isdigit() for letter in restated[1]) and self.claims:
            self._restated(kind, restated[1], text, line, environment)

    def _restated(
        self, kind: LimitKind, again: str, text: str, line: int, environment: str
    ) -> None:
        """The same number in brackets in another unit: the two must agree, or both are claims."""
        second = quantity(again, kind.unit)
        first = self.claims[-1]
        if second.fault or first.line != line or second.value == first.value:
            return
        message = f"says {first.value} and {second.value} {kind.unit} for one number"
        self.faults.append(Fault(self.path, line, f"{message}; the stricter holds"))
        self.claims.append(
            Claim(kind.key, second.value, kind.unit, self.path, line, text, environment)
        )

    def _number(
        self, key: str, unit: Unit, stated: str, text: str, line: int, environment: str
    ) -> None:
        names = _VARIABLE.findall(stated)
        if names:
            if _IN_A_NUMBER.search(stated):
                message = f"{stated!r}: a placeholder inside a number"
                self.faults.append(Fault(self.path, line, f"{message}; it counts as unresolved"))
                missing = tuple(names)
            else:
                stated, missing = self._filled(stated, line)
            if missing:
                self.claims.append(Claim(key, 0, unit, self.path, line, text, environment, missing))
                return
        found = quantity(stated, unit)
        if found.fault:
            self.faults.append(Fault(self.path, line, f"{key}: {found.fault}; not read"))
            # a limit was meant: until it can be read it grants nothing
            self.claims.append(Claim(key, 0, unit, self.path, line, text, environment, ("?",)))
            return
        self.claims.append(Claim(key, found.value, found.unit, self.path, line, text, environment))

    def _filled(self, stated: str, line: int) -> tuple[str, tuple[str, ...]]:
        """The text with its variables filled in, and the names of those that have no number."""
        missing: list[str] = []

        def fill(found: re.Match[str]) -> str:
            name = found[1]
            value = self.variables.get(name.upper(), "")
            if not value:
                missing.append(name)
            elif not _VALUE.fullmatch(value):
                missing.append(name)
                message = f"the value of {name} is {value!r}, expected a number with its unit"
                self.faults.append(Fault(self.path, line, message))
            return value

        return _VARIABLE.sub(fill, stated), tuple(missing)


def _as_own(text: str, clause: str) -> str:
    """A later clause ("in the lab it is 15 seconds") read with the subject of the first."""
    subject = re.split(r"\bis\b", text.split(";")[0])[0]
    return f"{subject.rstrip()} {clause.strip()}"


def group(
    claims: Iterable[Claim], key: Callable[[Claim], tuple[str, str]]
) -> dict[tuple[str, str], list[Claim]]:
    """The claims by a key, in order of the keys."""
    groups: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault(key(claim), []).append(claim)
    return dict(sorted(groups.items()))
