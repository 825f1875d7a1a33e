"""JSON columns: canonical text in, plain values out."""

from __future__ import annotations

import json

from loop4.canonical import canonical_bytes
from loop4.domain import Json, JsonObject
from loop4.errors import LedgerError


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
