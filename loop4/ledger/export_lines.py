"""The lines of an evidence export, and how they are read when nobody vouches for them.

Each line is one JSON object with one of these names:

    loop4_evidence   the header: format version, ledger, key, incident ("" for everything)
    record           every column of a record; for an incident also `proof`, its way to the root
    excerpt          for an incident: how many records under which root of their own, signed
    checkpoint       the last line: size, root and time of the whole chain, signed

`body` is the record's exact text, since that is what its digest covers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from loop4.domain import Json, JsonObject
from loop4.errors import InputError
from loop4.ledger.chain import COLUMNS, NUMBERS
from loop4.ledger.jsontext import parse_strictly
from loop4.ledger.statements import fields_of, number, text

VERSION = 1
HEADER, RECORD, PROOF = "loop4_evidence", "record", "proof"
EXCERPT, CHECKPOINT = "excerpt", "checkpoint"
LINE_BYTES = 16 * 2**20  # the longest line that is written or read

_HEX = re.compile(r"[0-9a-f]{64}")
_GZIP = b"\x1f\x8b"
S = TypeVar("S")


class Tampering(StrEnum):
    """What was done to an export."""

    EDITED = "edited"
    REMOVED = "removed"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    ADDED = "added"
    FORGED = "forged"
    OTHER_KEY = "signed by another key"
    ROLLED_BACK = "rolled back"
    DAMAGED = "damaged"


@dataclass(slots=True)
class Fault(Exception):
    """The first thing found wrong; 0 stands for no record or line in particular."""

    tampering: Tampering
    problem: str
    seq: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One line as JSON. `where` names file and line in messages."""

    number: int
    where: str
    fields: JsonObject


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line claims; nobody signed it. `incident_id` is "" for everything."""

    origin: str
    key_id: str
    incident_id: str


def read_lines(raw: Iterator[bytes], path: str) -> Iterator[Line]:
    """Yield the lines. Raises InputError for a first that is not usable, Fault for a later one."""
    for index, body in enumerate(raw, start=1):
        where = f"{path}: line {index}"
        if index == 1 and body.startswith(_GZIP):
            raise InputError(f"{path!r} is compressed with gzip; unpack it first")
        if len(body) > LINE_BYTES:
            raise InputError(f"{where} is longer than {LINE_BYTES} bytes; no export has such lines")
        try:
            fields = parse_strictly(body, where)
            if not isinstance(fields, dict):
                raise InputError(f"{where}: expected an object, found {type(fields).__name__}")
        except InputError as error:
            if index == 1:
                raise
            if not body.endswith(b"\n"):
                raise Fault(
                    Tampering.TRUNCATED, f"line {index} is cut off, and all behind it", line=index
                ) from error
            raise Fault(Tampering.DAMAGED, str(error), line=index) from error
        yield Line(index, where, fields)


def read_header(line: Line | None, path: str) -> Header:
    """Return the first line's header. Raises InputError for a file that is no export."""
    if line is None or set(line.fields) != {HEADER}:
        raise InputError(
            f"{path!r} is no evidence export: its first line has no {HEADER!r}; "
            "`loop4 evidence export` writes one"
        )
    names = ("version", "origin", "key_id", "incident_id")
    fields = fields_of(line.fields[HEADER], names, line.where)
    if number(fields, "version", line.where) != VERSION:
        raise InputError(
            f"{line.where}: format version {fields['version']!r}, this Loop4 reads {VERSION}"
        )
    return Header(*(text(fields, name, None, line.where) for name in names[1:]))


def read_record(line: Line, names: set[str]) -> dict[str, str | int]:
    """Return the columns of a record's line, which has exactly these names. Raises Fault."""
    try:
        fields = fields_of(line.fields, names, line.where)
        columns = fields_of(fields[RECORD], COLUMNS, line.where)
        record: dict[str, str | int] = {}
        for name in COLUMNS:
            if name in NUMBERS:
                record[name] = number(columns, name, line.where)
            else:
                form = _HEX if name in ("previous", "digest") else None
                record[name] = text(columns, name, form, line.where)
    except InputError as error:
        raise Fault(Tampering.DAMAGED, str(error), line=line.number) from error
    return record


def read_proof(line: Line) -> list[bytes]:
    """Return the steps from a record to the root. Raises Fault."""
    steps = line.fields[PROOF]
    if not isinstance(steps, list) or not all(
        isinstance(step, str) and _HEX.fullmatch(step) for step in steps
    ):
        raise Fault(
            Tampering.DAMAGED, f"{line.where}: 'proof' is no list of hashes", line=line.number
        )
    return [bytes.fromhex(str(step)) for step in steps]


def read_statement(parse: Callable[[Json, str], S], line: Line, name: str) -> S:
    """Return what was signed, not yet checked. Raises Fault."""
    try:
        return parse(line.fields[name], line.where)
    except InputError as error:
        raise Fault(Tampering.DAMAGED, str(error), line=line.number) from error
