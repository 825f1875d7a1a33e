"""Leases: who drives a run, until when. A run has one driver; the fence rises with each new one.

A driver renews while it lives. Once the time is over anybody may take the run; the old driver's
fence is then stale and `LeasedLedger` refuses whatever it still wants written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from loop4.domain import Clock
from loop4.errors import LeaseLost
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.runner import next_fence
from loop4.ledger.schema import leases

_BY_RUN = select(leases).where(leases.c.run_id == bindparam("of"))
_HELD = select(leases).where(leases.c.holder != "").order_by(leases.c.run_id)


@dataclass(frozen=True, slots=True)
class Lease:
    """One run's lease. `holder` is empty while nobody drives it.

    `takeovers` counts the drivers in a row that died without giving it back.
    """

    run_id: str
    holder: str
    fence: int
    until_ms: int
    takeovers: int

    def is_held(self, now_ms: int) -> bool:
        """True while somebody drives the run and may go on."""
        return bool(self.holder) and now_ms < self.until_ms


def take(tx: Tx, run_id: str, holder: str, *, now_ms: int, ttl_ms: int) -> Lease | None:
    """Become the driver of a run until `now_ms + ttl_ms`. None: somebody else is.

    A lease that ran out is taken over, and that is counted.
    """
    known = get(tx, run_id)
    if known is not None and known.is_held(now_ms):
        return None
    fence, until_ms = next_fence(tx), now_ms + ttl_ms
    died = known is not None and bool(known.holder)
    takeovers = (known.takeovers if known else 0) + int(died)
    values = {"holder": holder, "fence": fence, "until_ms": until_ms, "takeovers": takeovers}
    if known is None:
        tx.change(insert(leases).values(run_id=run_id, **values))
    else:
        tx.change(update(leases).where(leases.c.run_id == run_id).values(**values))
    return Lease(run_id, holder, fence, until_ms, takeovers)


def renew(tx: Tx, lease: Lease, *, now_ms: int, ttl_ms: int) -> bool:
    """Hold on for another `ttl_ms`. False: it ran out or was taken, and stays lost."""
    changed = tx.change(
        update(leases)
        .where(
            leases.c.run_id == lease.run_id,
            leases.c.fence == lease.fence,
            leases.c.holder == lease.holder,
            leases.c.until_ms > now_ms,
        )
        .values(until_ms=now_ms + ttl_ms)
    )
    return changed == 1


def release(tx: Tx, lease: Lease) -> bool:
    """Give a run back after a leg that ended by itself. False: it is not ours any more."""
    changed = tx.change(
        update(leases)
        .where(leases.c.run_id == lease.run_id, leases.c.fence == lease.fence)
        .values(holder="", until_ms=0, takeovers=0)
    )
    return changed == 1


def void(tx: Tx) -> int:
    """End every lease now, as if its time were over; how many.

    Only for the one runner of a data folder: its lock proves that every earlier driver is dead.
    """
    return tx.change(update(leases).where(leases.c.holder != "").values(until_ms=0))


def prove(tx: Tx, lease: Lease, now_ms: int) -> None:
    """Raise LeaseLost unless this lease is still the run's and its time is not over."""
    known = get(tx, lease.run_id)
    if known is None or known.fence != lease.fence or not known.is_held(now_ms):
        fence = known.fence if known else "none"
        raise LeaseLost(
            f"run {lease.run_id!r}: this worker's fence {lease.fence} is stale (now {fence}); "
            "nothing was written, another worker goes on"
        )


def get(tx: Tx, run_id: str) -> Lease | None:
    """Return the lease of a run, or None if nobody ever drove it."""
    row = tx.row(_BY_RUN, {"of": run_id})
    return None if row is None else _lease(row)


def list_held(tx: Tx) -> tuple[Lease, ...]:
    """Return the leases that somebody took and did not give back, dead drivers included."""
    return tuple(_lease(row) for row in tx.rows(_HELD))


def _lease(row: RowMapping) -> Lease:
    return Lease(row["run_id"], row["holder"], row["fence"], row["until_ms"], row["takeovers"])


class LeasedLedger(Ledger):
    """The same ledger, for one leg of one run: each transaction first proves the lease."""

    def __init__(self, inner: Ledger, lease: Lease, clock: Clock) -> None:
        self.name, self.read_only, self._database = inner.name, inner.read_only, inner._database
        self._inner, self._lease, self._clock = inner, lease, clock

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """As `Ledger.transaction`. Raises LeaseLost before anything is written."""
        with self._inner.transaction() as tx:
            prove(tx, self._lease, self._clock.now_ms())
            yield tx

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """As `Ledger.read`."""
        with self._inner.read() as tx:
            yield tx

    def prove(self) -> None:
        """Raise LeaseLost unless the lease still holds; for what is written elsewhere."""
        with self._inner.read() as tx:
            prove(tx, self._lease, self._clock.now_ms())

    def close(self) -> None:
        """Nothing: the ledger belongs to whoever opened it."""
