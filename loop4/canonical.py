"""Canonical bytes and digests: RFC 8785 JSON, SHA-256."""

from __future__ import annotations

import hashlib

import rfc8785

from loop4.domain import Json


def canonical_bytes(value: Json) -> bytes:
    """The RFC 8785 form of a JSON value. Raises ValueError for what JSON cannot hold (NaN, huge
    integers).
    """
    return rfc8785.dumps(value)


def digest(value: Json) -> str:
    """SHA-256 of the canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
