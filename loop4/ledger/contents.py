"""JSON bodies stored under their own digest: what graph state and evidence refer to."""

from __future__ import annotations

import hashlib

from sqlalchemy import bindparam, select

from loop4.domain import Json
from loop4.errors import LedgerError
from loop4.ledger.jsontext import decode, encode
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import contents
from loop4.ledger.upsert import insert_or_ignore

_PUT = insert_or_ignore(contents, "digest")
_BODY = select(contents.c.body).where(contents.c.digest == bindparam("of"))
_HAS = select(contents.c.digest).where(contents.c.digest == bindparam("of"))


def put(tx: Tx, body: Json) -> str:
    """Store a body and return its digest, that of `canonical.digest`. Idempotent.

    The body is kept as it is; mask secrets first (`evidence.redacted`); drafts do.
    """
    text = encode(body, "a content")
    digest = hashlib.sha256(text.encode()).hexdigest()
    tx.change(_PUT, {"digest": digest, "body": text})
    return digest


def get(tx: Tx, digest: str) -> Json:
    """Return the body under a digest. Raises LedgerError if it is absent or was altered."""
    found = find(tx, digest)
    if found is None:
        raise LedgerError(f"content {digest!r} is not in the ledger")
    return found[0]


def find(tx: Tx, digest: str) -> tuple[Json] | None:
    """Return the body under a digest, or None. Raises LedgerError if it was altered."""
    row = tx.row(_BODY, {"of": digest})
    if row is None:
        return None
    text = row["body"]
    if not isinstance(text, str) or hashlib.sha256(text.encode()).hexdigest() != digest:
        raise LedgerError(f"content {digest!r} was altered: its body does not match its digest")
    return (decode(text, f"content {digest!r}"),)


def has(tx: Tx, digest: str) -> bool:
    """Say whether a body is stored under this digest."""
    return tx.row(_HAS, {"of": digest}) is not None
