"""Rows of modes, in both databases: what is doubtful holds the narrowest, what nobody approved
widens nothing.
"""

from __future__ import annotations

import pytest
from sqlalchemy import insert, update

from loop4.domain import Approval, ApprovalState, JsonObject, Mode, ModeSetting, ToolClass
from loop4.ledger import approvals, evidence, modes
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.schema import parameters

WRITE = ToolClass.WRITE


def row(tx: Tx, name: str, value: str) -> None:
    """A row as somebody writes it past the commands."""
    tx.change(insert(parameters).values(name=name, value=value, set_by="x", set_ms=1))


def granted(tx: Tx, approval_id: str, mode: str, *, service: str = "", used: bool = True) -> None:
    """An approved widening of the lab's writes, used up or not."""
    asked = Approval(
        approval_id, f"act-{approval_id}", f"d-{approval_id}", "v1", ApprovalState.PENDING,
        "mira", "policy-author", 1, 1, 1000,
    )  # fmt: skip
    args: JsonObject = {"environment": "lab", "service": service, "class": "write", "mode": mode}
    payload: JsonObject = {"action_requests": [{"name": "fleet.widen_mode", "args": args}]}
    approvals.request(tx, asked, incident_id="", run_id="", payload=payload)
    assert approvals.vote(tx, approval_id, "ade", ["policy-author"], True, 2).accepted
    if used:
        assert approvals.consume(tx, approval_id, f"d-{approval_id}", "v1", 3)


def test_what_is_set_is_read_back_with_its_author_and_is_evidence(ledger: Ledger) -> None:
    observed = ModeSetting("lab", "orders", WRITE, Mode.OBSERVE)
    with ledger.transaction() as tx:
        modes.put(tx, observed, by="mira", reason="storm", now_ms=10)
    with ledger.transaction() as tx:
        (found,) = modes.rows(tx)
        assert (found.setting, found.set_by, found.set_ms) == (observed, "mira", 10)
        assert found.name == "mode.lab/orders/write"
        (record,) = evidence.list_records(tx)
        assert (record.body["person"], record.body["value"]) == ("mira", "observe")
        assert modes.clear(tx, "lab", "orders", WRITE, by="ade", reason="over", now_ms=20)
        assert not modes.clear(tx, "lab", "orders", WRITE, by="ade", reason="over", now_ms=20)
        assert modes.read(tx) == ()
        assert evidence.verify(tx).ok


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("mode.lab/*/write", "acting", ModeSetting("lab", "", WRITE, Mode.OBSERVE)),
        ("mode.lab/*/write", "", ModeSetting("lab", "", WRITE, Mode.OBSERVE)),
        ("mode.lab/*/write", "ACT", ModeSetting("lab", "", WRITE, Mode.OBSERVE)),
        ("mode.lab/*/write", "act", ModeSetting("lab", "", WRITE, Mode.ACT)),
        ("mode.lab/*/write", "act apr-none", ModeSetting("lab", "", WRITE, Mode.ACT)),
        ("mode.lab/*/notify", "observe", ModeSetting("lab", "", ToolClass.NOTIFY, Mode.SUGGEST)),
        ("mode.lab/*/notify", "none", ModeSetting("lab", "", ToolClass.NOTIFY, Mode.SUGGEST)),
        ("mode.lab/*/read", "act", ModeSetting("", "", WRITE, Mode.OBSERVE)),
        ("mode.lab/*/writes", "act", ModeSetting("", "", WRITE, Mode.OBSERVE)),
        ("mode.lab", "act", ModeSetting("", "", WRITE, Mode.OBSERVE)),
        ("mode./*/write", "act", ModeSetting("", "", WRITE, Mode.OBSERVE)),
        ("mode.lab//write", "act", ModeSetting("", "", WRITE, Mode.OBSERVE)),
    ],
)
def test_a_row_that_cannot_be_read_holds_the_narrowest_and_none_is_approved_by_itself(
    ledger: Ledger, name: str, value: str, holds: ModeSetting
) -> None:
    with ledger.transaction() as tx:
        row(tx, name, value)
    with ledger.read() as tx:
        (found,) = modes.rows(tx)
    assert found.setting == holds
    assert not found.setting.is_approved
    assert bool(found.problem) == (value != "act" or name != "mode.lab/*/write")


def test_an_end_that_somebody_wrote_into_a_row_ends_no_narrowing(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        row(tx, "mode.lab/*/write", "observe")
        tx.change(update(parameters).values(until_ms=2))
    with ledger.read() as tx:
        assert [s.mode for s in modes.read(tx)] == [Mode.OBSERVE]


def test_an_approval_counts_for_its_scope_and_up_to_its_mode_once_it_is_used(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        granted(tx, "apr-suggest", "suggest")
        granted(tx, "apr-act", "act")
        granted(tx, "apr-orders", "act", service="orders")
        granted(tx, "apr-open", "act", used=False)
        granted(tx, "apr-files", "files")

    def is_approved(name: str, value: str) -> bool:
        with ledger.transaction() as tx:
            row(tx, name, value)
        with ledger.transaction() as tx:
            (found,) = modes.rows(tx)
            tx.change(parameters.delete())
        assert bool(found.problem) != found.setting.is_approved
        return found.setting.is_approved

    assert is_approved("mode.lab/*/write", "act apr-act")
    assert is_approved("mode.lab/*/write", "suggest apr-act")
    assert is_approved("mode.lab/*/write", "suggest apr-suggest")
    assert is_approved("mode.lab/orders/write", "act apr-orders")
    assert not is_approved("mode.lab/*/write", "act apr-suggest")
    assert not is_approved("mode.lab/*/write", "act apr-orders")
    assert not is_approved("mode.lab/orders/write", "act apr-act")
    assert not is_approved("mode.lab/*/notify", "act apr-act")
    assert not is_approved("mode.production/*/write", "act apr-act")
    assert not is_approved("mode.lab/*/write", "act apr-open")
    assert not is_approved("mode.lab/*/write", "act apr-files")
