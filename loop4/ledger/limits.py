"""The engine's limits that people set while the fleet runs: `queue.NAME.per_worker` and so on, as
rows of `parameters`. What has run out, or is no whole number, counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, or_, select

from loop4.ledger import parameters
from loop4.ledger.ledger import Tx
from loop4.ledger.parameters import Parameter
from loop4.ledger.schema import parameters as table

PREFIX = "queue."
FIELDS = ("per_worker", "in_all", "starts_per_s")
LARGEST = 100_000
_SET = select(table.c.name, table.c.value).where(
    table.c.name.startswith(PREFIX),
    or_(table.c.until_ms == 0, table.c.until_ms > bindparam("now")),
)


def read(tx: Tx, now_ms: int) -> Mapping[str, int]:
    """The limits in force, by name."""
    found = tx.rows(_SET, {"now": now_ms})
    return {row["name"]: int(row["value"]) for row in found if is_limit(row["value"])}


def is_limit(value: str) -> bool:
    """Whether a row's value counts: a whole number that is not above the largest limit."""
    return value.isascii() and value.isdecimal() and len(value) < 9 and int(value) <= LARGEST


def rows(tx: Tx, now_ms: int) -> tuple[Parameter, ...]:
    """What people set, whether it counts or not, by name."""
    return tuple(p for p in parameters.list_all(tx, now_ms) if p.name.startswith(PREFIX))


def put(tx: Tx, queue: str, given: Mapping[str, int], *, by: str, reason: str, now_ms: int) -> None:
    """Set limits of one queue by field: 0 = no limit, at most `LARGEST`. What stands so already is
    left alone.
    """
    known = read(tx, now_ms)
    for field in FIELDS:
        name = f"{PREFIX}{queue}.{field}"
        if field in given and known.get(name) != given[field]:
            parameters.put(tx, name, str(given[field]), by=by, reason=reason, now_ms=now_ms)


def clear(tx: Tx, queue: str, *, by: str, reason: str, now_ms: int) -> int:
    """Unset all limits of one queue: those of the file hold again. How many were set."""
    names = [f"{PREFIX}{queue}.{field}" for field in FIELDS]
    return sum(parameters.clear(tx, name, by=by, reason=reason, now_ms=now_ms) for name in names)
