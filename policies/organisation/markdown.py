"""The grammar of the organisation's Markdown: block-quote metadata, list items and tables, each
with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from loop4.policies.organisation.files import Fault, Source

_PAIR = re.compile(r"\*\*([^*:]{1,60}):\*\*\s*([^|\n]*)")
_ITEM = re.compile(r"\s{0,12}(?:[-*+]|\d{1,3}[.)])\s+(\[[ xX]\]\s+)?(\S.*)")
_HEADING = re.compile(r"#{1,6}\s+(.+)")
MAX_STATEMENT = 2000  # longer ones are prose, and slow to search
_RULE_CELL = re.compile(r":?-+:?")


@dataclass(frozen=True, slots=True)
class Statement:
    """One list item. `is_requirement`: it stands behind a `- [ ]` box."""

    text: str
    section: str
    line: int
    is_requirement: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One table row by the lower-cased names of its columns."""

    cells: Mapping[str, str]
    line: int


@dataclass(frozen=True, slots=True)
class Page:
    """One parsed file."""

    path: str
    metadata: Mapping[str, str]
    statements: tuple[Statement, ...]
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...]


def parse_page(source: Source) -> Page:
    """The page of a text. Never raises: a broken table row is a fault and is left out."""
    reader = _Reader(source.path)
    for number, line in enumerate(source.text.splitlines(), 1):
        reader.take(number, line.rstrip())
    reader.end_of_item()
    return Page(
        source.path,
        reader.metadata,
        tuple(reader.statements),
        tuple(reader.rows),
        tuple(reader.faults),
    )


class _Reader:
    """Goes down the lines; knows the section, the open list item and the open table."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self.statements: list[Statement] = []
        self.rows: list[Row] = []
        self.faults: list[Fault] = []
        self.section = ""
        self.is_fenced = False
        self.item: Statement | None = None
        self.columns: list[str] | None = None

    def take(self, number: int, line: str) -> None:
        if line.lstrip().startswith(("```", "~~~")):
            self.is_fenced = not self.is_fenced
            return
        if self.is_fenced:
            return
        if line.startswith("|"):
            self.end_of_item()
            self.table(number, line)
            return
        self.columns = None
        heading = _HEADING.match(line)
        item = _ITEM.match(line)
        if line.startswith(">"):
            for key, value in _PAIR.findall(line):
                self.metadata.setdefault(key.strip().lower(), value.strip())
        elif heading:
            self.end_of_item()
            self.section = heading[1].strip()
        elif item:
            self.end_of_item()
            self.item = Statement(item[2].strip(), self.section, number, bool(item[1]))
        elif self.item is not None and line.startswith(" ") and line.strip():
            kept = self.item
            text = f"{kept.text} {line.strip()}"[: MAX_STATEMENT + 1]
            self.item = Statement(text, kept.section, kept.line, kept.is_requirement)
        else:
            self.end_of_item()

    def end_of_item(self) -> None:
        item, self.item = self.item, None
        if item is None:
            return
        if len(item.text) > MAX_STATEMENT:
            message = f"an item of more than {MAX_STATEMENT} characters; not read"
            self.faults.append(Fault(self.path, item.line, message))
            return
        self.statements.append(item)

    def table(self, number: int, line: str) -> None:
        cells = [c.strip() for c in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if self.columns is None:
            self.columns = [cell.lower() for cell in cells]
        elif len(line) > MAX_STATEMENT:
            message = f"a table row of more than {MAX_STATEMENT} characters; not read"
            self.faults.append(Fault(self.path, number, message))
        elif all(_RULE_CELL.fullmatch(cell) for cell in cells):
            return
        elif len(cells) != len(self.columns):
            message = f"a table row of {len(cells)} cells under {len(self.columns)} columns"
            self.faults.append(Fault(self.path, number, f"{message}; not read"))
        else:
            self.rows.append(Row(dict(zip(self.columns, cells, strict=True)), number))
