from __future__ import annotations

from loop4.ledger import outbox
from loop4.ledger.ledger import Ledger


def test_a_promise_is_kept_once_whoever_repeats_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert outbox.put(tx, "k", "resume", {"run_id": "r"}, now_ms=1)
        assert not outbox.put(tx, "k", "resume", {"run_id": "other"}, now_ms=2)
        (row,) = outbox.due(tx, 5)
        assert (row.key, row.kind, row.payload, row.put_ms) == ("k", "resume", {"run_id": "r"}, 1)
        assert outbox.done(tx, "k", now_ms=6)
        assert not outbox.done(tx, "k", now_ms=7)
        assert not outbox.put(tx, "k", "resume", {"run_id": "r"}, now_ms=8)
        assert outbox.due(tx, 9) == ()


def test_a_promise_is_not_due_before_its_time(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        outbox.put(tx, "late", "wake", {}, now_ms=1, due_ms=100)
        outbox.put(tx, "now", "wake", {}, now_ms=2)
        assert [row.key for row in outbox.due(tx, 99)] == ["now"]
        assert [row.key for row in outbox.due(tx, 100)] == ["now", "late"]
        assert [row.key for row in outbox.due(tx, 100, limit=1)] == ["now"]
