"""One of several processes that act on the same ledger as fast as they can.

`python tests/ledger/racers.py LEDGER EFFECTS NAME`, LEDGER a file or the URL of a database, prints
"ready", waits for a line, and then tries every approved act and every restart there is, in an order
of its own. Each act is one transaction as the graph writes it: lock, budget, approval, evidence and
intent; then its effect, a line in EFFECTS; then the outcome. What was refused by the ledger has no
effect.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from loop4.domain import Action, IntentState, Outcome
from loop4.ledger import approvals, budgets, evidence, intents, locks
from loop4.ledger.ledger import Ledger

APPROVALS, SERVICES, RESTARTS = 210, 5, 12
BUDGET = 3
NOW_MS = 1000


def main(place: str, effects: str, name: str) -> None:
    acts = [(f"ap-{number}", f"target-{number}") for number in range(APPROVALS)]
    tries = [(service, number) for service in range(SERVICES) for number in range(RESTARTS)]
    random.Random(name).shuffle(acts)  # noqa: S311  (an order, not a secret)
    random.Random(name).shuffle(tries)  # noqa: S311
    log = os.open(effects, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    with Ledger.open(place if "://" in place else Path(place)) as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        for approval_id, target in acts:
            act(ledger, log, f"act-of-{approval_id}", target, approval_id=approval_id)
        for service, number in tries:
            key = f"restarts/service-{service}"
            action_id = f"restart-{name}-{service}-{number}"
            act(ledger, log, action_id, f"instance-of-{action_id}", budget=key)


def act(
    ledger: Ledger,
    log: int,
    action_id: str,
    target: str,
    *,
    approval_id: str = "",
    budget: str = "",
) -> None:
    action = Action(action_id, "I", "t", target, "s", "lab", {}, "r", "agent", "agent")
    try:
        with ledger.transaction() as tx:
            if locks.take(tx, target, action_id, "run", NOW_MS) is not None:
                raise Refused
            if budget and not budgets.reserve(tx, budget, BUDGET, 3600, NOW_MS, action_id):
                raise Refused
            if approval_id and not approvals.consume(tx, approval_id, "digest", "policy", NOW_MS):
                raise Refused
            evidence.append(tx, "decision", "I", "run", {"effect": "allow"}, at_ms=NOW_MS)
            if not intents.intend(
                tx,
                action,
                action_digest="digest",
                policy_version="policy",
                approval_id=approval_id,
                permit_nonce=f"nonce-{action_id}",
                precondition={},
                fence=1,
                run_id="run",
                now_ms=NOW_MS,
            ):
                raise Refused
    except Refused:
        return
    os.write(log, f"{action_id} {budget}\n".encode())
    with ledger.transaction() as tx:
        done = Outcome(IntentState.DONE, "", {}, {})
        intents.settle(tx, action_id, done, fence=1, now_ms=NOW_MS)
        locks.release(tx, target, action_id)


class Refused(Exception):
    """The transaction found that it must not act; nothing of it is kept."""


if __name__ == "__main__":
    main(*sys.argv[1:4])
