"""What one link of the evidence chain is made of, without a database: columns, digest, leaf."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loop4.canonical import canonical_bytes
from loop4.domain import Json
from loop4.ledger import tree

if TYPE_CHECKING:
    from sqlalchemy.engine import RowMapping

GENESIS = "0" * 64
NUMBERS = ("seq", "at_ms")
TEXTS = ("kind", "incident_id", "run_id", "action_id", "trace_id", "body")
COVERED = ("seq", "previous", "at_ms", *TEXTS)
COLUMNS = (*COVERED, "digest")


def record_digest(columns: Mapping[str, str | int] | RowMapping) -> str:
    """Return the digest of a record: SHA-256 over every column but itself, as RFC 8785 JSON.

    `body` goes in as its exact text: another spelling of the same JSON is a change too. Raises
    ValueError for what the ledger never writes.
    """
    covered: dict[str, Json] = {name: columns[name] for name in COVERED}
    return hashlib.sha256(canonical_bytes(covered)).hexdigest()


def leaf_of(digest: str) -> bytes:
    """Return the tree's leaf hash of a record with this digest. Raises ValueError if it is none."""
    return tree.leaf_hash(bytes.fromhex(digest))
