"""What the tests run in processes of their own. Prints "ready", waits for a line, then works."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from loop4.canonical import digest
from loop4.domain import Action
from loop4.errors import Loop4Error
from loop4.ledger import approvals, budgets, contents, evidence, intents, runner
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner import RunnerLock


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def vote(place: str, approval_id: str, person: str) -> None:
    with Ledger.open(place) as ledger:
        ready()
        with ledger.transaction() as tx:
            print(approvals.vote(tx, approval_id, person, ["on-call"], True, 10).accepted)


def consume(place: str, count: str) -> None:
    won = 0
    with Ledger.open(place) as ledger:
        ready()
        for number in range(int(count)):
            with ledger.transaction() as tx:
                won += approvals.consume(tx, f"ap-{number}", "digest", "policy", 20)
    print(won)


def reserve(place: str, limit: str, name: str) -> None:
    won = 0
    with Ledger.open(place) as ledger:
        ready()
        for number in range(20):
            key = f"restart:{number % 5}"
            with ledger.transaction() as tx:
                won += budgets.reserve(tx, key, int(limit), 3600, 1000, f"{name}-{number}")
    print(won)


def append(place: str, count: str) -> None:
    with Ledger.open(place) as ledger:
        ready()
        for number in range(int(count)):
            with ledger.transaction() as tx:
                evidence.append(tx, "note", "", "", {"number": number}, at_ms=number)


def create(place: str) -> None:
    ready()
    with Ledger.open(place) as ledger, ledger.transaction() as tx:
        print(runner.next_fence(tx))


def act_for_ever(place: str) -> None:
    """One act after another, each with intent, budget and evidence in one transaction."""
    with Ledger.open(place) as ledger:
        ready()
        number = 0
        while True:
            number += 1
            action = Action(f"a{number}", "", "t", "x", "s", "lab", {}, "r", "agent", "agent")
            with ledger.transaction() as tx:
                intents.intend(
                    tx,
                    action,
                    action_digest="d",
                    policy_version="p",
                    approval_id="",
                    permit_nonce=f"n{number}",
                    precondition={},
                    fence=1,
                    run_id="r",
                    now_ms=number,
                )
                budgets.reserve(tx, "k", 10**9, 3600, number, action.action_id)
                contents.put(tx, {"number": number, "padding": "x" * 5000})
                evidence.append(
                    tx, "intent", "", "", {"n": number}, at_ms=1, action_id=f"a{number}"
                )
            print(number, flush=True)


def stop_inside(place: str) -> None:
    """Write a lot, flush part of it to the WAL, and wait inside the transaction."""
    with Ledger.open(place) as ledger, ledger.transaction() as tx:
        for number in range(2000):
            contents.put(tx, {"number": number, "padding": "x" * 2000})
        evidence.append(tx, "half", "", "", {}, at_ms=1)
        ready()


def hold(folder: str) -> None:
    with RunnerLock(Path(folder)):
        ready()


def fill(place: str) -> None:
    """Append with a cap on the size of files, as on a full disk, and print what is said."""
    with Ledger.open(place) as ledger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        written = 0
        try:
            while written < 1000:
                with ledger.transaction() as tx:
                    contents.put(tx, {"number": written, "padding": "x" * 5000})
                    evidence.append(tx, "note", "", "", {"n": written}, at_ms=1)
                written += 1
        except Loop4Error as error:
            print(written, ledger.commits, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def become_nobody() -> None:
    """Give up root's leave to write anywhere. Python's own files may be out of reach then."""
    digest({"loads": "the codecs that RFC 8785 needs"})
    if os.geteuid() == 0:
        os.setuid(65534)


def write_as_nobody(place: str) -> None:
    become_nobody()
    try:
        with Ledger.open(place) as ledger, ledger.transaction() as tx:
            evidence.append(tx, "note", "", "", {}, at_ms=1)
    except Loop4Error as error:
        print(error)


def read_as_nobody(place: str) -> None:
    become_nobody()
    with Ledger.open(place, read_only=True) as ledger, ledger.read() as tx:
        print(evidence.verify(tx).records)


if __name__ == "__main__":
    worker = {
        work.__name__: work
        for work in (
            vote,
            consume,
            reserve,
            append,
            create,
            act_for_ever,
            stop_inside,
            hold,
            fill,
            write_as_nobody,
            read_as_nobody,
        )
    }[sys.argv[1]]
    worker(*sys.argv[2:])
