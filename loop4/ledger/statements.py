"""What a ledger signs: how long its evidence was and under which root, and what an excerpt holds.

Signed are the bytes "loop4/<kind>/v1", a newline, and the RFC 8785 form of the other fields. The
kind in front keeps a signature over one from passing for the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from loop4.canonical import canonical_bytes
from loop4.domain import Json, JsonObject
from loop4.errors import InputError
from loop4.ledger.signing import PublicKey, Signer

_SAFE = 2**53 - 1
_HEX = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_ORIGIN = re.compile(r"loop4-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed tree head: the first `size` records of the ledger `origin` had this RFC 6962 root.

    `origin` names a ledger and tells nothing about it. `root` is 64 hexadecimal digits.
    """

    origin: str
    size: int
    root: str
    at_ms: int
    key_id: str
    signature: str

    def fault(self, *keys: PublicKey) -> str:
        """Say what is wrong with the signature; empty if one of these keys made it."""
        return _fault(keys, self.key_id, _message("checkpoint", _head(self)), self.signature)

    def as_json(self) -> dict[str, Json]:
        """Return the fields as they stand in a file."""
        return _head(self) | {"key_id": self.key_id, "signature": self.signature}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A signed word on an export of one incident: so many records, under this root of their own.

    It shows a record that was taken out of the file. That the signer left none out, it cannot show:
    only an export of everything can.
    """

    origin: str
    size: int
    incident_id: str
    records: int
    root: str
    key_id: str
    signature: str

    def fault(self, *keys: PublicKey) -> str:
        """Say what is wrong with the signature; empty if one of these keys made it."""
        return _fault(keys, self.key_id, _message("excerpt", _selection(self)), self.signature)

    def as_json(self) -> dict[str, Json]:
        """Return the fields as they stand in a file."""
        return _selection(self) | {"key_id": self.key_id, "signature": self.signature}


def sign_checkpoint(signer: Signer, origin: str, size: int, root: bytes, at_ms: int) -> Checkpoint:
    """Return the signed head of a tree."""
    key_id = signer.public.key_id
    unsigned = Checkpoint(origin, size, root.hex(), at_ms, key_id, "")
    signature = signer.sign(_message("checkpoint", _head(unsigned)))
    return Checkpoint(origin, size, root.hex(), at_ms, key_id, signature)


def sign_excerpt(
    signer: Signer, origin: str, size: int, incident_id: str, records: int, root: bytes
) -> Excerpt:
    """Return the signed word on the records of one incident."""
    key_id = signer.public.key_id
    unsigned = Excerpt(origin, size, incident_id, records, root.hex(), key_id, "")
    signature = signer.sign(_message("excerpt", _selection(unsigned)))
    return Excerpt(origin, size, incident_id, records, root.hex(), key_id, signature)


def checkpoint_from(value: Json, where: str) -> Checkpoint:
    """Return a checkpoint that was read. Raises InputError naming the field that is not as it
    should be.
    """
    fields = fields_of(value, ("origin", "size", "root", "at_ms", "key_id", "signature"), where)
    return Checkpoint(
        origin=text(fields, "origin", _ORIGIN, where),
        size=number(fields, "size", where),
        root=text(fields, "root", _HEX, where),
        at_ms=number(fields, "at_ms", where),
        key_id=text(fields, "key_id", _HEX, where),
        signature=text(fields, "signature", _SIGNATURE, where),
    )


def excerpt_from(value: Json, where: str) -> Excerpt:
    """Return an excerpt's statement that was read. Raises InputError as `checkpoint_from` does."""
    names = ("origin", "size", "incident_id", "records", "root", "key_id", "signature")
    fields = fields_of(value, names, where)
    return Excerpt(
        origin=text(fields, "origin", _ORIGIN, where),
        size=number(fields, "size", where),
        incident_id=text(fields, "incident_id", None, where),
        records=number(fields, "records", where),
        root=text(fields, "root", _HEX, where),
        key_id=text(fields, "key_id", _HEX, where),
        signature=text(fields, "signature", _SIGNATURE, where),
    )


def fields_of(value: Json, names: Collection[str], where: str) -> JsonObject:
    """Return an object with exactly these fields. Raises InputError for anything else."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found {type(value).__name__}")
    missing, extra = set(names) - set(value), set(value) - set(names)
    if missing:
        raise InputError(f"{where}: {min(missing)!r} is missing")
    if extra:
        raise InputError(f"{where}: unknown field {min(extra)[:40]!r}")
    return value


def number(fields: Mapping[str, Json], name: str, where: str) -> int:
    """Return a field that is a whole number from 0 to 2**53 - 1. Raises InputError otherwise."""
    value = fields[name]
    if type(value) is not int or not 0 <= value <= _SAFE:
        raise InputError(f"{where}: {name!r} is {value!r:.40}, expected a whole number from 0")
    return value


def text(fields: Mapping[str, Json], name: str, form: re.Pattern[str] | None, where: str) -> str:
    """Return a field that is a text of this form (None: any). Raises InputError otherwise."""
    value = fields[name]
    if not isinstance(value, str) or (form is not None and not form.fullmatch(value)):
        expected = "text" if form is None else f"text like {form.pattern!r}"
        raise InputError(f"{where}: {name!r} is {value!r:.40}, expected {expected}")
    return value


def _head(checkpoint: Checkpoint) -> dict[str, Json]:
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root,
        "at_ms": checkpoint.at_ms,
    }


def _selection(excerpt: Excerpt) -> dict[str, Json]:
    return {
        "origin": excerpt.origin,
        "size": excerpt.size,
        "incident_id": excerpt.incident_id,
        "records": excerpt.records,
        "root": excerpt.root,
    }


def _message(kind: str, fields: JsonObject) -> bytes:
    return f"loop4/{kind}/v1\n".encode() + canonical_bytes(fields)


def _fault(keys: Sequence[PublicKey], key_id: str, message: bytes, signature: str) -> str:
    key = next((key for key in keys if key.key_id == key_id), None)
    if key is None:
        known = " or ".join(key.key_id[:12] for key in keys)
        return f"it is signed with another key ({key_id[:12]}, expected {known})"
    if not key.is_signed(message, signature):
        return "its signature does not fit: what was signed was changed, or the key is not theirs"
    return ""
