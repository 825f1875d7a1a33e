"""Notices that a transaction promises for later: a page for a run that failed by itself, a reminder
and a second page for a request that nobody answers. `deliveries` sends them.
"""

from __future__ import annotations

from loop4.domain import Approval
from loop4.ledger import outbox
from loop4.ledger.ledger import Tx

HANDOVER, REMINDER, SECOND_PAGE = "handover", "reminder", "second_page"
REMIND_AT_PERCENT, PAGE_AT_PERCENT = 50, 80  # of the time there is to answer


def promise_handover(tx: Tx, run_id: str, incident_id: str, reason: str, *, now_ms: int) -> None:
    """Promise the page for a failed run, in the transaction that ends it."""
    payload = {"run_id": run_id, "incident_id": incident_id, "reason": reason[:400]}
    outbox.put(tx, f"{HANDOVER}:{run_id}", HANDOVER, payload, now_ms=now_ms)


def promise_reminders(tx: Tx, approval: Approval, *, run_id: str, incident_id: str) -> None:
    """Promise to remind, then to page the secondary, in the transaction that asks."""
    span_ms = approval.expires_ms - approval.requested_ms
    for kind, percent in ((REMINDER, REMIND_AT_PERCENT), (SECOND_PAGE, PAGE_AT_PERCENT)):
        outbox.put(
            tx,
            f"{kind}:{approval.approval_id}",
            kind,
            {"run_id": run_id, "incident_id": incident_id, "approval": approval.approval_id},
            now_ms=approval.requested_ms,
            due_ms=approval.requested_ms + span_ms * percent // 100,
        )


def keep_no_reminders(tx: Tx, approval_id: str, *, now_ms: int) -> None:
    """Forget the reminders of an answered request, in the transaction that uses the answer."""
    for kind in (REMINDER, SECOND_PAGE):
        outbox.done(tx, f"{kind}:{approval_id}", now_ms=now_ms)
