"""JSON columns: canonical text in, plain values out."""

from __future__ import annotations

import json

from loop4.canonical import canonical_bytes
from loop4.domain import Json, JsonObject
from loop4.errors import InputError, LedgerError


def encode(value: Json, what: str) -> str:
    """Return the canonical text of a value; LedgerError naming `what` if JSON cannot hold it."""
    try:
        return canonical_bytes(value).decode()
    except ValueError as error:
        raise LedgerError(f"{what} is not canonical JSON ({error}); nothing was written") from error


def decode(text: str, what: str) -> Json:
    """Return the value of a JSON column; LedgerError naming `what` if it was damaged."""
    try:
        value: Json = json.loads(text)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"{what} in the ledger is not JSON: {text!r:.80}") from error
    return value


def decode_object(text: str, what: str) -> JsonObject:
    """Return the object of a JSON column; LedgerError naming `what` if it holds anything else."""
    value = decode(text, what)
    if not isinstance(value, dict):
        raise LedgerError(f"{what} in the ledger is {type(value).__name__}, expected an object")
    return value


def parse_strictly(line: bytes, where: str) -> Json:
    """Return the one value that JSON text from outside can mean; InputError naming `where`.

    Refuses what readers disagree on: names that stand twice, NaN, bytes that are no UTF-8.
    """
    try:
        value: Json = json.loads(
            line.decode(), parse_constant=_no_number, object_pairs_hook=each_once
        )
    except RecursionError as error:
        raise InputError(f"{where} is not usable JSON: it is nested too deeply") from error
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError(f"{where} is not usable JSON: {reason:.120}") from error
    return value


def _no_number(name: str) -> Json:
    raise ValueError(f"{name} is no number in JSON")


def each_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object of JSON from outside (for `object_pairs_hook`). Raises ValueError for a name that
    stands twice: readers disagree on which one counts.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:40]!r} stands twice in one object")
    return found
