"""Exceptions (EXC-*) that the organisation granted itself, and whether one may be honoured now."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from loop4.policies.organisation.files import Source
from loop4.policies.organisation.markdown import parse_page
from loop4.policies.organisation.quantities import quantity
from loop4.policies.organisation.vocabulary import KINDS

_ID = re.compile(r"EXC-\d{4}-\d{3,}")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True, slots=True)
class Granted:
    """One exception. `refusal` says why it is not honoured; empty if it is.

    An honoured one puts `value` in place of the organisation's own stricter number for `key`,
    until `until_ms`; Loop4's own number still holds.
    """

    exception_id: str
    path: str
    key: str
    value: int
    until_ms: int
    refusal: str


def read_exception(source: Source, now_ms: int) -> Granted:
    """The exception of a file: honoured only if approved by somebody, unexpired and exact.

    Expected metadata: ID, Status, Approvers, Expires (a date, the whole day counts, UTC), Limit (a
    name from the import's table) and Value.
    """
    page = parse_page(source)
    found = page.metadata
    identity = _ID.search(found.get("id", "")) or _ID.search(source.path)
    name = identity.group() if identity else source.path
    key, text = found.get("limit", ""), found.get("value", "")
    kind = KINDS.get(key)
    amount = quantity(text, kind.unit) if kind is not None else None
    until_ms = _end_of_day(found.get("expires", ""))
    value = amount.value if amount is not None else 0
    refusal = ""
    if found.get("status", "").lower() != "approved":
        refusal = f"its status is {found.get('status', '') or 'missing'!s}, not approved"
    elif not found.get("approvers", "").strip(" -[]"):
        refusal = "nobody is named as its approver"
    elif not until_ms:
        refusal = "it names no day on which it expires"
    elif until_ms <= now_ms:
        refusal = f"it expired on {found.get('expires', '')}"
    elif amount is None:
        refusal = f"it names no limit that Loop4 holds (found {key!r})"
    elif amount.fault:
        refusal = amount.fault
    return Granted(name, source.path, key, value, until_ms, refusal)


def _end_of_day(text: str) -> int:
    found = _DATE.search(text)
    if found is None:
        return 0
    try:
        day = datetime.date.fromisoformat(found[1])
    except ValueError:
        return 0
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return int(midnight.timestamp() * 1000) + 86_400_000
