"""The engine's limits that people set while the fleet runs: `queue.NAME.per_worker` and so on, as
rows of `parameters`. What has run out, or is no whole number, counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, or_, select

from loop4.ledger.ledger import Tx
from loop4.ledger.schema import parameters

PREFIX = "queue."
LARGEST = 100_000
_SET = select(parameters.c.name, parameters.c.value).where(
    parameters.c.name.startswith(PREFIX),
    or_(parameters.c.until_ms == 0, parameters.c.until_ms > bindparam("now")),
)


def read(tx: Tx, now_ms: int) -> Mapping[str, int]:
    """The limits in force, by name."""
    rows = tx.rows(_SET, {"now": now_ms})
    return {
        row["name"]: int(row["value"])
        for row in rows
        if row["value"].isdecimal() and int(row["value"]) <= LARGEST
    }
